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
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.result import Comparison, Row, RunComparison, RunSummary, TokenDistances

MISSING = "–"
PAIRED = 5  # runs of which each two are told apart in words; the JSON has them all
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
    if comparison.noise_floor is not None:
        parts.append(Text(_floor_line(comparison.noise_floor)))
    for run in comparison.compressed:
        parts += [Text(), _heading("compressed", run, path=alike), *_run(comparison, run)]
    parts += [Text(), Text(LEGEND, style="dim")]
    return Group(*parts, *_across(comparison), *_several(comparison))


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
    if (line := _direction_line(run.pooled)) is not None:
        yield Text(line)
    yield from map(Text, _excess_lines(run))
    yield from map(Text, _equivalence_lines(run))


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
    interval = row.intervals["score_change"]
    change = _signed(row.score_change)
    if not isnan(interval.low):
        change += f" [{_signed(interval.low)}, {_signed(interval.high)}]"
    return [
        row.name,
        _metric(row),
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


def _metric(row: Row) -> str:
    plain = row.filter in ("none", row.metric)  # the latter where tasks of several kinds are pooled
    return row.metric if plain else f"{row.metric},{row.filter}"


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


def _direction_line(row: Row) -> str | None:
    """Losses among flips, beside what no preference and chance would give."""
    found = row.direction
    if found is None or not found.lost + found.won:
        return None
    parts = [
        f"direction: {found.lost} of {found.lost + found.won} flips are losses, "
        f"{_percent(found.loss_share)}{_shares(row.intervals['loss_share'])}"
    ]
    if not isnan(found.random_loss_share):
        parts.append(f"at random {_percent(found.random_loss_share)}")
    rate = f"{_percent(found.negative_flip_rate)}{_shares(row.intervals['negative_flip_rate'])}"
    parts.append(f"{rate} of the baseline's correct answers lost")
    if not isnan(found.margin_change):
        low, high = row.intervals["margin_change"]
        parts.append(
            f"its answers' margin {_signed(found.margin_change)} [{_signed(low)}, {_signed(high)}]"
        )
    return ", ".join(parts)


def _shares(interval: Interval) -> str:
    return "" if isnan(interval.low) else f" [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def _floor_line(floor: RunComparison) -> str:
    """What a second run of the baseline moved."""
    row = floor.pooled
    parts = [f"{'noise floor':<12}{row.n} samples"]
    if row.flips is not None:
        parts.append(f"flips {_percent(row.flips.flips)}")
        parts.append(f"all flips {_percent(row.flips.all_flips)}")
    if row.distances is not None:
        parts.append(f"choice KL {_nats(row.distances.choice_kl.mean)}")
    if row.tokens is not None:
        parts.append(f"token KL {_nats(row.tokens.typical_kl)}")
    return ", ".join(parts)


def _excess_lines(run: RunComparison) -> Iterator[str]:
    """What the pool moved beyond the noise floor, and the tasks that stayed within it."""
    parts = []
    for name, found in run.pooled.excess.items():
        share = name.endswith("flips")
        low, high = (_points(end) if share else f"{end:+.2e}" for end in found.interval)
        excess = _points(found.excess) if share else f"{found.excess:+.2e}"
        words = ", within the noise floor" if found.within_floor else ""
        parts.append(
            f"{name.replace('_', ' ').replace('kl', 'KL')} {excess} [{low}, {high}]{words}"
        )
    if parts:
        yield f"beyond the noise floor: {'; '.join(parts)}"
    quiet = [
        f"{row.name} {_metric(row)}"
        for row in run.tasks
        if row.excess and all(found.within_floor for found in row.excess.values())
    ]
    if quiet and len(run.tasks) > 1:
        yield f"  within the noise floor: {named(quiet)}"


def _points(share: float) -> str:
    return f"{100 * share:+.2f} %"


def _equivalence_lines(run: RunComparison) -> Iterator[str]:
    """The pool's verdict in a sentence, and the tasks of each verdict."""
    found = run.pooled.equivalence
    if found is None:
        return
    low, high = found.inner
    yield (
        f"equivalence within ±{found.margin:g}: {found.sentence} (90 % interval "
        f"[{_signed(low)}, {_signed(high)}])"
    )
    verdicts: dict[str, list[str]] = {}
    for row in run.tasks:
        if row.equivalence is not None:
            verdicts.setdefault(row.equivalence.verdict, []).append(f"{row.name} {_metric(row)}")
    if len(run.tasks) > 1:
        for verdict, names in verdicts.items():
            yield f"  {verdict}: {named(names)}"


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


def _several(comparison: Comparison) -> Iterator[Text]:
    """The compressed runs against each other: who can be told apart, and who changes the same."""
    names = _distinct_names(comparison)
    ranking, overlap = comparison.ranking, comparison.overlap
    if ranking is not None:
        groups = " > ".join(
            ", ".join(f"{names[i]} {_number(ranking.scores[i])}" for i in group)
            for group in ranking.groups
        )
        alike = " (within a group not to be told apart at 5 %, Holm)"
        yield Text(f"score over {ranking.n} samples: {groups}{alike}")
    if overlap is not None:
        for i, first in enumerate(names if len(names) <= PAIRED else ()):
            for j in range(i + 1, len(names)):
                yield Text(
                    f"changed by {first} and {names[j]}: {overlap.common[i][j]} of "
                    f"{overlap.common[i][i]} and {overlap.common[j][j]}, by chance "
                    f"{overlap.expected(i, j):.1f}; overlap {_number(overlap.coefficient(i, j))}, "
                    f"Jaccard {_number(overlap.jaccard(i, j))}"
                )
        if len(names) > 2:
            yield Text(f"changed by all: {overlap.by_all}, by any: {overlap.by_any}")


def _distinct_names(comparison: Comparison) -> list[str]:
    """Each run's model by its last name, or its path where models are alike."""
    names = [run.model.rstrip("/").rsplit("/", 1)[-1] for run in comparison.compressed]
    paths = [run.path for run in comparison.compressed]
    return names if len(set(names)) == len(names) else paths


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
