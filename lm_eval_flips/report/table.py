"""Comparison -> the tables that `compare` prints."""

from __future__ import annotations

from collections.abc import Iterator
from math import isinf, isnan

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lm_eval_flips.errors import named
from lm_eval_flips.result import Comparison, Row, RunComparison

MISSING = "–"
LEGEND = (
    "C→I correct to incorrect, I→C incorrect to correct, W→W wrong to another wrong answer; "
    "flips = C→I + I→C, all flips + W→W, as shares of n. change: 95 % interval. "
    "p: exact McNemar, or t of the paired change. choice KL: mean, nats."
)


def tables(comparison: Comparison) -> Group:
    """Everything `compare` prints, from the settings that differ to the correlation over runs."""
    parts: list[RenderableType] = [
        Text.assemble("baseline    ", (comparison.baseline.model, "bold")),
    ]
    for run in comparison.compressed:
        parts += [Text(), *_run(comparison, run)]
    parts += [Text(), Text(LEGEND, style="dim")]
    if comparison.across_runs:
        parts.append(_across(comparison))
    return Group(*parts)


def _run(comparison: Comparison, run: RunComparison) -> Iterator[RenderableType]:
    yield Text.assemble("compressed  ", (run.model, "bold"))
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
    yield _table(run)
    if run.pooled.correlation is not None:
        found = run.pooled.correlation
        yield Text(
            f"choice KL and flips, sample by sample: Spearman {_number(found.flipped.statistic)}, "
            f"AUROC {_number(found.detects_flips.statistic)} (n = {found.flipped.n})"
        )


def _table(run: RunComparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("task", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for name in (
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
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in run.tasks:
        table.add_row(*_cells(row))
    table.add_section()
    for row in run.groups:
        table.add_row(*_cells(row), style="cyan")
    if len(run.tasks) > 1:
        table.add_row(*_cells(run.pooled), style="bold")
    return table


def _cells(row: Row) -> list[str]:
    flips, distances = row.flips, row.distances
    plain = row.filter in ("none", row.metric)  # the latter where tasks of several kinds are pooled
    metric = row.metric if plain else f"{row.metric},{row.filter}"
    interval = row.intervals["score_change"]
    change = _signed(row.score_change)
    if not isnan(interval.low):
        change += f" [{_signed(interval.low)}, {_signed(interval.high)}]"
    return [
        escape(row.name),
        escape(metric),
        str(row.n),
        f"{_number(row.baseline_score)} → {_number(row.compressed_score)}",
        change.replace("[", "\\["),
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
