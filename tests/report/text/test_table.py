"""The printed table: what each cell says, and how the undefined looks."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from lm_eval_flips import Comparison, compare
from lm_eval_flips.report.text.table import shown_rows
from lm_eval_flips.report.text.terminal import printed as everything_printed
from tests.generators import logs, reports


def printed(comparison: Comparison, *, width: int = 200, details: bool = True) -> str:
    """What `compare` prints, as a terminal of this width shows it."""
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(everything_printed(comparison, details=details), crop=False)
    return captured.get()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Tasks of choices in a group, and one of texts under two filters."""
    folder = tmp_path_factory.mktemp("several")
    paths = []
    for number, name in enumerate(("base", "int4")):
        tasks: dict[str, list[logs.Record]] = {
            task: [
                logs.choice(i, row, gold=i % 4, question=f"{task} {i}")
                for i, row in enumerate(reports.scores(seed, 60, noise=number))
            ]
            for seed, task in enumerate(("arc_challenge_of_a_long_name", "law"))
        }
        said = [str(4 if (i + number) % 5 else 5) for i in range(10)]
        tasks["written"] = [
            logs.text(i, answer, filter=kind)
            for i, answer in enumerate(said)
            for kind in ("strict", "flexible")
        ]
        groups = {"both": list(tasks)[:2]}
        paths.append(logs.write_run(folder / name, tasks, model=f"org/{name}", groups=groups))
    return compare(*paths)


def row_of(text: str, *names: str) -> str:
    """The first line that holds all names."""
    return next(line for line in text.splitlines() if all(name in line for name in names))


def test_a_row_shows_scores_change_flips_and_kl(tmp_path: Path) -> None:
    """Six questions, three lost: every cell, read off the line."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {"task": [logs.choice(i, row if i < 3 else [-1.0, -2.0]) for i in range(6)]},
            model=name,
        )
        for name, row in (("base", [-1.0, -2.0]), ("int4", [-2.0, -1.0]))
    ]
    comparison = compare(*paths, metric="acc")
    lines = printed(comparison).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("task"))
    labels = re.split(r"\s{2,}", lines[head].strip())
    shown = dict(zip(labels, re.split(r"\s{2,}", lines[head + 1].strip()), strict=True))
    low, high = comparison.compressed[0].tasks[0].intervals["score_change"]
    assert shown == {
        "task": "task",
        "metric": "acc",
        "n": "6",
        "baseline": "1.0000",
        "score": "0.5000",
        "change": "-0.5000",
        "[95 %]": f"[{low:+.4f}, {high:+.4f}]",
        "p": "0.2500",
        "flips": "50.00 %",
        "all flips": "50.00 %",
        "C→I": "3",
        "I→C": "0",
        "W→W": "0",
        "choice KL": "0.2311",
        "median choice KL": "0.2311",
    }


def test_the_undefined_is_a_dash_and_filters_are_named(several: Comparison) -> None:
    """Generated text has no all flips and no KL; its two filters are two rows."""
    text = printed(several)
    line = row_of(text, "written", "exact_match,strict")
    (head,) = {own for own in text.splitlines() if own.startswith("task ")}
    labels, cells = (re.split(r" {2,}", own.strip()) for own in (head, line))
    shown = dict(zip(labels, cells, strict=True))
    assert [shown[label] for label in ("all flips", "W→W", "choice KL")] == ["–"] * 3
    assert "–" not in (shown["flips"], shown["C→I"], shown["same text"])
    assert row_of(text, "written", "exact_match,flexible")
    assert row_of(text, "both ", "acc_norm")


def test_what_is_left_out_is_loud(tmp_path: Path) -> None:
    """Dropped samples, differing settings and tasks of one run only are warnings."""
    base = logs.write_run(
        tmp_path / "a", {"task": [logs.choice(i, [-1.0, -2.0]) for i in range(3)]}
    )
    comp = logs.write_run(
        tmp_path / "b",
        {
            "task": [logs.choice(i, [-2.0, -1.0]) for i in range(2)],
            "more": [logs.choice(0, [-2.0, -1.0])],
        },
        max_length=1024,
    )
    text = printed(compare(base, comp, on_mismatch="intersect"))
    assert "warning: left out 1 sample of task (none): only in the baseline: doc 2" in text
    assert "warning: more is only in the compressed run. " in text
    assert "max_length 512 → 1024" in text


NUMBER = r"[+-]?\d+\.\d+(?:e-\d+)?"
WIDTHS = [60, 80, 100, 120, 150]


def table_lines(comparison: Comparison, width: int) -> list[str]:
    """The lines of the first table."""
    lines = printed(comparison, width=width, details=False).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("task "))
    return lines[head : lines.index("", head)]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(several: Comparison, width: int) -> None:
    """And every number in it is one of the wide form's, whole."""
    comparison = several
    wide = set(re.findall(NUMBER, "\n".join(table_lines(comparison, 10_000))))
    lines = table_lines(comparison, width)
    assert max(map(len, lines)) <= width
    assert set(re.findall(NUMBER, "\n".join(lines))) <= wide
    assert len(lines) == len(table_lines(comparison, 10_000))


