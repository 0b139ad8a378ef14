"""Comparison -> what a notebook shows: the tables of `compare`, as HTML and as text."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from html import escape

from rich.console import Console

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.comparison.standing import closest_first
from lm_eval_flips.logs.names import last_name
from lm_eval_flips.report.names import run_names
from lm_eval_flips.report.text.across import across_lines
from lm_eval_flips.report.text.fitted_table import FittedTable
from lm_eval_flips.report.text.sentences import floor_lines, several_lines
from lm_eval_flips.report.text.summary import judgements, model_sentence, ranking_line
from lm_eval_flips.report.text.table import legend, run_table
from lm_eval_flips.report.text.terminal import ESTIMATES, details_of, printed
from lm_eval_flips.report.text.warned import warned

WIDTH = 160  # characters of the text; notebooks scroll


def comparison_text(comparison: Comparison) -> str:
    """The tables as `compare` prints them."""
    console = Console(width=WIDTH, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(printed(comparison, details=True), crop=False)
    return captured.get()


def comparison_html(comparison: Comparison) -> str:
    """The same as HTML tables: no script, no style sheet, every text escaped."""
    return "\n".join(_parts(comparison))


def _parts(comparison: Comparison) -> Iterator[str]:
    baseline = last_name(comparison.baseline.model)
    yield f"<div><p>baseline <b>{escape(baseline)}</b></p>"
    if comparison.noise_floor is not None:
        yield _paragraphs(list(floor_lines(comparison)))
    names, tables = run_names(comparison), []
    yield _paragraphs([f"warning: {line}" for line in warned(comparison, names)])
    verdicts = judgements(comparison)
    for place in closest_first(comparison):
        run = comparison.compressed[place]
        yield _paragraphs([model_sentence(names[place], run, verdicts[place])])
        tables.append(run_table(run))
        yield _table(tables[-1])
        yield _paragraphs(details_of(run))
    ranking = ranking_line(comparison)
    yield _paragraphs(
        [*([ranking] if ranking else []), *across_lines(comparison), *several_lines(comparison)]
    )
    labels = [column.label for table in tables for column in table.columns]
    planned = any(run.planned is not None for run in comparison.compressed)
    words = "; ".join([*([ESTIMATES] if planned else []), legend(labels)])
    yield f"<p><small>{escape(words)}</small></p></div>"


def _paragraphs(lines: Sequence[str]) -> str:
    return "<p>" + "<br>".join(map(escape, lines)) + "</p>" if lines else ""


def _table(table: FittedTable) -> str:
    head = _cell("th", table.label, number=False) + "".join(
        _cell("th", column.label, number=column.number) for column in table.columns
    )
    body = []
    for place, (name, style) in enumerate(zip(table.names, table.styles, strict=True)):
        tag = "td" if style is None else "th"
        cells = [_cell(tag, column.cells[place], number=column.number) for column in table.columns]
        body.append(f"<tr>{_cell(tag, name, number=False)}{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cell(tag: str, text: str, *, number: bool) -> str:
    side = "right" if number else "left"
    return f'<{tag} style="text-align:{side};white-space:nowrap">{escape(text)}</{tag}>'
