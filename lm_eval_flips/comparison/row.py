"""Paired metrics -> one Row: every measure of a task, of a group, or of all tasks pooled.

Everything that follows the samples is computed here, once: what is shown of a row is only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log, nan

import torch

from lm_eval_flips.comparison.numbers import HELD, MEANS, MEDIANS
from lm_eval_flips.comparison.result import Row
from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.measures.correlation import SampleCorrelation
from lm_eval_flips.measures.direction import Direction, direction
from lm_eval_flips.measures.divergence import summarise_distances, together
from lm_eval_flips.measures.equivalence import Equivalence
from lm_eval_flips.measures.flips import Flips, count_flips
from lm_eval_flips.measures.noise_direction import NoiseFlips
from lm_eval_flips.measures.perplexity import (
    PerplexityChange,
    loss_residuals,
    perplexity_change,
)
from lm_eval_flips.measures.tokens import TokenDistances, TokenSummary, summarise_tokens
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.change_test import ChangeTest, change_test, direction_test
from lm_eval_flips.uncertainty.correlations import (
    correlation_intervals,
    related,
    sample_correlation,
)
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.intervals import (
    distance_intervals,
    flip_intervals,
    margin_change_interval,
    score_interval,
    score_intervals,
)
from lm_eval_flips.uncertainty.margins import row_margins
from lm_eval_flips.uncertainty.noise_floor import excesses
from lm_eval_flips.uncertainty.recovery import recovery
from lm_eval_flips.uncertainty.requests import KEYS, token_intervals
from lm_eval_flips.uncertainty.row_errors import RowErrors
from lm_eval_flips.uncertainty.score import ScoreValues, score_values
from lm_eval_flips.uncertainty.written import row_means

MIXED = "mixed"


def measure(
    metrics: Sequence[PairedMetric],
    *,
    name: str,
    margin: float | None = None,
    floors: Sequence[PairedMetric] = (),
    bootstrap: Bootstrap | None = None,
) -> Row:
    """Measure one metric of one task, or pool the metrics of several tasks.

    Args:
        metrics: one for a task; the tasks' own for a group or the pool, every sample counting once.
        name: the row's name.
        margin: how far scores may differ and be equivalent; None if that is not asked.
        floors: the same metrics of the baseline's second run, in the same order; none without one.
        bootstrap: how to draw for the intervals of distances; None for the usual intervals.
    """
    errors = RowErrors(metrics)
    flips = _flips(metrics)
    perplexity = _perplexity(metrics, errors.whole)
    whole = together([m.divergence for m in metrics if m.divergence is not None])
    margins, margin_intervals = row_margins(metrics, errors)
    correlation = _correlation(metrics, errors)
    tokens = _tokens(metrics, errors)
    means, mean_intervals = row_means(metrics, errors, MEANS, MEDIANS)
    score = score_values(metrics)
    change = score.change
    before, after = _scores(metrics, score, perplexity)
    test = change_test(errors.whole, flips, perplexity)
    of_score = score_intervals(errors.whole, change, flips, perplexity, test.two_sided)
    kept, kept_intervals = recovery(errors.whole, of_score["score_change"])
    row = Row(
        name=name,
        filter=common([m.pairs.filter for m in metrics]),
        metric=common([m.metric for m in metrics]),
        n=sum(len(m.rows) for m in metrics),
        baseline_score=before,
        compressed_score=after,
        score_change=after - before,
        higher_is_better=score.higher_is_better,
        flips=flips,
        direction=None,
        distances=summarise_distances(whole) if whole else None,
        tokens=tokens,
        margins=margins,
        correlation=correlation,
        perplexity=perplexity,
        equivalence=None
        if margin is None or perplexity  # whose change is a ratio
        else _equivalence(errors.whole, change, flips, after - before, margin, test),
        means={**means, **kept},
        excess=excesses(metrics, floors, HELD) if floors else {},
        intervals={
            **of_score,
            **margin_change_interval(metrics, errors),
            **distance_intervals(metrics, errors, whole, bootstrap),
            **token_intervals(metrics, errors, bootstrap),
            **margin_intervals,
            **correlation_intervals(correlation, "choice_kl"),
            **correlation_intervals(None if tokens is None else tokens.correlation, "token_kl"),
            **mean_intervals | kept_intervals,
        },
        error_method=errors.whole.method,
        test=test.method,
        p_value=test.two_sided,
        p_loss=test.loss,
        p_holm=nan,
        tested=test,
    )
    return _with_direction(row, flips, metrics, errors.whole, test)


def _with_direction(
    row: Row, flips: Flips | None, metrics: Sequence[PairedMetric], errors: Errors, test: ChangeTest
) -> Row:
    """The row with what only answers that are right or wrong have, where they are."""
    if flips is None:
        return row
    way = _direction(metrics)
    tested = direction_test(errors, way, test)
    return replace(
        row,
        direction=way,
        intervals={**row.intervals, **flip_intervals(errors, flips)},
        p_no_preference=tested.no_preference,
        p_random=tested.random,
    )


def common(names: Sequence[str]) -> str:
    """What all are called, or "mixed"."""
    return names[0] if len(set(names)) == 1 else MIXED


def _scores(
    metrics: Sequence[PairedMetric], score: ScoreValues, perplexity: PerplexityChange | None
) -> tuple[float, float]:
    if perplexity is None:
        before, after = torch.cat(score.baseline), torch.cat(score.compressed)
        return float(before.mean()), float(after.mean())
    if metrics[0].metric == "bits_per_byte":
        return perplexity.baseline_loss / log(2), perplexity.compressed_loss / log(2)
    return perplexity.baseline_perplexity, perplexity.compressed_perplexity


def _flips(metrics: Sequence[PairedMetric]) -> Flips | None:
    before = [m.baseline_correct for m in metrics if m.baseline_correct is not None]
    after = [m.compressed_correct for m in metrics if m.compressed_correct is not None]
    if len(before) < len(metrics):
        return None
    changed = [m.changed for m in metrics if m.changed is not None]
    return count_flips(
        baseline_correct=torch.cat(before),
        compressed_correct=torch.cat(after),
        changed=torch.cat(changed) if len(changed) == len(metrics) else None,
        closed=all(m.baseline_answer is not None for m in metrics),
    )


def _equivalence(
    errors: Errors,
    changes: Sequence[torch.Tensor],
    flips: Flips | None,
    change: float,
    margin: float,
    test: ChangeTest,
) -> Equivalence:
    return Equivalence(
        margin=margin,
        change=change,
        inner=score_interval(errors, changes, flips, test.two_sided, level=0.9),
        outer=score_interval(errors, changes, flips, test.two_sided),
        p_value=test.two_sided,
    )


def _direction(metrics: Sequence[PairedMetric]) -> Direction:
    before = [m.baseline_correct for m in metrics if m.baseline_correct is not None]
    after = [m.compressed_correct for m in metrics if m.compressed_correct is not None]
    noise = [m.noise for m in metrics if m.noise is not None]
    changes = [m.margin_change for m in metrics if m.margin_change is not None]
    return direction(
        baseline_correct=torch.cat(before),
        compressed_correct=torch.cat(after),
        random_loss_share=NoiseFlips(
            lost=sum(own.lost for own in noise), won=sum(own.won for own in noise)
        ).loss_share
        if len(noise) == len(metrics)
        else nan,
        margin_change=torch.cat(changes) if changes else None,
    )


def _correlation(metrics: Sequence[PairedMetric], errors: RowErrors) -> SampleCorrelation | None:
    distances = [None if m.divergence is None else m.divergence.kl for m in metrics]
    return sample_correlation(list(map(related, metrics, distances)), errors)


def _tokens(metrics: Sequence[PairedMetric], errors: RowErrors) -> TokenDistances | None:
    measured = [m.tokens for m in metrics if m.tokens is not None]
    if not measured:
        return None
    counts = torch.cat([tokens.counts for tokens in measured])
    first_only = any(tokens.first_only for tokens in measured)

    def summary(name: str) -> TokenSummary:
        values = torch.cat([tokens.values[name] for tokens in measured])
        return summarise_tokens(values.double(), counts, first_only=first_only)

    tops = {tokens.top for tokens in measured}
    return TokenDistances(
        n=sum(len(m.rows) for m in metrics if m.tokens is not None),
        **{key: summary(name) for name, (key, _) in KEYS.items()},
        # where tasks were bounded differently, the coarsest bound says what the pool is worth
        top=None if tops == {None} else min(top for top in tops if top is not None),
        correlation=sample_correlation([related(m, m.token_kl) for m in metrics], errors),
    )


def _perplexity(metrics: Sequence[PairedMetric], errors: Errors) -> PerplexityChange | None:
    units = [m.units for m in metrics if m.units is not None]
    if len(units) < len(metrics) or len({m.metric for m in metrics}) > 1:
        return None
    before = torch.cat([m.baseline_value for m in metrics])
    after = torch.cat([m.compressed_value for m in metrics])
    whole = torch.cat(units)
    change = perplexity_change(baseline=before, compressed=after, units=whole)
    residuals = loss_residuals(baseline=before, compressed=after, units=whole)
    error, freedom = errors.of(torch.split(residuals, [len(of_task) for of_task in units]))
    scale = len(whole) / float(whole.sum()) if whole.any() else nan
    return replace(change, standard_error=error * scale, freedom=freedom)
