"""MODEL=BYTES, as it is typed."""

from __future__ import annotations

import pytest

from lm_eval_flips import FlipsError
from lm_eval_flips.report.given_sizes import parse_sizes


def test_sizes_are_read_with_their_units() -> None:
    """Decimal and binary units, and names that hold an equals sign."""
    found = parse_sizes(["a=1024", "b=3.9GB", "c=1.5 GiB", "d=2e9", "e=f=7k"])
    assert list(found.values()) == [1024, 3_900_000_000, 1_610_612_736, 2_000_000_000, 7000]
    assert "e=f" in found
    for text in ("a", "a=", "=5", "a=five", "a=-5", "a=nan"):
        with pytest.raises(FlipsError, match="is no size; give MODEL=BYTES"):
            parse_sizes([text])
