"""How many of the quickstart's questions fit into its minutes: arithmetic, no model."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

pace: Any = import_module("examples.pace")


@pytest.mark.parametrize(("seconds", "number"), [(60, 6), (69.9, 6), (70, 7), (1e9, 50), (0, 5)])
def test_as_many_questions_as_fit_and_never_less_than_five(seconds: float, number: int) -> None:
    """Each costs ten seconds here; a question more would take longer than was allowed."""
    assert pace.fitting(seconds, [10.0 * number for number in range(1, 51)]) == number


def test_time_is_that_of_loading_reading_and_writing() -> None:
    """By hand: 33 answers are two batches of 24 tokens each."""
    measured = pace.Pace(begin=20.0, token=0.002, step=0.5)
    assert measured.seconds(read=10_000, written=33) == pytest.approx(20 + 20 + 2 * 24 * 0.5)
    assert measured.seconds(read=0, written=0) == 20


def test_the_faster_of_some_tries_counts_and_the_first_does_not() -> None:
    """The first warms up: here it takes longest."""
    waits = iter([0.2, 0.03, 0.0, 0.02])
    assert pace.shortest(lambda: pace.time.sleep(next(waits))) < 0.02
    assert next(waits, None) is None
