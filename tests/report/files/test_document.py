"""The JSON document: the schema that users build on, and undefined as null."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import compare
from lm_eval_flips.comparison.numbers import SPEC
from lm_eval_flips.report.files.document import to_json
from tests.generators import logs

# design: every key that a task's row must have
ROW = {
    *("task", "filter", "metric", "n", "baseline_score", "compressed_score", "score_change"),
    *("correct_to_incorrect", "incorrect_to_correct", "wrong_to_wrong", "flips", "all_flips"),
    *("choice_kl", "token_kl", "intervals", "p_value"),
    *("equivalence", "excess", "margin_bins", "error_method", "test", "warnings"),
    *SPEC,
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A choice task and a generated one, in a group of their own, as the document of one run."""
    folder = tmp_path_factory.mktemp("document")
    paths = []
    for name, shift, said in (("base", 0.0, "4"), ("int4", 1.5, "5")):
        tasks = {
            "chosen": [logs.choice(i, [-1.0 - shift * (i % 2), -2.0, -3.0]) for i in range(6)],
            "written": [logs.text(i, said if i == 1 else "4") for i in range(4)],
        }
        groups = {"both": ["chosen", "written"]}
        paths.append(logs.write_run(folder / name, tasks, model=name, groups=groups))
    found: dict[str, Any] = json.loads(to_json(compare(*paths)))
    return found


def test_the_document_has_every_field_of_the_schema(document: dict[str, Any]) -> None:
    """Version, baseline, settings, runs with tasks, groups and pool, and the correlation."""
    assert document["version"] == 2
    assert {"path", "model"} <= document["baseline"].keys()
    assert document["settings_that_differ"] == []
    (run,) = document["compressed"]
    assert {"path", "model", "tasks", "groups", "pooled"} <= run.keys()
    for row in run["tasks"]:
        assert row.keys() >= ROW
    assert run["groups"][0].keys() >= (ROW - {"task"}) | {"group"}
    assert run["pooled"].keys() >= ROW - {"task"}
    assert document["correlation"].keys() == {
        "across_runs",
        "across_runs_token_kl",
        "regimes",
        "text_losses",
    }


def test_choices_carry_numbers(document: dict[str, Any]) -> None:
    """Three of six answers flipped; the summaries and intervals are there."""
    row = next(row for row in document["compressed"][0]["tasks"] if row["metric"] == "acc")
    assert (row["n"], row["correct_to_incorrect"], row["flips"]) == (6, 3, 0.5)
    assert row["choice_kl_max"] > row["choice_kl"] >= row["choice_kl_median"] > 0
    assert row["answers_changed"] == 3
    assert row["answers_changed_share"] == 0.5
    low, high = row["intervals"]["flips"]
    assert low < row["flips"] < high
    assert 0 < row["p_value"] <= 1


def test_direction_is_told_apart_from_volume(document: dict[str, Any]) -> None:
    """All three flips are losses, half of the baseline's six right answers; none was won."""
    row = next(row for row in document["compressed"][0]["tasks"] if row["metric"] == "acc")
    assert (row["loss_share"], row["negative_flip_rate"]) == (1.0, 0.5)
    assert row["random_loss_share"] == 1.0  # nothing was wrong that could have been won
    assert row["margin_change"] < 0
    assert (
        row["intervals"]["negative_flip_rate"][0] < 0.5 < row["intervals"]["negative_flip_rate"][1]
    )
    assert row["equivalence"] is None


def test_the_undefined_is_null(document: dict[str, Any]) -> None:
    """Generated text: no wrong_to_wrong, no all_flips, no distances; token_kl nowhere."""
    row = next(row for row in document["compressed"][0]["tasks"] if row["task"] == "written")
    assert row["flips"] == 0.25
    for name in ("wrong_to_wrong", "all_flips", "choice_kl", "token_kl", "margin_bins"):
        assert row[name] is None, name


def test_infinity_is_null_and_the_document_strict_json(tmp_path: Path) -> None:
    """A choice that only the compressed model rules out makes KL infinite, which JSON lacks."""
    paths = [
        logs.write_run(tmp_path / name, {"task": [logs.choice(0, row), logs.choice(1, row)]})
        for name, row in (("a", [-1.0, -2.0, -3.0]), ("b", [-1.0, -2.0, float("-inf")]))
    ]
    text = to_json(compare(*paths)).decode()
    assert "Infinity" not in text
    assert "NaN" not in text
    assert json.loads(text)["compressed"][0]["pooled"]["choice_kl"] is None


def test_a_key_means_the_same_in_python_and_json(tmp_path: Path) -> None:
    """Every number of every row, and its interval, under its key."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {"task": [logs.choice(i, [-1.0 - shift * (i % 2), -2.0]) for i in range(12)]},
            model=name,
        )
        for name, shift in (("base", 0.0), ("int4", 1.5))
    ]
    comparison = compare(*paths, metric="acc")
    (row,) = json.loads(to_json(comparison))["compressed"][0]["tasks"]
    for key, number in comparison.compressed[0].tasks[0].numbers.items():
        assert row[key] == (number.value if number.known else None), key
        ends = [None if isnan(end) else end for end in number.interval]
        assert row["intervals"].get(key, [None, None]) == ends, key
