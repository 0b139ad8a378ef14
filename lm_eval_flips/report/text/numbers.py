"""Numbers as people read them; – where there is none."""

from __future__ import annotations

from math import isinf, isnan

MISSING = "–"


def count(value: float) -> str:
    """A whole number."""
    return MISSING if isnan(value) else f"{value:.0f}"


def tokens(value: float) -> str:
    """A place in a text, which may lie between two."""
    return MISSING if isnan(value) else f"{value:g}"


def number(value: float) -> str:
    """A number with four decimals, or four digits where it is large."""
    if isnan(value):
        return MISSING
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def signed(value: float) -> str:
    """The same with its sign."""
    if isnan(value):
        return MISSING
    return f"{value:+.4f}" if abs(value) < 1000 else f"{value:+.4g}"


def percent(share: float) -> str:
    """A share (0..1) in per cent."""
    return MISSING if isnan(share) else f"{100 * share:.2f} %"


def nats(value: float) -> str:
    """A distance; small ones with three digits."""
    if isnan(value):
        return MISSING
    if isinf(value) or value == 0:
        return str(value)
    return f"{value:.4f}" if value >= 0.01 else f"{value:.2e}"


def signed_nats(value: float) -> str:
    """A difference of distances, with its sign and three digits."""
    return MISSING if isnan(value) else f"{value:+.2e}"


def p_value(value: float) -> str:
    """A p-value with four decimals."""
    if isnan(value):
        return MISSING
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def points(share: float) -> str:
    """A difference of shares (0..1) in per cent, with its sign."""
    return MISSING if isnan(share) else f"{100 * share:+.2f} %"
