"""Comparison -> sentences about what goes with what over the compressed runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isnan

from lm_eval_flips.comparison.across_runs import FEWEST_TOLD
from lm_eval_flips.comparison.result import Comparison, Regime
from lm_eval_flips.measures.correlation import Spearman
from lm_eval_flips.report.text.numbers import number


def across_lines(comparison: Comparison) -> Iterator[str]:
    """How KL relates to flips and losses over the runs, by regime; then a judge's score."""
    for regime in comparison.regimes:
        yield _regime_line(regime)
    if comparison.judge_drop:
        yield _judge_line(comparison.judge_drop)


def _judge_line(found: Mapping[str, Spearman]) -> str:
    """What the drop of a judge's score goes with over the runs."""
    n = next(iter(found.values())).n
    head = f"drop of the judge's score over all runs (n = {n})"
    if n < FEWEST_TOLD:
        return f"{head}: too few runs for a rank correlation, which takes {FEWEST_TOLD}"
    parts = [f"{_in_words(name)} {_with_ends(own)}" for name, own in found.items()]
    return f"{head}, Spearman with {', '.join(parts)}"


def _in_words(key: str) -> str:
    return key.replace("_", " ").replace("kl", "KL")


def _with_ends(found: Spearman) -> str:
    low, high = found.interval
    ends = "" if isnan(low) else f" [{low:.3f}, {high:.3f}]"
    return f"{number(found.statistic)}{ends}"


def _regime_line(regime: Regime) -> str:
    """How a distance relates to flips and to losses among the runs of a regime."""
    name = _in_words(regime.distance)
    runs = "all runs" if regime.below is None else f"runs with {name} < {regime.below:g}"
    head = f"{name} over {runs} (n = {regime.net_loss.n})"
    if regime.net_loss.n < FEWEST_TOLD:
        return f"{head}: too few runs for a rank correlation, which takes {FEWEST_TOLD}"
    related = (("flips", regime.flips), ("net loss", regime.net_loss))
    parts = [f"{what} {_with_ends(found)}" for what, found in related]
    return f"{head}, Spearman with {', '.join(parts)}"
