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
from lm_eval_flips.result import Comparison, Row, RunComparison, RunSummary, TokenDistances

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
    "p: exact McNemar, or t of the paired change. choice KL: mean over the choices, token KL over "
    "the vocabulary, nats."
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
    return Group(*parts, *_across(comparison))


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
    tokens = run.pooled.tokens
    for name, found in (
        ("choice KL", run.pooled.correlation),
        ("token KL", None if tokens is None else tokens.correlation),
    ):
        if found is not None:
            yield Text(
                f"{name} and flips, sample by sample: Spearman "
                f"{_number(found.flipped.statistic)}, AUROC "
                f"{_number(found.detects_flips.statistic)} (n = {found.flipped.n})"
            )
    if tokens is not None:
        yield Text(_token_line(tokens))


def _table(run: RunComparison, breaks: Mapping[str, str]) -> Table:
    padding = (0, _gap(breaks), 0, 0)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=padding)
    columns = (*COLUMNS, *_token_column(run))
    rows = [_cells(row)[: len(columns)] for row in (*run.tasks, *run.groups, run.pooled)]
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


def _token_column(run: RunComparison) -> tuple[str, ...]:
    """The column of the distance over the vocabulary, where it was measured anywhere."""
    found = [row.tokens for row in (*run.tasks, *run.groups, run.pooled) if row.tokens is not None]
    if not found:
        return ()
    return ("token KL",) if all(own.top is None for own in found) else ("token KL ≥",)


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
        MISSING if row.tokens is None else _nats(row.tokens.typical_kl),
    ]


def _token_line(tokens: TokenDistances) -> str:
    """What the vocabulary says beside KL; medians tell what a few bad positions hide in a mean."""
    kl, first = tokens.token_kl, tokens.token_kl.first_position_mean
    parts = [f"over the vocabulary: {kl.positions} positions of {kl.requests} requests"]
    if tokens.top is not None:
        parts.append(f"lower bounds from the {tokens.top} likeliest tokens")
    parts.append(f"KL at the first position {_nats(first)}")
    if isnan(kl.median):
        parts.append("others were not recorded")
    else:
        parts.append(f"median {_nats(kl.median)}, p99 {_nats(kl.p99)}, max {_nats(kl.max)}")
    same = tokens.same_top.first_position_mean if isnan(kl.mean) else tokens.same_top.mean
    return ", ".join([*parts, f"same top token {_percent(same)}"])


def _across(comparison: Comparison) -> Iterator[Text]:
    for name, by_task in (
        ("choice KL", comparison.across_runs),
        ("token KL", comparison.across_runs_token_kl),
    ):
        if (found := by_task.get("pooled")) is not None:
            low, high = found.interval()
            interval = "" if isnan(low) else f" [{low:.3f}, {high:.3f}]"
            yield Text(
                f"{name} and flips over {found.n} compressed runs: Spearman "
                f"{_number(found.statistic)}{interval}"
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
