"""What a result carries because something about the runs is not as it should be, worded once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import Comparison, compare
from lm_eval_flips.report.files.document import to_json
from tests.generators import logs

RIGHT, WRONG = [-1.0, -2.0], [-2.0, -1.0]


def written(folder: Path, tasks: Mapping[str, Sequence[dict[str, Any]]], **settings: Any) -> Path:
    """A run of these tasks."""
    return logs.write_run(folder, {name: list(own) for name, own in tasks.items()}, **settings)


def questions(wrong: Sequence[int] = (), *, n: int = 8, name: str = "q") -> list[dict[str, Any]]:
    """Questions of which these are answered wrongly."""
    return [
        logs.choice(i, WRONG if i in wrong else RIGHT, question=f"{name} {i}") for i in range(n)
    ]


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Other settings, a task and samples that one run lacks."""
    folder = tmp_path_factory.mktemp("troubled")
    base = written(
        folder / "base", {"arc": questions(), "piqa": questions(name="p"), "old": questions()}
    )
    int4 = written(
        folder / "int4",
        {"arc": questions([0, 1])[:6], "piqa": questions([2], name="p"), "new": questions()},
        model="org/int4",
        max_length=1024,
    )
    return compare(base, int4, on_mismatch="intersect")


def test_every_trouble_is_told_with_its_code_and_place(troubled: Comparison) -> None:
    """Settings, tasks of one run only and samples left out; each once, with a way out."""
    (run,) = troubled.compressed
    found = {(w.code, w.place.task) for w in run.warnings}
    assert found == {
        ("setting-differs", None),
        ("task-in-one-run", "old"),
        ("task-in-one-run", "new"),
        ("samples-left-out", "arc"),
    }
    assert len(run.warnings) == 4
    assert troubled.warnings == run.warnings
    assert all(w.place.run == run.path and w.way_out for w in run.warnings)
    texts = {w.code: str(w) for w in run.warnings}
    assert texts["samples-left-out"] == (
        "left out 2 samples of arc (none): only in the baseline: doc 6, 7"
    )
    assert texts["setting-differs"].endswith("→ 1024")


def test_a_row_has_the_warnings_of_its_tasks(troubled: Comparison) -> None:
    """Those of arc are arc's and the pool's, not piqa's."""
    (run,) = troubled.compressed
    codes = {row.name: [w.code for w in row.warnings] for row in (*run.tasks, run.pooled)}
    assert codes["piqa"] == []
    assert set(codes["arc"]) == {"samples-left-out"}
    assert "samples-left-out" in codes["pooled"]
    assert "task-in-one-run" in codes["pooled"]


def test_the_json_shows_the_same_ones(troubled: Comparison) -> None:
    """Code, place, words and way out of each."""
    shown = json.loads(to_json(troubled))["warnings"]
    assert [(w["code"], w["text"], w["way_out"]) for w in shown] == [
        (w.code, w.text, w.way_out) for w in troubled.warnings
    ]
    assert shown[0]["place"] == {
        "run": troubled.compressed[0].path,
        "task": None,
        "filter": None,
        "metric": None,
    }


def test_runs_without_trouble_have_no_warnings(tmp_path: Path) -> None:
    """Control: the same settings, tasks and samples."""
    base = written(tmp_path / "base", {"arc": questions()})
    int4 = written(tmp_path / "int4", {"arc": questions([1])}, model="org/int4")
    comparison = compare(base, int4)
    assert comparison.warnings == ()
    assert comparison.compressed[0].pooled.warnings == ()


def test_tasks_without_the_metric_asked_for_are_named(tmp_path: Path) -> None:
    """They are left out of the rows, not in silence."""
    sides = []
    for wrong in ((), (1,)):
        tasks = {
            "arc": questions(wrong),
            "said": [logs.text(i, "4" if i else "5") for i in range(4)],
        }
        sides.append(written(tmp_path / str(len(wrong)), tasks, model=f"org/{len(wrong)}"))
    (run,) = compare(*sides, metric="acc").compressed
    assert [row.name for row in run.tasks] == ["arc"]
    (warning,) = run.warnings
    assert (warning.code, warning.place.task, warning.place.metric) == (
        "metric-missing",
        "said",
        "acc",
    )
    assert compare(*sides).warnings == ()
