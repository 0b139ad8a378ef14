"""The page's table holds every row of the Comparison, number for number."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

import pytest

from lm_eval_flips import compare
from lm_eval_flips.report.page.embedded import json_text
from lm_eval_flips.report.page.task_table import table_data
from tests.generators import logs, reports


def test_every_row_is_there_with_the_numbers_of_the_comparison(tmp_path: Path) -> None:
    """Tasks, groups and the pool; sorted by the number, shown as the terminal does."""
    comparison = compare(*reports.ordinary(tmp_path, {"int4": 1.5}))
    (run,) = comparison.compressed
    data = table_data(comparison)
    rows = [*run.tasks, *run.groups, run.pooled]
    keys = [column["key"] for column in data["columns"]]
    assert len(data["rows"]) == len(rows)
    for shown, row in zip(data["rows"], rows, strict=True):
        cells = dict(zip(keys, shown["cells"], strict=True))
        assert shown["name"] == row.name
        assert cells["n"][0] == row.n
        assert cells["score_change"][0] == pytest.approx(row.score_change, rel=1e-5, nan_ok=True)
        if row.flips is None:
            assert cells["flips"] == (None, "–", "")
            continue
        assert cells["flips"][0] == pytest.approx(row.flips.flips, rel=1e-5)
        assert cells["flips"][1] == f"{100 * row.flips.flips:.2f} %"
        for key in ("correct_to_incorrect", "incorrect_to_correct", "wrong_to_wrong"):
            assert cells[key][0] == getattr(row.flips, key), key
        assert (cells["all_flips"][1] == "–") == isnan(row.flips.all_flips)
    json.loads(json_text(data))


def test_a_single_task_has_no_second_row(tmp_path: Path) -> None:
    """Its pool says the same."""
    comparison = compare(*reports.ordinary(tmp_path, {"int4": 1.5}), tasks="arc", metric="acc")
    assert [row["kind"] for row in table_data(comparison)["rows"]] == ["task"]


def test_what_cannot_be_drawn_is_not(tmp_path: Path) -> None:
    """One sample has no interval; a perplexity is on another scale."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {
                "one": [logs.choice(0, row, metrics=("acc",))],
                "page": [logs.rolling(i, sum(row) - i, "a b") for i in range(3)],
            },
        )
        for name, row in (("a", [-1.0, -2.0]), ("b", [-2.0, -1.5]))
    ]
    rows = table_data(compare(*paths))["rows"]
    assert [row["drawn"] for row in rows if row["name"] == "page"] == [None] * 3
