"""The page of examples/paper.sh: verdicts on the runs of the repository, which are too few for most."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e


def test_few_versions_decide_little(tmp_path: Path) -> None:
    """Two versions of 68 questions: each number stands in the table, no verdict by chance."""
    models = tmp_path / "models"
    proof = {
        "perplexity": 28.5,
        "baseline_perplexity": 28.4,
        "kl": 0.005,
        "reload_kl": 0.0,
        "reload_difference": 0.0,
        "bytes": 164_000_000,
        "baseline_bytes": 269_000_000,
        "bits_on_disk": 9.7,
        "faults": [],
    }
    for bits in (8, 4):
        record = {
            "version": 1,
            "scheme": f"int{bits}",
            "family": "weights rounded",
            "does": "rounds",
            "bits": bits,
            "library": "torchao",
            "versions": {},
            "source": "base",
            "source_sha256": {},
            "asked_dtype": "auto",
            "dtype": None,
            "seed": 0,
            "calibration": None,
            "seconds": 1.0,
            "proof": proof,
        }
        folder = models / f"SmolLM2-135M-Instruct-int{bits}"
        folder.mkdir(parents=True)
        (folder / "compression.json").write_text(json.dumps(record))
    page = tmp_path / "README.md"
    runs = tmp_path / "runs"
    shutil.copytree(ROOT / "examples" / "runs", runs)
    (runs / ".lm-eval-flips-cache").mkdir()  # the leaderboard was written before
    command = [
        *(sys.executable, ROOT / "examples" / "paper.py", runs),
        *("--models", models, "--output", page),
    ]
    subprocess.run(list(map(str, command)), check=True, timeout=120)
    text = page.read_text(encoding="utf-8")
    assert text.count("cannot be seen with this many questions") == 6
    assert "| int8 | weights rounded | 164 | -0.0147 | 1.000 | 4.41% | – | 2 / 1 |" in text
    assert text.index("| int8 |") < text.index("| int4 |")
