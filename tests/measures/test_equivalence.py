"""TOST: the verdict by hand, against statsmodels, and its false alarms in simulation."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from lm_eval_flips.measures.equivalence import SENTENCES, Equivalence
from lm_eval_flips.measures.paired_difference import mover
from lm_eval_flips.measures.significance import Interval, mean_interval


def held(inner: tuple[float, float], outer: tuple[float, float]) -> Equivalence:
    """A change held against a margin of one point."""
    return Equivalence(
        margin=0.01, change=sum(inner) / 2, inner=Interval(*inner), outer=Interval(*outer)
    )


@pytest.mark.parametrize(
    ("inner", "outer", "verdict"),
    [
        ((-0.004, 0.004), (-0.005, 0.005), "equivalent"),
        ((-0.008, -0.002), (-0.009, -0.001), "both"),
        ((-0.03, -0.02), (-0.031, -0.019), "different"),
        ((0.002, 0.02), (0.001, 0.021), "different"),
        ((-0.02, 0.004), (-0.021, 0.005), "undecided"),
        ((-0.01, 0.004), (-0.011, 0.005), "undecided"),
        ((nan, nan), (nan, nan), "undecided"),
    ],
)
def test_every_verdict(
    inner: tuple[float, float], outer: tuple[float, float], verdict: str
) -> None:
    """An interval that touches the margin does not lie within it; no interval decides nothing."""
    found = held(inner, outer)
    assert found.verdict == verdict
    assert found.sentence == SENTENCES[found.verdict]


@pytest.mark.parametrize("seed", range(20))
def test_means_are_decided_as_by_statsmodels(seed: int) -> None:
    """Equivalent just where TOST's p is below 5 %, different where the paired t test's is."""
    rng = np.random.default_rng(seed)
    before = rng.normal(size=80)
    after = before + rng.normal(0.05, 0.4, 80)
    change = after - before
    error = float(stats.sem(change))
    found = Equivalence(
        margin=0.12,
        change=float(change.mean()),
        inner=mean_interval(float(change.mean()), error, 79, level=0.9),
        outer=mean_interval(float(change.mean()), error, 79),
    )
    p_equivalent = ttost_paired(after, before, -0.12, 0.12)[0]
    p_different = stats.ttest_rel(after, before).pvalue
    assert (found.verdict in ("equivalent", "both")) == (p_equivalent < 0.05)
    assert (found.verdict in ("different", "both")) == (p_different < 0.05)


def test_the_seeds_above_show_several_verdicts() -> None:
    """Control: they are not all alike."""
    found = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rng.normal(size=80)
        change = rng.normal(0.05, 0.4, 80)
        found.add(abs(change.mean()) + 1.66 * stats.sem(change) < 0.12)
    assert found == {True, False}


@pytest.mark.parametrize(("n", "flips"), [(400, 0.08), (2000, 0.02), (2000, 0.12)])
def test_a_change_as_large_as_the_margin_is_called_equivalent_in_at_most_5_percent(
    n: int, flips: float
) -> None:
    """2,000 draws of answers lost and won whose true change is the margin; rare flips included."""
    rng = np.random.default_rng(7)
    margin = 0.02 if flips > 0.02 else 0.01
    lost, won = (flips + margin) / 2, (flips - margin) / 2
    alarms = 0
    for drawn in rng.multinomial(n, [lost, won, 1 - lost - won], size=2000):
        counts = {"lost": int(drawn[0]), "won": int(drawn[1]), "n": n}
        found = Equivalence(
            margin=margin,
            change=(counts["won"] - counts["lost"]) / n,
            inner=mover(**counts, level=0.9),
            outer=mover(**counts),
        )
        alarms += found.verdict in ("equivalent", "both")
    assert alarms / 2000 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
