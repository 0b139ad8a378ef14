"""The quickstart on the real model, and the three ways in on one of its tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import compare
from tests.e2e.conftest import LIMIT, Quickstart, as_metadata, lm_eval_command, results_of, run

pytestmark = [pytest.mark.e2e, pytest.mark.smollm2]


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
        "token KL",
    ):
        assert name in quickstart.printed
    assert "Scores may be close" in quickstart.printed


def test_the_dtype_follows_the_processor_and_is_said(quickstart: Quickstart) -> None:
    """The word that it keeps is what the models were read in."""
    dtype = (quickstart.folder / "dtype").read_text().strip()
    assert dtype in ("bfloat16", "float32")
    assert f"times as fast as float32: {dtype}." in quickstart.printed
    runs = quickstart.folder / "runs"
    assert results_of(runs / "baseline")["config"]["model_dtype"] == f"torch.{dtype}"
    assert results_of(runs / "SmolLM2-135M-Instruct-int4")["config"]["model_dtype"].endswith(dtype)


def test_it_ends_with_the_path_of_a_report(quickstart: Quickstart) -> None:
    """The last line names a page, which holds both models and a question that changed."""
    page = Path(quickstart.printed.strip().splitlines()[-1].rsplit(" ", 1)[-1])
    assert page == quickstart.folder / "report.html"
    content = page.read_text()
    assert "SmolLM2-135M-Instruct-int4" in content
    assert "truthfulqa_mc1" in content


def test_four_bits_move_the_real_model_further_than_eight(document: dict[str, Any]) -> None:
    """On real questions both KLs of int4 exceed those of int8, and none is 0."""
    rows = [run["pooled"] for run in document["compressed"]]
    int8, int4 = (row["choice_kl"] for row in rows)
    assert 0 < int8 < int4
    int8, int4 = (row["token_kl"] for row in rows)
    assert 0 < int8 < int4


def test_the_counts_are_those_of_the_logs(quickstart: Quickstart, document: dict[str, Any]) -> None:
    """Flips of a task recounted from the two JSONL files with nothing but json."""
    both = []
    for name in ("baseline", "SmolLM2-135M-Instruct-int4"):
        (file,) = (quickstart.folder / "runs" / name).rglob("samples_quickstart_mmlu_*.jsonl")
        both.append({s["doc_id"]: s["acc"] for s in map(json.loads, file.read_text().splitlines())})
    before, after = both
    assert len(before) == LIMIT
    (row,) = [t for t in document["compressed"][1]["tasks"] if t["task"] == "quickstart_mmlu"]
    assert row["correct_to_incorrect"] == sum(before[i] == 1 and after[i] == 0 for i in before)
    assert row["incorrect_to_correct"] == sum(before[i] == 0 and after[i] == 1 for i in before)


def test_the_harness_s_own_table_agrees(quickstart: Quickstart, tmp_path: Path) -> None:
    """The int4 model through FlipsTask: the harness's table and compare say the same of that run.

    It is not the quickstart's own run: another set of tasks makes other batches, and bfloat16 other
    log-likelihoods.
    """
    tasks = quickstart.folder / "tasks"
    (tasks / "flips_quickstart_mmlu.yaml").write_text(
        "group: flips_quickstart_mmlu\ntask:\n  - task: quickstart_mmlu\n"
        "    class: !function lm_eval_flips.harness.task.FlipsTask\n"
    )
    model = quickstart.folder / "models" / "SmolLM2-135M-Instruct-int4"
    command = lm_eval_command(model, tasks, "flips_quickstart_mmlu", tmp_path / "run")
    place = command.index("--model_args") + 1
    dtype = (quickstart.folder / "dtype").read_text().strip()
    command[place] = f"pretrained={model},dtype={dtype},softmax_dtype=float32"
    baseline = as_metadata(baseline=str(quickstart.folder / "runs" / "baseline"))
    done = run([*command, "--limit", str(LIMIT), *baseline], tmp_path)
    assert done.returncode == 0, done.stdout
    found = results_of(tmp_path / "run")["results"]["quickstart_mmlu"]
    runs = quickstart.folder / "runs"
    compared = compare(runs / "baseline", tmp_path / "run", tasks="quickstart_mmlu")
    row = compared.compressed[0].pooled
    assert row.flips is not None
    assert row.distances is not None
    assert found["flips,none"] == pytest.approx(row.flips.flips, abs=1e-12)
    assert found["choice_kl,none"] == pytest.approx(row.distances.choice_kl.mean, abs=1e-12)
