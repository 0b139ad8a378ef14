"""The recipes for a measure and a scheme, followed in a copy of the package: they are then everywhere."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax

import lm_eval_flips

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(lm_eval_flips.__file__).parent  # of the wheel, where that is tested
COPIED = ("tasks", "tests", "examples/runs", "pyproject.toml")
STEP = re.compile(
    r"^<!-- (?:new|above `(?P<anchor>[^`]+)` in) (?P<path>\S+) -->\n```(?:python|diff)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
RUNS = ("examples/runs/baseline", "examples/runs/int4")
HARNESS = """
import sys
from pathlib import Path
from tests.e2e import test_native_pairs as native
folder = Path(sys.argv[1])
native.write_tasks(folder)
native.evaluated(folder, "said_well", folder / "base", seed=1)
native.evaluated(folder, "flips_said_well", folder / "other", seed=2, baseline=str(folder / "base"))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with the measure and the scheme that the document adds, as it prints them."""
    folder = tmp_path_factory.mktemp("recipe")
    for source in (PACKAGE, *(ROOT / name for name in COPIED)):
        target = folder / source.relative_to(PACKAGE.parent if source == PACKAGE else ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    steps = list(STEP.finditer((ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    changed = {step["path"] for step in steps if step["anchor"]}
    assert len(changed) == 3 + 1
    assert sum(not step["anchor"] for step in steps) == 2 + 2
    for step in steps:
        _follow(folder / step["path"], step["anchor"], step["code"])
    return folder


def _follow(file: Path, anchor: str | None, code: str) -> None:
    if anchor is None:
        assert not file.exists()
        file.write_text(code, encoding="utf-8")
        return
    code = re.sub(r"^\+", "", code, flags=re.MULTILINE)
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    (place,) = (i for i, line in enumerate(lines) if line.startswith(anchor))
    file.write_text("".join([*lines[:place], code, *lines[place:]]), encoding="utf-8")


def run(copy: Path, *command: object, code: int = 0) -> str:
    """Run a module of the copy; what it prints."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "HF_HUB_OFFLINE": "1", "COLUMNS": "500"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def compared(copy: Path) -> str:
    """What compare prints; the files that it writes lie in the copy."""
    files = ("--json", "out.json", "--per-sample", "out.parquet", "--report", "report.html")
    floor = ("--noise-floor", "examples/runs/noise-floor")
    return run(copy, "-m", "lm_eval_flips", "compare", *RUNS, *files, *floor, "--wide")


def expected(copy: Path) -> list[float]:
    """Each sample's distance by numpy, from the log-likelihoods of the Parquet file."""
    distances = []
    for row in pq.read_table(copy / "out.parquet").to_pylist():
        if row["acc.choice_kl"] is not None:
            sides = (row["baseline_loglikelihoods"], row["compressed_loglikelihoods"])
            p, q = (np.sqrt(softmax(side)) for side in sides)
            distances.append(float(np.linalg.norm(p - q) / np.sqrt(2)))
    assert distances
    return distances


def test_the_measure_s_own_test_passes(copy: Path) -> None:
    """As the document prints it."""
    printed = run(
        copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/measures/test_hellinger.py"
    )
    assert "2 passed" in printed


def test_the_scheme_is_listed_and_its_own_test_passes(copy: Path) -> None:
    """As the document prints it; with its description."""
    printed = run(
        *(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("tests/compression/test_ternary.py", "tests/compression/test_schemes.py"),
    )
    assert "passed" in printed
    assert "failed" not in printed
    listed = json.loads(run(copy, "-m", "lm_eval_flips", "schemes", "--json"))
    (added,) = (one for one in listed if one["scheme"] == "ternary")
    assert added["does"] == "each weight as -s, 0 or s, stored dense"


def test_the_copy_alone_has_it(copy: Path) -> None:
    """Control: what is tested here is the copy, and the package has no such measure."""
    code = "import lm_eval_flips; print(lm_eval_flips.__file__)"
    assert str(copy) in run(copy, "-c", code)
    assert not (PACKAGE / "measures" / "hellinger.py").exists()


def test_parquet_and_json_hold_it(copy: Path, compared: str) -> None:
    """A column of the samples, as numpy computes it; a number of every row, and its floor."""
    column = pq.read_table(copy / "out.parquet").column("acc.hellinger").drop_null().to_pylist()
    assert column == pytest.approx(expected(copy), abs=1e-9)
    (compressed,) = json.loads((copy / "out.json").read_text())["compressed"]
    pooled = compressed["pooled"]
    value = pooled["hellinger"]
    assert value == pytest.approx(np.mean(column))
    assert "hellinger" in pooled["excess"]
    low, high = pooled["intervals"]["hellinger"]
    assert low < value < high


def test_the_table_and_the_report_show_it(copy: Path, compared: str) -> None:
    """Under the label of the list of columns."""
    assert "Hellinger" in compared
    assert "Hellinger" in (copy / "report.html").read_text(encoding="utf-8")


def test_the_leaderboard_s_table_holds_it(copy: Path, compared: str) -> None:
    """One more column, with its interval."""
    run(
        *(copy, "-m", "lm_eval_flips", "leaderboard", "examples/runs", "--no-cache"),
        *("--baseline", RUNS[0], "--csv", "board.csv", "--output", "board.html"),
    )
    with (copy / "board.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["level"] == "pooled"]
    assert rows
    assert all(0 < float(row["hellinger"]) < 1 for row in rows if "int4" in row["model"])
    assert {"hellinger_low", "hellinger_high"} <= set(rows[0])
    assert "Hellinger" in (copy / "board.html").read_text(encoding="utf-8")


def test_the_gate_judges_it(copy: Path, compared: str) -> None:
    """max_ and its key; one threshold that is kept and one that is broken."""
    for threshold, code in ((0.99, 0), (0.0001, 1)):
        (copy / "gate.toml").write_text(f"[pooled]\nmax_hellinger = {threshold}\n")
        command = ("-m", "lm_eval_flips", "gate", *RUNS, "--config", "gate.toml")
        assert "hellinger" in run(copy, *command, "--judge", "point", code=code).lower()


def test_the_harness_s_own_table_has_it(copy: Path, tmp_path: Path) -> None:
    """Of a task that FlipsTask is put over, by the harness's own evaluation."""
    run(copy, "-c", HARNESS, tmp_path)
    (file,) = (tmp_path / "other").rglob("results_*.json")
    found = json.loads(file.read_text())["results"]["said_well"]
    assert 0 < found["hellinger,none"] < 1
