"""Comparison -> the tables that `compare` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isinf, isnan

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lm_eval_flips.errors import named
from lm_eval_flips.result import Comparison, Row, RunComparison, RunSummary

MISSING = "–"
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
    "p: exact McNemar, or t of the paired change. choice KL: mean, nats."
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
    for run in comparison.compressed:
        parts += [Text(), _heading("compressed", run, path=alike), *_run(comparison, run)]
    parts += [Text(), Text(LEGEND, style="dim")]
    if comparison.across_runs:
        parts.append(_across(comparison))
    return Group(*parts)


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
    yield Rows(run)
    if run.pooled.correlation is not None:
        found = run.pooled.correlation
        yield Text(
            f"choice KL and flips, sample by sample: Spearman {_number(found.flipped.statistic)}, "
            f"AUROC {_number(found.detects_flips.statistic)} (n = {found.flipped.n})"
        )


def _table(run: RunComparison, breaks: Mapping[str, str]) -> Table:
    padding = (0, _gap(breaks), 0, 0)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=padding)
    rows = [_cells(row) for row in (*run.tasks, *run.groups, run.pooled)]
    for old, new in breaks.items():
        rows = [[cell.replace(old, new) for cell in cells] for cells in rows]
    for place, name in enumerate(COLUMNS):
        number = place >= COLUMNS.index("n")
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


def _gap(breaks: Mapping[str, str]) -> int:
    return 1 if breaks else 2


def _cells(row: Row) -> list[str]:
    flips, distances = row.flips, row.distances
    plain = row.filter in ("none", row.metric)  # the latter where tasks of several kinds are pooled
    metric = row.metric if plain else f"{row.metric},{row.filter}"
    interval = row.intervals["score_change"]
    change = _signed(row.score_change)
    if not isnan(interval.low):
        change += f" [{_signed(interval.low)}, {_signed(interval.high)}]"
    return [
        row.name,
        metric,
        str(row.n),
        f"{_number(row.baseline_score)} → {_number(row.compressed_score)}",
        change,
        _p(row.p_value),
        _percent(flips.flips) if flips else MISSING,
        _percent(flips.all_flips) if flips else MISSING,
        str(flips.correct_to_incorrect) if flips else MISSING,
        str(flips.incorrect_to_correct) if flips else MISSING,
        MISSING if flips is None or flips.wrong_to_wrong is None else str(flips.wrong_to_wrong),
        _nats(distances.choice_kl.mean) if distances else MISSING,
    ]


def _across(comparison: Comparison) -> Text:
    found = comparison.across_runs.get("pooled")
    if found is None:
        return Text()
    low, high = found.interval()
    interval = "" if isnan(low) else f" [{low:.3f}, {high:.3f}]"
    return Text(
        f"choice KL and flips over {found.n} compressed runs: Spearman {_number(found.statistic)}"
        f"{interval}"
    )


def _number(value: float) -> str:
    if isnan(value):
        return MISSING
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def _signed(value: float) -> str:
    return f"{value:+.4f}" if abs(value) < 1000 else f"{value:+.4g}"


def _percent(share: float) -> str:
    return MISSING if isnan(share) else f"{100 * share:.2f} %"


def _nats(value: float) -> str:
    if isnan(value):
        return MISSING
    if isinf(value) or value == 0:
        return str(value)
    return f"{value:.4f}" if value >= 0.01 else f"{value:.2e}"


def _p(value: float) -> str:
    if isnan(value):
        return MISSING
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
