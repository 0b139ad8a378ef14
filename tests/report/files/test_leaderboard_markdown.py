"""The Markdown board: a row a run, and names that stay names."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.report.files.leaderboard_markdown import to_markdown
from lm_eval_flips.report.text.numbers import percent, signed
from tests.generators.folders import board_of, write_folder, write_one

markdown_it = pytest.importorskip("markdown_it")


def test_every_run_is_a_row_with_its_numbers(tmp_path: Path) -> None:
    """The closest first; the interval stands beside the change; the verdict where a margin was given."""
    write_folder(tmp_path)
    board = board_of(tmp_path, asked=Options(equivalence_margin=0.05))
    lines = [line for line in to_markdown(board).splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 3
    assert "within ±0.05" in lines[0]
    assert "token KL" not in lines[0]
    for run, line in zip(board.runs, lines[2:], strict=True):
        pooled = run.entry.pooled
        assert run.name in line
        assert f"| {signed(pooled.value('score_change'))} \\[" in line
        assert f"| {percent(pooled.value('flips'))} |" in line
        assert pooled.equivalence_verdict is not None
        assert pooled.equivalence_verdict in line


def test_what_is_ranked_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    """A run with fewer tasks narrows the ranking; one that agrees in everything is not on it."""
    write_folder(tmp_path)
    write_one(tmp_path, "nf4", 0.5, tasks=("arc", "law"), max_length=1024)
    write_one(tmp_path, "same", 0.0)
    text = to_markdown(board_of(tmp_path))
    assert "the 60 samples of 2 tasks that all 4 runs have" in text
    assert "Other tasks do not count for the groups, as llama-nf4 lack some." in text
    assert "- Left out: same/org\\_\\_llama-same: " in text
    assert "max_length 512 → 1024" in text


def test_names_do_not_break_the_table(tmp_path: Path) -> None:
    """Pipes, HTML and links in a model's name are text."""
    write_folder(tmp_path, {"int8": 0.2})
    write_one(tmp_path, "bad", 3.0, model="a|b <img src=x onerror=alert(1)> [c](d)")
    html = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(
        to_markdown(board_of(tmp_path))
    )
    assert "<img" not in html
    assert "<a " not in html
    assert html.count("<tr>") == 3
    assert all(row.count("<td") == 19 for row in html.split("<tr>")[2:])


def test_one_run_is_not_ranked(tmp_path: Path) -> None:
    """And that is said."""
    write_folder(tmp_path, {"int8": 0.2})
    text = to_markdown(board_of(tmp_path))
    assert "One run: there is nothing to hold it against." in text
    assert "| llama-int8 | not told apart | int8 | unknown | 8 | – | – | 90 |" in text
