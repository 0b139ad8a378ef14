"""The logarithmic axis: places of all values, zero and infinity among them."""

from __future__ import annotations

from math import inf

import pytest

from lm_eval_flips.report.charts.log_axis import LogScale, log_scale


def test_decades_hold_every_positive_value() -> None:
    """From the decade below the smallest to the one above the largest."""
    assert log_scale([0.0, 0.002, 0.3, inf]) == LogScale(low=-3.0, high=0.0)
    assert log_scale([0.01]) == LogScale(low=-2.0, high=-1.0)
    assert log_scale([1e-30, 1.0]) == LogScale(low=-9.0, high=0.0)


def test_zero_infinity_and_what_lies_beyond_are_at_the_ends() -> None:
    """Inside, a place is the logarithm."""
    scale = LogScale(low=-4.0, high=0.0)
    assert [scale.place(value) for value in (0.0, 1e-7, 1e-3, 0.5, 30.0, inf)] == [
        -4.0,
        -4.0,
        -3.0,
        pytest.approx(-0.30103, abs=1e-4),
        0.0,
        0.0,
    ]


def test_values_close_together_are_not_squeezed_into_a_decade() -> None:
    """0.018 to 0.022 nats: the axis ends near them, and has ticks between powers of ten."""
    scale = log_scale([0.018, 0.022], whole=False)
    assert 10**scale.low == pytest.approx(0.018, rel=0.1)
    assert 10**scale.high == pytest.approx(0.022, rel=0.1)
    assert scale.axis(cut=False).to_dict()["values"] == [pytest.approx(-1.69897)]


def test_ticks_are_few_and_the_first_says_that_smaller_values_lie_there() -> None:
    """Nine decades have no more than seven ticks; without a cut, no sign."""
    scale = LogScale(low=-9.0, high=0.0)
    axis = scale.axis(cut=True).to_dict()
    assert axis["values"] == [-9, -7, -5, -3, -1]
    assert "'-9':'≤ 10⁻⁹'" in axis["labelExpr"]
    assert "≤" not in scale.axis(cut=False).to_dict()["labelExpr"]


def test_without_a_positive_value_there_is_an_axis() -> None:
    """Two runs of which no sample moved."""
    assert log_scale([0.0, 0.0]) == LogScale(low=-3.0, high=0.0)
