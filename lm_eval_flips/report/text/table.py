"""Comparison -> the tables that `compare` prints."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

from rich.console import Group, RenderableType
from rich.text import Text

from lm_eval_flips.comparison.result import (
    Comparison,
    Row,
    RunComparison,
    RunSummary,
)
from lm_eval_flips.errors import named
from lm_eval_flips.report.text.numbers import MISSING, nats, number, p_value, percent, signed
from lm_eval_flips.report.text.planned import LEGEND as PLANNED_LEGEND
from lm_eval_flips.report.text.planned import planned_lines, planned_table
from lm_eval_flips.report.text.sentences import (
    across_lines,
    floor_line,
    metric_name,
    run_lines,
    several_lines,
)
from lm_eval_flips.report.text.whole_table import WholeTable

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


def tables(comparison: Comparison) -> Group:
    """Everything `compare` prints, from the settings that differ to the correlation over runs."""
    models = [comparison.baseline.model, *(run.model for run in comparison.compressed)]
    alike = len(set(models)) < len(models)
    parts: list[RenderableType] = [_heading("baseline", comparison.baseline, path=alike)]
    if comparison.noise_floor is not None:
        parts.append(Text(floor_line(comparison.noise_floor)))
    for run in comparison.compressed:
        parts += [Text(), _heading("compressed", run, path=alike), *_run(comparison, run)]
    parts += [Text(), Text(legend(comparison), style="dim")]
    return Group(*parts, *map(Text, (*across_lines(comparison), *several_lines(comparison))))


def legend(comparison: Comparison) -> str:
    """What the columns are."""
    planned = any(run.planned is not None for run in comparison.compressed)
    return PLANNED_LEGEND if planned else LEGEND


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
    yield run_table(run)
    yield from map(Text, lines_below(run))


def run_table(run: RunComparison) -> WholeTable:
    """A run's rows, or a plan's estimates where the run is of its samples."""
    if run.planned is not None:
        return planned_table(run.planned)
    columns = (*COLUMNS, *_token_column(run))
    rows = [*run.tasks, *run.groups, run.pooled]
    styles: list[str | None] = [None] * len(run.tasks)
    styles += ["cyan"] * len(run.groups) + ["bold"]
    if len(run.tasks) == 1:
        rows, styles = rows[:-1], styles[:-1]  # the pool is the task
    return WholeTable(
        columns=columns,
        rows=[row_cells(row)[: len(columns)] for row in rows],
        styles=styles,
        numbers=columns.index("n"),
    )


def lines_below(run: RunComparison) -> Iterator[str]:
    """What is said below a run's table."""
    return run_lines(run) if run.planned is None else planned_lines(run.planned)


def _token_column(run: RunComparison) -> tuple[str, ...]:
    """The column of the distance over the vocabulary, where it was measured anywhere."""
    found = [row.tokens for row in (*run.tasks, *run.groups, run.pooled) if row.tokens is not None]
    if not found:
        return ()
    return ("token KL",) if all(own.top is None for own in found) else ("token KL ≥",)


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
        MISSING if row.tokens is None else nats(row.tokens.token_kl.typical),
    ]