def test_the_width_check_can_fail(several: Comparison) -> None:
    """Control: cut off at the terminal's width, a table does lose digits."""
    comparison = several
    wide = table_lines(comparison, 10_000)
    cut = "\n".join(line[:100] for line in wide)
    assert not set(re.findall(NUMBER, cut)) <= set(re.findall(NUMBER, "\n".join(wide)))


def test_columns_leave_in_their_order(several: Comparison) -> None:
    """What is there in a narrow terminal is there in every wider one; the change never leaves."""
    comparison = several
    before: set[str] = set()
    for width in WIDTHS:
        labels = set(re.split(r"\s{2,}", table_lines(comparison, width)[0].strip()))
        assert before <= labels
        before = labels
    assert {"task", "change", "flips"} <= set(
        re.split(r"\s{2,}", table_lines(comparison, WIDTHS[0])[0].strip())
    )


def test_a_group_that_says_the_same_as_another_row_is_not_there_twice(tmp_path: Path) -> None:
    """One group of all tasks is the pool; a group of one task is that task. Control: one of two."""
    groups = {"whole": ["arc", "law"], "single": ["arc"], "part": ["arc", "ode"]}
    tasks = {"arc": 3, "law": 5, "ode": 7}

    def names(kept: dict[str, list[str]], *chosen: str) -> list[str]:
        runs = [
            logs.write_run(
                tmp_path / "-".join(kept) / name,
                {
                    task: [logs.choice(i, row, question=f"{task}{i}") for i in range(tasks[task])]
                    for task in chosen
                },
                groups=kept,
            )
            for name, row in (("a", [-1.0, -2.0]), ("b", [-2.0, -1.0]))
        ]
        (run,) = compare(*runs, metric="acc").compressed
        return [row.name for row in shown_rows(run)[0]]

    assert names({"whole": groups["whole"]}, "arc", "law") == ["arc", "law", "pooled"]
    assert names({"single": ["arc"]}, "arc", "law") == ["arc", "law", "pooled"]
    assert names({"part": groups["part"]}, *tasks) == [*tasks, "part", "pooled"]
    assert names({}, "arc") == ["arc"]


def test_a_local_model_is_shown_by_its_name_and_a_shared_name_by_its_run(tmp_path: Path) -> None:
    """A path is no title; two runs of one checkpoint are told apart by their folders."""
    runs = [
        logs.write_run(
            tmp_path / name,
            {"task": [logs.choice(i, row) for i in range(2)]},
            model=f"/models/{model}",
        )
        for name, model, row in (
            ("one", "base", [-1.0, -2.0]),
            ("two", "int4", [-2.0, -1.0]),
            ("three", "int4", [-2.0, -1.5]),
        )
    ]
    text = printed(compare(*runs[:2]))
    assert text.startswith("baseline base, ")
    assert "/models" not in text
    alike = printed(compare(*runs), width=10_000)
    assert {"▼ two", "▼ three", "~ two", "~ three"} & {
        line.split(":")[0] for line in alike.splitlines()
    }
    assert "two" in alike
    assert "three" in alike
