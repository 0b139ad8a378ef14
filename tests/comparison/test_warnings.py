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


def sized(folder: Path, name: str, shift: float, sizes: dict[str, tuple[int, int]]) -> Path:
    """A run of tasks with so many samples of so many choices; the shift moves every second answer."""
    tasks = {
        task: [
            logs.choice(i, [-1.0 - (shift if i % 2 else 0), *[-2.0 - 0.01 * i] * (choices - 1)])
            for i in range(n)
        ]
        for task, (n, choices) in sizes.items()
    }
    scores = [sum(record["acc"] for record in own) / len(own) for own in tasks.values()]
    file = logs.write_run(folder / name, tasks, model=f"org/{name}", groups={"suite": list(sizes)})
    content = json.loads(file.read_text())
    content["results"]["suite"] = {"alias": "suite", "acc,none": sum(scores) / len(scores)}
    file.write_text(json.dumps(content))
    return file


def test_a_pool_of_other_numbers_of_choices_says_so(tmp_path: Path) -> None:
    """Two and five choices in one mean; not where all tasks have as many."""
    for sizes, expected in (({"pair": (8, 2), "five": (9, 5)}, 1), ({"a": (8, 4), "b": (9, 4)}, 0)):
        folder = tmp_path / str(expected)
        comparison = compare(*(sized(folder, n, x, sizes) for n, x in (("a", 0.0), ("b", 1.5))))
        told = [own for own in comparison.warnings if own.code == "choices-differ"]
        assert len(told) == expected
        if told:
            assert "tasks of 2 (pair), 5 (five) choices" in told[0].text


def test_the_harness_own_average_of_a_group_stands_beside_the_row(tmp_path: Path) -> None:
    """Unequal tasks that the harness averages; not where it counts samples, as equal tasks do."""
    paths = [
        sized(tmp_path, name, shift, {"small": (4, 2), "large": (15, 2)})
        for name, shift in (("a", 0.0), ("b", 1.5))
    ]
    run = compare(*paths, metric="acc").compressed[0]
    (group,) = run.groups
    (told,) = [own for own in group.warnings if own.code == "group-averaged"]
    macro = (2 / 4 + 8 / 15) / 2  # by hand: every second answer is lost
    assert f"acc 1.0000 → {macro:.4f}" in told.text
    assert group.compressed_score == pytest.approx(10 / 19)
    assert told in run.warnings
    equal = [
        sized(tmp_path / "equal", name, shift, {"small": (8, 2), "large": (8, 2)})
        for name, shift in (("a", 0.0), ("b", 1.5))
    ]
    (other,) = compare(*equal, metric="acc").compressed[0].groups
    assert not [own for own in other.warnings if own.code == "group-averaged"]
