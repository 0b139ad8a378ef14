"""Scores that are no means, held against scikit-learn."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, matthews_corrcoef

from lm_eval_flips.measures.aggregations import brier, f1, flat_mean, matthews

EMPTY = torch.zeros(0, dtype=torch.int64)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_matthews_correlation_is_scikit_learns(classes: int) -> None:
    """Of two and of more classes, also where one side is constant."""
    draw = np.random.default_rng(classes)
    for n in (9, 20, 400):
        gold, given = draw.integers(0, classes, (2, n))
        found = matthews(torch.from_numpy(gold), torch.from_numpy(given))
        assert found == pytest.approx(matthews_corrcoef(gold, given))
    same = torch.zeros(9, dtype=torch.int64)
    assert matthews(same, same) == 0.0


def test_f1_is_scikit_learns() -> None:
    """Of the label 1."""
    draw = np.random.default_rng(1)
    for n in (5, 20, 400):
        gold, given = draw.integers(0, 2, (2, n))
        assert f1(torch.from_numpy(gold), torch.from_numpy(given)) == pytest.approx(
            f1_score(gold, given, zero_division=0)
        )


def test_brier_and_the_mean_over_parts_by_hand() -> None:
    """(0.2² + 0.2²) and (0.9² + 0.9²), halved; missing parts and choices count for nothing."""
    held = torch.tensor([[0.8, 0.2, torch.nan], [0.1, 0.9, torch.nan]])
    assert brier(torch.tensor([0, 0]), held) == pytest.approx((0.08 + 1.62) / 2)
    assert flat_mean(torch.tensor([[1.0, 0.0, 1.0], [0.0, torch.nan, torch.nan]])) == 0.5


def test_nothing_has_no_score() -> None:
    """An empty task is nan, not 0."""
    assert all(isnan(score(EMPTY, EMPTY)) for score in (matthews, f1))
    assert isnan(brier(EMPTY, torch.zeros(0, 2)))
