"""Comparison -> the sentences that stand above and below a table."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Comparison, Row, RunComparison
from lm_eval_flips.errors import named
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.measures.tokens import TokenDistances
from lm_eval_flips.report.names import run_names
from lm_eval_flips.report.text.numbers import (
    nats,
    number,
    p_value,
    percent,
    points,
    signed,
    signed_nats,
)

LEVEL = 0.05
WORSE = "worse than the baseline: one-sided p"
PAIRED = 5  # runs of which each two are told apart in words; the JSON has them all


def run_lines(run: RunComparison) -> Iterator[str]:
    """What is said below a run's table, line by line."""
    yield from _correlation_lines(run.pooled)
    if run.pooled.tokens is not None:
        yield _token_line(run.pooled.tokens)
    if (line := _direction_line(run.pooled)) is not None:
        yield line
    yield from _excess_lines(run)
    yield from _equivalence_lines(run)
    yield from _loss_lines(run)


def _correlation_lines(row: Row) -> Iterator[str]:
    tokens = row.tokens
    for name, found in (
        ("choice KL", row.correlation),
        ("token KL", None if tokens is None else tokens.correlation),
    ):
        if found is not None:
            yield (
                f"{name} and flips, sample by sample: AUROC "
                f"{number(found.detects_flips.statistic)}, Spearman "
                f"{number(found.flipped.statistic)} (n = {found.flipped.n})"
            )


def _token_line(tokens: TokenDistances) -> str:
    """What the vocabulary says beside KL; medians tell what a few bad positions hide in a mean."""
    kl, first = tokens.token_kl, tokens.token_kl.first_position_mean
    parts = [f"over the vocabulary: {kl.positions} positions of {kl.requests} requests"]
    if tokens.top is not None:
        parts.append(f"lower bounds from the {tokens.top} likeliest tokens")
    parts.append(f"KL at the first position {nats(first)}")
    if isnan(kl.median):
        parts.append("others were not recorded")
    else:
        parts.append(f"median {nats(kl.median)}, p99 {nats(kl.p99)}, max {nats(kl.max)}")
    same = tokens.same_top.first_position_mean if isnan(kl.mean) else tokens.same_top.mean
    return ", ".join([*parts, f"same top token {percent(same)}"])


def _direction_line(row: Row) -> str | None:
    """Losses among flips, beside what no preference and chance would give."""
    found = row.direction
    if found is None or not found.lost + found.won:
        return None
    parts = [
        f"direction: {found.lost} of {found.lost + found.won} flips are losses, "
        f"{percent(found.loss_share)}{_shares(row.intervals['loss_share'])}"
    ]
    if not isnan(found.random_loss_share):
        parts.append(f"noise alone would give {percent(found.random_loss_share)}")
    rate = f"{percent(found.negative_flip_rate)}{_shares(row.intervals['negative_flip_rate'])}"
    parts.append(f"{rate} of the baseline's correct answers lost")
    if not isnan(found.margin_change):
        low, high = row.intervals["margin_change"]
        parts.append(
            f"its answers' margin {signed(found.margin_change)} [{signed(low)}, {signed(high)}]"
        )
    return ", ".join(parts)


def _shares(interval: Interval) -> str:
    return "" if isnan(interval.low) else f" [{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def floor_lines(comparison: Comparison) -> Iterator[str]:
    """What a second run of the baseline moved: of the very samples that the runs are told of."""
    floor = comparison.noise_floor
    if floor is None:
        return
    told: dict[str, list[str]] = {}
    for name, run in zip(run_names(comparison), comparison.compressed, strict=True):
        told.setdefault(_floor_beside(floor.pooled, run.pooled), []).append(name)
    for words, names in told.items():
        whose = f" (beside {named(names, shown=3)})" if len(told) > 1 else ""
        yield f"{'noise floor':<12}{words}{whose}"


def _floor_beside(floor: Row, row: Row) -> str:
    """The floor's numbers, over the samples that it shares with a run where these are fewer."""
    held = row.excess
    if held and (n := max(own.n for own in held.values())) < floor.n:
        parts = [f"{n} samples that the run shares"]
        parts += [_shown_floor(key, own.floor) for key, own in held.items()]
        return ", ".join(parts)
    others = "" if held or row.n == floor.n else " (other than the run's: not held against it)"
    parts = [f"{floor.n} samples{others}"]
    if floor.flips is not None:
        parts.append(_shown_floor("flips", floor.flips.flips))
        parts.append(_shown_floor("all_flips", floor.flips.all_flips))
    if floor.distances is not None:
        parts.append(_shown_floor("choice_kl", floor.distances.choice_kl.mean))
    if floor.tokens is not None:
        parts.append(_shown_floor("token_kl", floor.tokens.token_kl.typical))
    return ", ".join(parts)


