"""The printed table: what each cell says, and how the undefined looks."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from lm_eval_flips import Comparison, compare
from lm_eval_flips.report.text.table import tables
from tests.conftest import LocalRuns
from tests.generators import logs


def printed(comparison: Comparison, *, width: int = 200) -> str:
    """The tables as text, as a terminal of this width shows them."""
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(tables(comparison), crop=False)
    return captured.get()


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
    line = row_of(printed(compare(*paths, metric="acc")), "task")
    assert line.startswith("task")
    line = row_of(printed(compare(*paths, metric="acc")), "acc", "6")
    for cell in ("1.0000 → 0.5000", "-0.5000 [", "0.2500", "50.00 %", " 3 ", "0.2311"):
        assert cell in line, cell


def test_the_undefined_is_a_dash_and_filters_are_named(local_runs: LocalRuns) -> None:
    """Generated text has no all flips and no KL; its two filters are two rows."""
    text = printed(compare(local_runs.baseline, local_runs.compressed))
    line = row_of(text, "tiny_generate", "exact_match,strict-match")
    assert line.rstrip().endswith("–")
    assert row_of(text, "tiny_generate", "exact_match,flexible-extract")
    assert "tiny_outer" in text


def test_what_is_left_out_is_loud(tmp_path: Path) -> None:
    """Dropped samples, differing settings and tasks of one run only stand above the table."""
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
    assert "LEFT OUT 1 samples of task (none): only in the baseline: doc 2" in text
    assert "only in one run: more" in text
    assert "max_length 512 → 1024" in text


NUMBER = r"[+-]?\d+\.\d+(?:e-\d+)?"


@pytest.mark.parametrize("width", [60, 80, 100, 120, 150, 10_000])
def test_every_number_is_whole_at_any_width(local_runs: LocalRuns, width: int) -> None:
    """A narrow terminal breaks names and pairs over lines, never a number, and drops none."""
    comparison = compare(local_runs.baseline, local_runs.compressed)
    wide, found = printed(comparison), printed(comparison, width=width)
    assert sorted(re.findall(NUMBER, found)) == sorted(re.findall(NUMBER, wide))
    assert "…" not in found
    longest = max(map(len, found.splitlines()))
    assert longest <= max(width, 100)


def test_the_width_check_can_fail(local_runs: LocalRuns) -> None:
    """Control: cut off at the terminal's width, a table does lose digits."""
    comparison = compare(local_runs.baseline, local_runs.compressed)
    wide = printed(comparison)
    cut = "\n".join(line[:100] for line in wide.splitlines())
    assert sorted(re.findall(NUMBER, cut)) != sorted(re.findall(NUMBER, wide))


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
    assert re.search(r"^baseline +base *$", text, flags=re.MULTILINE)
    assert "/models" not in text
    alike = printed(compare(*runs), width=10_000)
    for name in ("one", "two", "three"):
        assert f"{tmp_path / name}/" in alike
