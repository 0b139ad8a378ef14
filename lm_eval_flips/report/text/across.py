"""Comparison -> sentences about what goes with what over the compressed runs."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

from lm_eval_flips.comparison.across_runs import FEWEST_TOLD
from lm_eval_flips.comparison.result import Comparison, Regime, TextLoss
from lm_eval_flips.measures.correlation import Spearman
from lm_eval_flips.report.text.numbers import number


def across_lines(comparison: Comparison) -> Iterator[str]:
    """How KL relates to flips and losses over the runs, by regime; then what tells text's loss."""
    for regime in comparison.regimes:
        yield _regime_line(regime)
    if told := comparison.text_losses:
        n = next(iter(told[0].told_by.values())).n
        if n < FEWEST_TOLD:
            head = f"losses of written answers over all runs (n = {n})"
            yield f"{head}: too few runs for a rank correlation, which takes {FEWEST_TOLD}"
        else:
            yield from map(_loss_line, told)


LOSSES = {
    "text_flips": "flips of written answers",
    "text_net_loss": "net loss of written answers",
    "different_text": "written answers that differ",
    "judge_drop": "drop of the judge's score",
}


def _loss_line(own: TextLoss) -> str:
    """What a loss of written text goes with over the runs."""
    n = next(iter(own.told_by.values())).n
    parts = [f"{in_words(name)} {_with_ends(found)}" for name, found in own.told_by.items()]
    return f"{LOSSES[own.loss]} over all runs (n = {n}), Spearman with {', '.join(parts)}"


def in_words(key: str) -> str:
    """A distance's key as it stands in a sentence.

    Example:
        >>> in_words("choice_kl")
        'choice KL'
    """
    return key.replace("_", " ").replace("kl", "KL")


def _with_ends(found: Spearman) -> str:
    low, high = found.interval
    ends = "" if isnan(low) else f" [{low:.3f}, {high:.3f}]"
    return f"{number(found.statistic)}{ends}"


def _regime_line(regime: Regime) -> str:
    """How a distance relates to flips and to losses among the runs of a regime."""
    name = in_words(regime.distance)
    runs = "all runs" if regime.below is None else f"runs with {name} < {regime.below:g}"
    head = f"{name} over {runs} (n = {regime.net_loss.n})"
    if regime.net_loss.n < FEWEST_TOLD:
        return f"{head}: too few runs for a rank correlation, which takes {FEWEST_TOLD}"
    related = (("flips", regime.flips), ("net loss", regime.net_loss))
    parts = [f"{what} {_with_ends(found)}" for what, found in related]
    return f"{head}, Spearman with {', '.join(parts)}"
