"""A ratio's interval, against the roots that define it, with identities and a simulation."""

from __future__ import annotations

from math import isnan, nan, sqrt

import numpy as np
import pytest
from scipy.optimize import brentq

from lm_eval_flips.measures.ratio import ratio_interval
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval


def limit(top: float, of_top: Interval, bottom: float, of_bottom: Interval, sign: int) -> float:
    """Where MOVER's limit of ``top - ratio * bottom`` is 0, by scipy's search for a root."""

    def beyond(ratio: float) -> float:
        own = top - (of_top.low if sign < 0 else of_top.high)
        # the end of the bottom that makes the difference smaller, or larger
        other = of_bottom.high if (ratio > 0) == (sign < 0) else of_bottom.low
        return top - ratio * bottom + sign * sqrt(own**2 + ratio**2 * (other - bottom) ** 2)

    return float(brentq(beyond, -50.0, 50.0, xtol=1e-12))


@pytest.mark.parametrize("top", [-0.3, -0.02, 0.0, 0.02, 0.3])
@pytest.mark.parametrize(("down", "up"), [(0.01, 0.05), (0.05, 0.01), (0.1, 0.1)])
def test_the_ends_are_roots_of_the_difference(top: float, down: float, up: float) -> None:
    """Oracle: what the method is derived from; of intervals of either side of 0, or across it."""
    of_top, of_bottom = Interval(top - down, top + up), Interval(0.42, 0.61)
    found = ratio_interval(top=top, of_top=of_top, bottom=0.5, of_bottom=of_bottom)
    for end, sign in zip(found, (-1, 1), strict=True):
        assert end == pytest.approx(limit(top, of_top, 0.5, of_bottom, sign), abs=1e-9)


def test_a_bottom_that_is_known_scales_the_interval() -> None:
    """Identity: without an error below, it is the top's interval over the bottom."""
    known = Interval(0.4, 0.4)
    found = ratio_interval(top=-0.02, of_top=Interval(-0.05, 0.03), bottom=0.4, of_bottom=known)
    assert tuple(found) == pytest.approx((-0.125, 0.075))
    wider = ratio_interval(
        top=-0.02, of_top=Interval(-0.05, 0.03), bottom=0.4, of_bottom=Interval(0.3, 0.5)
    )
    assert wider.low < found.low  # control: an error below is not ignored


def test_what_is_unknown_has_no_interval() -> None:
    """An end that is nan, or a bottom of 0."""
    some = Interval(0.1, 0.3)
    for top, bottom in ((nan, 0.5), (0.2, 0.0)):
        found = ratio_interval(top=top, of_top=some, bottom=bottom, of_bottom=some)
        assert all(map(isnan, found))
    assert all(map(isnan, ratio_interval(top=0.2, of_top=NO_INTERVAL, bottom=0.2, of_bottom=some)))


def test_a_bottom_that_may_be_twice_as_large_leaves_an_end_open() -> None:
    """The method has no limit there."""
    found = ratio_interval(
        top=0.2, of_top=Interval(0.1, 0.3), bottom=0.2, of_bottom=Interval(0.1, 0.5)
    )
    assert isnan(found.low)
    assert found.high > 1


@pytest.mark.simulation
@pytest.mark.parametrize("top", [-0.05, 0.0, 0.3])
def test_it_covers(top: float) -> None:
    """Normal estimates of a ratio: 95 % of 4,000 intervals hold it, within 1 point."""
    draws = np.random.default_rng(7).normal((top, 0.6), (0.02, 0.05), (4000, 2))
    held = 0
    for first, second in draws.tolist():
        found = ratio_interval(
            top=first,
            of_top=Interval(first - 1.96 * 0.02, first + 1.96 * 0.02),
            bottom=second,
            of_bottom=Interval(second - 1.96 * 0.05, second + 1.96 * 0.05),
        )
        held += found.low <= top / 0.6 <= found.high
    assert 0.94 <= held / len(draws) <= 0.96