def _shown_floor(key: str, value: float) -> str:
    show = percent if key.endswith("flips") else nats
    return f"{key.replace('_', ' ').replace('kl', 'KL')} {show(value)}"


def _excess_lines(run: RunComparison) -> Iterator[str]:
    """What the pool moved beyond the noise floor, and the tasks that stayed within it."""
    parts = []
    for name, found in run.pooled.excess.items():
        shown = points if name.endswith("flips") else signed_nats
        low, high = map(shown, found.interval)
        words = f", not told apart from it (n = {found.n})" if found.within_floor else ""
        if found.verdict == "at most twice":
            words = ", at most twice the noise floor"
        parts.append(
            f"{name.replace('_', ' ').replace('kl', 'KL')} {shown(found.excess)} "
            f"[{low}, {high}]{words}"
        )
    if parts:
        yield f"beyond the noise floor: {'; '.join(parts)}"
    quiet = [
        f"{row.name} {metric_name(row)}"
        for row in run.tasks
        if row.excess and all(found.within_floor for found in row.excess.values())
    ]
    if quiet and len(run.tasks) > 1:
        yield f"  not told apart from the noise floor: {named(quiet)}"


def _equivalence_lines(run: RunComparison) -> Iterator[str]:
    """The pool's verdict in a sentence, and the tasks of each verdict."""
    found = run.pooled.equivalence
    if found is None:
        return
    low, high = found.inner
    yield (
        f"equivalence within ±{found.margin:g}: {found.sentence} (90 % interval "
        f"[{signed(low)}, {signed(high)}])"
    )
    verdicts: dict[str, list[str]] = {}
    for row in run.tasks:
        if row.equivalence is not None:
            verdicts.setdefault(row.equivalence.verdict, []).append(
                f"{row.name} {metric_name(row)}"
            )
    if len(run.tasks) > 1:
        for verdict, names in verdicts.items():
            yield f"  {verdict}: {named(names)}"


def _loss_lines(run: RunComparison) -> Iterator[str]:
    """One-sided: did the score get worse, over all tasks; and which tasks changed, by Holm."""
    found = run.decisions
    if found is None or isnan(found.pooled):
        return
    if not found.n:
        yield f"{WORSE} of all samples pooled {p_value(found.pooled)}"
        return
    where = "" if found.largest_task is None else f" ({found.largest_task})"
    yield (
        f"{WORSE} of all samples pooled {p_value(found.pooled)}; of the {found.n} "
        f"task{'s' * (found.n != 1)} that changed, by Fisher {p_value(found.fisher)}, "
        f"by the largest loss {p_value(found.largest)}{where}"
    )
    changed = [f"{row.name} {p_value(row.p_holm)}" for row in run.tasks if row.p_holm < LEVEL]
    if changed:
        yield f"  changed at 5 % over all tasks (Holm): {named(changed, shown=8)}"


def several_lines(comparison: Comparison) -> Iterator[str]:
    """Which samples the compressed runs changed alike."""
    names, overlap = run_names(comparison), comparison.overlap
    if overlap is None:
        return
    for i, first in enumerate(names if len(names) <= PAIRED else ()):
        for j in range(i + 1, len(names)):
            yield (
                f"changed by {first} and {names[j]}: {overlap.common[i][j]} of "
                f"{overlap.common[i][i]} and {overlap.common[j][j]}, by chance "
                f"{overlap.expected(i, j):.1f}; overlap {number(overlap.coefficient(i, j))}, "
                f"Jaccard {number(overlap.jaccard(i, j))}"
            )
    if len(names) > 2:
        yield f"changed by all: {overlap.by_all}, by any: {overlap.by_any}"


def metric_name(row: Row | PlannedRow) -> str:
    """A row's metric, with its filter where there is one to tell."""
    plain = row.filter in ("none", row.metric)  # the latter where tasks of several kinds are pooled
    return row.metric if plain else f"{row.metric},{row.filter}"
