"""Paired metrics -> one Row: every measure of a task, of a group, or of all tasks pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log, nan

import torch
from torch import Tensor

from lm_eval_flips.comparison.result import Distances, Row, SampleCorrelation, TokenDistances
from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.measures.correlation import auroc, spearman
from lm_eval_flips.measures.direction import Direction, direction
from lm_eval_flips.measures.divergence import summarise
from lm_eval_flips.measures.equivalence import Equivalence
from lm_eval_flips.measures.flips import Flips, count_flips
from lm_eval_flips.measures.margin import Margins, margins
from lm_eval_flips.measures.perplexity import (
    PerplexityChange,
    loss_residuals,
    perplexity_change,
)
from lm_eval_flips.measures.tokens import TokenSummary, summarise_tokens
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.change_test import change_test
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.intervals import intervals, score_interval, token_intervals
from lm_eval_flips.uncertainty.noise_floor import excesses

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
    errors = Errors(metrics)
    flips = _flips(metrics)
    distances = _distances(metrics)
    tokens = _tokens(metrics)
    perplexity = _perplexity(metrics, errors)
    before, after = _scores(metrics, perplexity)
    test = change_test(errors, flips, perplexity)
    way = None if flips is None else _direction(metrics)
    return Row(
        name=name,
        filter=_common([m.pairs.filter for m in metrics]),
        metric=_common([m.metric for m in metrics]),
        n=sum(len(m.rows) for m in metrics),
        baseline_score=before,
        compressed_score=after,
        score_change=after - before,
        higher_is_better=all(m.higher_is_better for m in metrics),
        flips=flips,
        direction=way,
        distances=distances,
        tokens=tokens,
        margins=_margins(metrics),
        correlation=_correlation(metrics),
        perplexity=perplexity,
        equivalence=None
        if margin is None or perplexity is not None
        else _equivalence(errors, flips, after - before, margin),
        excess=excesses(metrics, floors) if floors else {},
        intervals=intervals(errors, flips, distances, perplexity, bootstrap)
        | token_intervals(metrics, bootstrap),
        error_method=errors.method,
        test=test.method,
        p_value=test.two_sided,
        p_loss=test.loss,
        p_holm=nan,
        p_no_preference=nan if way is None else way.p_no_preference(),
        p_random=nan if way is None else way.p_random(),
    )


def _common(names: Sequence[str]) -> str:
    return names[0] if len(set(names)) == 1 else MIXED


def _scores(
    metrics: Sequence[PairedMetric], perplexity: PerplexityChange | None
) -> tuple[float, float]:
    if perplexity is None:
        before = torch.cat([m.baseline_value for m in metrics])
        after = torch.cat([m.compressed_value for m in metrics])
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


def _equivalence(errors: Errors, flips: Flips | None, change: float, margin: float) -> Equivalence:
    return Equivalence(
        margin=margin,
        change=change,
        inner=score_interval(errors, flips, level=0.9),
        outer=score_interval(errors, flips),
    )


def _direction(metrics: Sequence[PairedMetric]) -> Direction:
    before = [m.baseline_correct for m in metrics if m.baseline_correct is not None]
    after = [m.compressed_correct for m in metrics if m.compressed_correct is not None]
    choices = [m.choices for m in metrics if m.choices is not None]
    changes = [m.margin_change for m in metrics if m.margin_change is not None]
    return direction(
        baseline_correct=torch.cat(before),
        compressed_correct=torch.cat(after),
        choices=torch.cat(choices) if len(choices) == len(metrics) else None,
        margin_change=torch.cat(changes) if changes else None,
    )


def _distances(metrics: Sequence[PairedMetric]) -> Distances | None:
    found = [m.divergence for m in metrics if m.divergence is not None]
    if not found:
        return None
    return Distances(
        n=sum(d.kl.numel() for d in found),
        choice_kl=summarise(torch.cat([d.kl for d in found])),
        choice_kl_reverse=summarise(torch.cat([d.reverse_kl for d in found])),
        jensen_shannon=summarise(torch.cat([d.jensen_shannon for d in found])),
        total_variation=summarise(torch.cat([d.total_variation for d in found])),
    )


def _tokens(metrics: Sequence[PairedMetric]) -> TokenDistances | None:
    found = [m.tokens for m in metrics if m.tokens is not None]
    if not found:
        return None
    counts = torch.cat([own.counts for own in found])
    first_only = any(own.first_only for own in found)

    def summary(name: str) -> TokenSummary:
        values = torch.cat([own.values[name] for own in found])
        return summarise_tokens(values.double(), counts, first_only=first_only)

    tops = {own.top for own in found}
    return TokenDistances(
        n=sum(len(m.rows) for m in metrics if m.tokens is not None),
        token_kl=summary("kl"),
        token_kl_reverse=summary("reverse_kl"),
        token_jensen_shannon=summary("jensen_shannon"),
        token_total_variation=summary("total_variation"),
        same_top=summary("same_top"),
        logprob_change=summary("logprob_change"),
        # where tasks were bounded differently, the coarsest bound says what the pool is worth
        top=None if tops == {None} else min(top for top in tops if top is not None),
        correlation=_sample_correlation(
            [
                (m.token_kl, m.changed, m.flipped)
                for m in metrics
                if m.token_kl is not None and m.changed is not None and m.flipped is not None
            ]
        ),
    )


def _margins(metrics: Sequence[PairedMetric]) -> Margins | None:
    found = [
        (m.margin, m.baseline_correct, m.changed)
        for m in metrics
        if m.margin is not None and m.baseline_correct is not None and m.changed is not None
    ]
    if not found:
        return None
    return margins(
        margin=torch.cat([margin for margin, _, _ in found]),
        correct=torch.cat([correct for _, correct, _ in found]),
        changed=torch.cat([changed for _, _, changed in found]),
    )


def _correlation(metrics: Sequence[PairedMetric]) -> SampleCorrelation | None:
    found = [
        (m.divergence.kl, m.changed, m.flipped)
        for m in metrics
        if m.divergence is not None and m.changed is not None and m.flipped is not None
    ]
    return _sample_correlation(found)


def _sample_correlation(
    found: Sequence[tuple[Tensor, Tensor, Tensor]],
) -> SampleCorrelation | None:
    """From each task's distances, its changed and its flipped answers."""
    if not found:
        return None
    kl = torch.cat([kl for kl, _, _ in found])
    changed = torch.cat([changed for _, changed, _ in found])
    flipped = torch.cat([flipped for _, _, flipped in found])
    return SampleCorrelation(
        changed=spearman(kl, changed.double()),
        flipped=spearman(kl, flipped.double()),
        detects_flips=auroc(score=kl, positive=flipped),
    )


def _perplexity(metrics: Sequence[PairedMetric], errors: Errors) -> PerplexityChange | None:
    units = [m.units for m in metrics if m.units is not None]
    if len(units) < len(metrics) or len({m.metric for m in metrics}) > 1:
        return None
    before = torch.cat([m.baseline_value for m in metrics])
    after = torch.cat([m.compressed_value for m in metrics])
    every = torch.cat(units)
    found = perplexity_change(baseline=before, compressed=after, units=every)
    residuals = loss_residuals(baseline=before, compressed=after, units=every)
    error, freedom = errors.of(torch.split(residuals, [len(u) for u in units]))
    scale = len(every) / float(every.sum()) if every.any() else nan
    return replace(found, standard_error=error * scale, freedom=freedom)
