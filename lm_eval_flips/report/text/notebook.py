"""Comparison -> what a notebook shows: the tables of `compare`, as HTML and as text."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from html import escape

from rich.console import Console

from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.report.text.sentences import (
    across_lines,
    distinct_names,
    floor_line,
    several_lines,
)
from lm_eval_flips.report.text.table import legend, lines_below, run_table, tables

WIDTH = 160  # characters of the text; notebooks scroll
LEFT = 2  # columns of words before those of numbers


def comparison_text(comparison: Comparison) -> str:
    """The tables as `compare` prints them."""
    console = Console(width=WIDTH, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(tables(comparison), crop=False)
    return captured.get()


def comparison_html(comparison: Comparison) -> str:
    """The same as HTML tables: no script, no style sheet, every text escaped."""
    return "\n".join(_parts(comparison))


def _parts(comparison: Comparison) -> Iterator[str]:
    baseline = comparison.baseline.model.rstrip("/").rsplit("/", 1)[-1]
    yield f"<div><p>baseline <b>{escape(baseline)}</b></p>"
    if comparison.noise_floor is not None:
        yield _paragraphs([floor_line(comparison.noise_floor)])
    for name, run in zip(distinct_names(comparison), comparison.compressed, strict=True):
        yield f"<p>compressed <b>{escape(name)}</b></p>"
        yield _table(run)
        yield _paragraphs(list(lines_below(run)))
    yield _paragraphs([*across_lines(comparison), *several_lines(comparison)])
    yield f"<p><small>{escape(legend(comparison))}</small></p></div>"


def _paragraphs(lines: Sequence[str]) -> str:
    return "<p>" + "<br>".join(map(escape, lines)) + "</p>" if lines else ""


def _table(run: RunComparison) -> str:
    table = run_table(run)
    head = "".join(_cell("th", text, place) for place, text in enumerate(table.columns))
    body = "".join(
        "<tr>"
        + "".join(
            _cell("td" if style is None else "th", text, place) for place, text in enumerate(cells)
        )
        + "</tr>"
        for cells, style in zip(table.rows, table.styles, strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(tag: str, text: str, place: int) -> str:
    side = "left" if place < LEFT else "right"
    return f'<{tag} style="text-align:{side};white-space:nowrap">{escape(text)}</{tag}>'
