"""The Pareto front, against every pair compared by hand, with what is not known and ties."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
import torch

from lm_eval_flips.measures.pareto import pareto_front


def found(sizes: list[float], distances: list[float]) -> list[bool]:
    """The front of plain numbers."""
    return pareto_front(
        sizes=torch.tensor(sizes, dtype=torch.float64),
        distances=torch.tensor(distances, dtype=torch.float64),
    ).tolist()


def beaten(own: tuple[float, float], others: list[tuple[float, float]]) -> bool:
    """By the definition: another is no larger and no further, and not alike in both."""
    return any(o[0] <= own[0] and o[1] <= own[1] and o != own for o in others)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_no_other_model_beats(seed: int) -> None:
    """Oracle: every pair in a loop; few values, so that there are ties of all kinds."""
    generator = np.random.default_rng(seed)
    models = [(float(a), float(b)) for a, b in generator.integers(0, 6, (15, 2))]
    expected = [not beaten(own, models) for own in models]
    assert found([own[0] for own in models], [own[1] for own in models]) == expected
    assert 0 < sum(expected) < len(models)


def test_by_hand() -> None:
    """Two alike are both on it; control: one that is a little smaller beats them."""
    assert found([4, 4, 8, 8], [0.2, 0.2, 0.1, 0.3]) == [True, True, True, False]
    assert found([4, 3.9, 8, 8], [0.2, 0.2, 0.1, 0.3]) == [False, True, True, False]


def test_what_is_not_known_is_not_on_it_and_beats_none() -> None:
    """Nan in either; infinite distances lie behind all others."""
    assert isnan(nan)
    assert found([nan, 2, 1], [0.0, nan, 0.5]) == [False, False, True]
    assert found([1, 2], [float("inf"), 0.1]) == [True, True]
    assert found([2, 2], [float("inf"), 0.1]) == [False, True]
    assert found([], []) == []
