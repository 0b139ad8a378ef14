"""THE list of numbers: a hand-made row read by key, and a planned one."""

from __future__ import annotations

from collections import Counter
from math import isnan

import numpy as np
import pytest

from lm_eval_flips.comparison.numbers import SPEC, SPECS, one_each
from lm_eval_flips.comparison.planned import Estimate, PlannedRow
from lm_eval_flips.comparison.result import Row
from lm_eval_flips.comparison.row import measure
from lm_eval_flips.comparison.written_numbers import WRITTEN
from lm_eval_flips.measures.significance import Interval
from tests.generators import paired

# What a row of choices under one metric cannot have.
ABSENT = (
    *("perplexity_ratio", "bits_change", "equivalence_margin", "p_holm"),
    *("same_text", "answer_kl", "first_divergence", "never_diverges"),
)


@pytest.fixture(scope="module")
def row() -> Row:
    """A row of 120 random questions."""
    return measure([paired.questions(2).paired()], name="questions")


def test_every_key_stands_once() -> None:
    """No two numbers share a name: above all no count and share."""
    assert max(Counter(spec.key for spec in SPECS).values()) == 1
    counts = {spec.key for spec in SPECS if spec.unit == "count"}
    assert {"correct_to_incorrect", "answers_changed", "n"} <= counts
    for key in ("correct_to_incorrect", "incorrect_to_correct", "answers_changed"):
        assert SPEC[f"{key}_share"].unit == "share"


def test_numbers_are_those_counted_by_hand(row: Row) -> None:
    """Counts are whole numbers, shares those over n."""
    asked = paired.questions(2)
    numbers = row.numbers
    assert list(numbers) == [spec.key for spec in SPECS]
    for name in ("correct_to_incorrect", "incorrect_to_correct", "answers_changed"):
        count = int(asked.indicators[name].sum())
        assert numbers[name].value == count
        assert isinstance(numbers[name].value, int)
        assert numbers[f"{name}_share"].value == pytest.approx(count / 120, rel=1e-12)
    assert numbers["flips"].value == pytest.approx(asked.indicators["flips"].mean(), rel=1e-12)
    assert numbers["choice_kl"].value == pytest.approx(asked.kl.mean(), rel=1e-9)
    median = float(np.median(asked.kl))
    assert numbers["choice_kl_median"].value == pytest.approx(median, rel=1e-9)
    assert numbers["n"].value == 120


def test_every_number_that_a_row_can_have_is_read(row: Row) -> None:
    """No reader names an entry that is not there; without a vocabulary its numbers are nan."""
    for key, number in row.numbers.items():
        absent = key in ABSENT or key.startswith(("token_", "same_top", "logprob_change"))
        absent |= key in {spec.key for spec in WRITTEN}
        assert number.known == (not absent), key


def test_a_number_has_the_row_s_interval_under_its_key(row: Row) -> None:
    """And none that the row does not have; the list says why."""
    assert row.numbers["flips"].interval == row.intervals["flips"]
    assert set(row.intervals) <= set(SPEC)
    for key in row.intervals:
        assert not SPEC[key].no_interval, key
    assert isnan(row.numbers["correct_to_incorrect"].interval.low)
    assert SPEC["correct_to_incorrect"].no_interval


def test_a_planned_row_has_the_same_keys() -> None:
    """Estimates speak of all documents; their interval is of questions like these."""
    narrow, wide = Interval(0.02, 0.04), Interval(0.01, 0.05)
    estimate = Estimate(value=0.03, interval=narrow, general=wide, plain_samples=100.0)
    planned = PlannedRow(
        name="arc",
        filter="none",
        metric="acc",
        n=50,
        documents=400,
        baseline_score=0.5,
        higher_is_better=True,
        estimates={"flips": estimate, "score_change": estimate},
        equivalence=None,
    )
    numbers = planned.numbers
    assert list(numbers) == [spec.key for spec in SPECS]
    assert (numbers["flips"].value, numbers["flips"].interval) == (0.03, wide)
    assert (numbers["n"].value, numbers["documents"].value) == (50, 400)
    assert numbers["compressed_score"].value == pytest.approx(0.53)
    assert not numbers["all_flips"].known


def test_the_first_binary_row_stands_for_its_task(row: Row) -> None:
    """Wherever it is logged; without one the first."""
    graded = measure(
        [paired.generated("questions", [("x", 0.5)] * 3, [("y", 0.25)] * 3, metric="f1")],
        name="questions",
    )
    assert one_each([graded, row]) == {"questions": row}
    assert one_each([row, graded]) == {"questions": row}
    assert one_each([graded]) == {"questions": graded}
