"""Comparison -> the tables that `compare` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isnan

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lm_eval_flips.errors import named
from lm_eval_flips.report.numbers import MISSING, nats, number, p_value, percent, signed
from lm_eval_flips.report.sentences import (
    across_lines,
    floor_line,
    metric_name,
    run_lines,
    several_lines,
)
from lm_eval_flips.result import (
    Comparison,
    Row,
    RunComparison,
    RunSummary,
)

NARROWEST = 5  # cells of a name in a narrow terminal
WIDEST = 10_000
# Where the cells of a narrow table may be broken, the first of these that makes it fit.
BREAKS: tuple[Mapping[str, str], ...] = (
    {},
    {" [": "\n["},
    {" [": "\n[", "→ ": "→\n"},
    {" [": "\n[", "→ ": "→\n", ", ": ",\n"},
)
COLUMNS = (
    "task",
    "metric",
    "n",
    "score",
    "change",
    "p",
    "flips",
    "all flips",
    "C→I",
    "I→C",
    "W→W",
    "choice KL",
)
LEGEND = (
    "C→I correct to incorrect, I→C incorrect to correct, W→W wrong to another wrong answer; "
    "flips = C→I + I→C, all flips + W→W, as shares of n. change: 95 % interval. "
    "p: exact McNemar, a permutation test or t of the paired change. choice KL: mean over the "
    "choices, token KL over the vocabulary, nats."
)


class Rows:
    """The rows of a compressed run as a table whose numbers are whole at any width.

    In a terminal that is narrower than the table, intervals and scores are broken over lines, then
    names; where that is not enough, the table is wider than the terminal.
    """

    def __init__(self, run: RunComparison) -> None:
        self._run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table with as few broken lines as its width allows."""
        unbounded = options.update(max_width=WIDEST)
        for breaks in BREAKS:
            table = _table(self._run, breaks)
            if Measurement.get(console, unbounded, table).maximum <= options.max_width:
                break
        least = sum((column.min_width or 0) + _gap(breaks) for column in table.columns)
        yield from console.render(table, options.update(max_width=max(options.max_width, least)))


def tables(comparison: Comparison) -> Group:
    """Everything `compare` prints, from the settings that differ to the correlation over runs."""
    models = [comparison.baseline.model, *(run.model for run in comparison.compressed)]
    alike = len(set(models)) < len(models)
    parts: list[RenderableType] = [_heading("baseline", comparison.baseline, path=alike)]
    if comparison.noise_floor is not None:
        parts.append(Text(floor_line(comparison.noise_floor)))
    for run in comparison.compressed:
        parts += [Text(), _heading("compressed", run, path=alike), *_run(comparison, run)]
    parts += [Text(), Text(LEGEND, style="dim")]
    return Group(*parts, *map(Text, (*across_lines(comparison), *several_lines(comparison))))


def _heading(role: str, run: RunSummary | RunComparison, *, path: bool) -> Text:
    # a local model is logged by its whole path
    name = run.model.rstrip("/").rsplit("/", 1)[-1] if run.model.startswith("/") else run.model
    return Text.assemble(f"{role:<12}", (name, "bold"), (f"  {run.path}" if path else "", "dim"))


def _run(comparison: Comparison, run: RunComparison) -> Iterator[RenderableType]:
    differing = [d for d in comparison.settings_that_differ if d.run == run.path]
    if differing:
        listing = ", ".join(
            f"{d.setting} {d.baseline!s:.40} → {d.compressed!s:.40}" for d in differing
        )
        yield Text(f"settings that differ: {listing}", style="yellow")
    for dropped in run.dropped:
        why = "; ".join(
            f"{reason}: doc {named(list(docs))}" for reason, docs in dropped.reasons.items()
        )
        yield Text(
            f"LEFT OUT {dropped.count} samples of {dropped.task} ({dropped.filter}): {why}",
            style="bold red",
        )
    if run.not_compared:
        yield Text(f"only in one run: {named(list(run.not_compared), shown=8)}", style="yellow")
    if run.tokens_left_out is not None:
        yield Text(f"no token KL: {run.tokens_left_out}", style="yellow")
    yield Rows(run)
    yield from map(Text, run_lines(run))


def _table(run: RunComparison, breaks: Mapping[str, str]) -> Table:
    padding = (0, _gap(breaks), 0, 0)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=padding)
    columns = columns_of(run)
    rows = [row_cells(row)[: len(columns)] for row in (*run.tasks, *run.groups, run.pooled)]
    for old, new in breaks.items():
        rows = [[cell.replace(old, new) for cell in cells] for cells in rows]
    for place, name in enumerate(columns):
        number = place >= columns.index("n")
        lines = [line for cells in rows for line in cells[place].split("\n")]
        whole = max(cell_len(text) for text in (*name.split(), *lines))
        table.add_column(
            name,
            justify="right" if number else "left",
            overflow="fold",
            min_width=whole if number else min(whole, NARROWEST),
        )
    styles = [None] * len(run.tasks) + ["cyan"] * len(run.groups) + ["bold"]
    for cells, style in zip(rows, styles, strict=True):
        if style != "bold" or len(run.tasks) > 1:
            table.add_row(*map(escape, cells), style=style)
    return table


def columns_of(run: RunComparison) -> tuple[str, ...]:
    """The columns of a run's table."""
    return (*COLUMNS, *_token_column(run))


def _token_column(run: RunComparison) -> tuple[str, ...]:
    """The column of the distance over the vocabulary, where it was measured anywhere."""
    found = [row.tokens for row in (*run.tasks, *run.groups, run.pooled) if row.tokens is not None]
    if not found:
        return ()
    return ("token KL",) if all(own.top is None for own in found) else ("token KL ≥",)


def _gap(breaks: Mapping[str, str]) -> int:
    return 1 if breaks else 2


def row_cells(row: Row) -> list[str]:
    """A row's cells, in the order of the columns; the last of a table without token KL is cut."""
    flips, distances = row.flips, row.distances
    interval = row.intervals["score_change"]
    change = signed(row.score_change)
    if not isnan(interval.low):
        change += f" [{signed(interval.low)}, {signed(interval.high)}]"
    return [
        row.name,
        metric_name(row),
        str(row.n),
        f"{number(row.baseline_score)} → {number(row.compressed_score)}",
        change,
        p_value(row.p_value),
        percent(flips.flips) if flips else MISSING,
        percent(flips.all_flips) if flips else MISSING,
        str(flips.correct_to_incorrect) if flips else MISSING,
        str(flips.incorrect_to_correct) if flips else MISSING,
        MISSING if flips is None or flips.wrong_to_wrong is None else str(flips.wrong_to_wrong),
        nats(distances.choice_kl.mean) if distances else MISSING,
        MISSING if row.tokens is None else nats(row.tokens.typical_kl),
    ]
