"""The Parquet file: one row per sample, its values those of the log."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.compute as pc
import pytest

from lm_eval_flips import compare
from lm_eval_flips.report.files.per_sample import to_table
from tests.conftest import LocalRuns
from tests.generators import logs


def test_one_row_per_sample_with_the_logged_numbers(local_runs: LocalRuns) -> None:
    """Every line of the harness's logs is one row, its log-likelihoods to the last digit."""
    table = to_table(compare(local_runs.baseline, local_runs.compressed))
    lines = {}
    for file in local_runs.compressed.rglob("samples_*.jsonl"):
        task = json.loads(next(local_runs.compressed.rglob("results_*.json")).read_text())
        name = next(n for n in task["configs"] if file.name.startswith(f"samples_{n}_"))
        for record in map(json.loads, file.read_text().splitlines()):
            lines[name, record["filter"], record["doc_id"]] = record
    rows = {(r["task"], r["filter"], r["doc_id"]): r for r in table.to_pylist()}
    assert rows.keys() == lines.keys()
    for key, row in rows.items():
        if row["compressed_loglikelihoods"] and key[0] not in ("tiny_mutual", "tiny_rolling"):
            logged = [float(response[0]) for response in lines[key]["filtered_resps"]]
            assert row["compressed_loglikelihoods"] == logged
        if row["acc.compressed"] is not None:
            assert row["acc.compressed"] == lines[key]["acc"]


def test_the_columns_add_up_to_the_table(local_runs: LocalRuns) -> None:
    """The flips column sums to the row's flips, and choice_kl averages to its mean."""
    comparison = compare(local_runs.baseline, local_runs.compressed, tasks="tiny_choice")
    table = to_table(comparison)
    for row in comparison.compressed[0].tasks:
        assert row.flips is not None
        assert row.distances is not None
        flips = row.flips.correct_to_incorrect + row.flips.incorrect_to_correct
        assert pc.sum(table[f"{row.metric}.flips"]).as_py() == flips
        mean = pc.mean(table[f"{row.metric}.choice_kl"]).as_py()
        assert mean == pytest.approx(row.distances.choice_kl.mean)


def test_a_sample_without_the_metric_has_nulls(tmp_path: Path) -> None:
    """A metric that process_results leaves out of a document is null there, and n is smaller."""
    paths = []
    for name, scores in (("a", [-1.0, -2.0]), ("b", [-2.0, -1.0])):
        records = [logs.choice(i, scores) for i in range(3)]
        records[1]["metrics"] = ["acc_norm"]
        del records[1]["acc"]
        own = {"task": {"process_results": "def process_results(doc, results): ..."}}
        paths.append(logs.write_run(tmp_path / name, {"task": records}, configs=own))
    comparison = compare(*paths)
    assert {row.metric: row.n for row in comparison.compressed[0].tasks} == {
        "acc": 2,
        "acc_norm": 3,
    }
    assert to_table(comparison)["acc.flips"].to_pylist() == [True, None, True]
