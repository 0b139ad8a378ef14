"""Numbers as people read them: digits, signs, and a dash for what is undefined."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

import pytest

from lm_eval_flips.report.text.numbers import (
    MISSING,
    nats,
    number,
    p_value,
    percent,
    points,
    signed,
    signed_nats,
)

EVERY = (nats, number, p_value, percent, points, signed, signed_nats)


@pytest.mark.parametrize("shown", EVERY)
def test_the_undefined_is_a_dash(shown: Callable[[float], str]) -> None:
    """In every form, without a sign or a unit; 0 is a number."""
    assert shown(nan) == MISSING == "–"
    assert shown(0.0) != MISSING


@pytest.mark.parametrize(
    ("shown", "value", "text"),
    [
        (number, 0.25, "0.2500"),
        (number, -0.00004, "-0.0000"),
        (number, 999.5, "999.5000"),
        (number, 1234.5, "1234"),
        (number, 123456.0, "1.235e+05"),
        (number, inf, "inf"),
        (signed, 0.0, "+0.0000"),
        (signed, -0.03, "-0.0300"),
        (signed, 2.5e6, "+2.5e+06"),
        (signed, -inf, "-inf"),
        (percent, 0.0825, "8.25 %"),
        (percent, 1.0, "100.00 %"),
        (points, 0.0825, "+8.25 %"),
        (points, -0.001, "-0.10 %"),
        (nats, 0.0, "0.0"),
        (nats, 0.25, "0.2500"),
        (nats, 0.01, "0.0100"),
        (nats, 0.00348, "3.48e-03"),
        (nats, inf, "inf"),
        (signed_nats, 0.00348, "+3.48e-03"),
        (signed_nats, -12.0, "-1.20e+01"),
        (p_value, 1.0, "1.0000"),
        (p_value, 0.0384, "0.0384"),
        (p_value, 0.0001, "0.0001"),
        (p_value, 0.00009, "< 0.0001"),
        (p_value, 0.0, "< 0.0001"),
    ],
)
def test_numbers_have_the_digits_that_can_be_told(
    shown: Callable[[float], str], value: float, text: str
) -> None:
    """Four decimals, fewer where large, three digits of small distances; no p is shown as 0."""
    assert shown(value) == text


@pytest.mark.parametrize("value", [0.0123456, 0.5, 17.25, 999.9, 4321.0])
def test_what_is_shown_is_what_is_meant(value: float) -> None:
    """Read back, a number is the number to half of its last digit."""
    assert float(number(value)) == pytest.approx(value, abs=5e-5, rel=5e-4)
    assert float(signed(-value)) == pytest.approx(-value, abs=5e-5, rel=5e-4)
    assert float(percent(value).removesuffix(" %")) == pytest.approx(100 * value, abs=5e-3)
    assert float(nats(value)) == pytest.approx(value, abs=5e-5, rel=5e-3)
