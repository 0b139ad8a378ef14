"""Overlap of the samples that runs changed: by sets, by scikit-learn, and by chance."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from lm_eval_flips.measures.overlap import overlap

CHANGED = torch.tensor(
    [
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0, 0],
        [1, 0, 0, 0, 1, 1, 1, 0],
    ],
    dtype=torch.bool,
)


def test_eight_samples_by_hand() -> None:
    """Three, three and four changed; two, one and one in common; one by all, seven by any."""
    found = overlap(CHANGED)
    assert found.common == ((3, 2, 1), (2, 3, 1), (1, 1, 4))
    assert (found.n, found.by_all, found.by_any) == (8, 1, 7)
    assert found.coefficient(0, 1) == pytest.approx(2 / 3)
    assert found.coefficient(0, 2) == pytest.approx(1 / 3)
    assert found.jaccard(0, 1) == pytest.approx(2 / 4)
    assert found.expected(0, 2) == pytest.approx(3 * 4 / 8)


def test_jaccard_is_scikit_learn_s(generator: torch.Generator, device: str) -> None:
    """On random changes, in either order; a run overlaps itself wholly."""
    changed = torch.rand(3, 500, generator=generator) < 0.1
    found = overlap(changed.to(device))
    for i in range(3):
        for j in range(3):
            expected = jaccard_score(changed[i].numpy(), changed[j].numpy())
            assert found.jaccard(i, j) == found.jaccard(j, i) == pytest.approx(expected)
        assert found.coefficient(i, i) == found.jaccard(i, i) == 1.0


def test_independent_changes_have_the_common_samples_of_chance() -> None:
    """And a run that shares half of its changes with another has more: the control."""
    rng = np.random.default_rng(0)
    first, second = (torch.from_numpy(rng.random(100_000) < 0.1) for _ in range(2))
    found = overlap(torch.stack([first, second, torch.where(second, second, first)]))
    assert found.common[0][1] == pytest.approx(found.expected(0, 1), rel=0.1)
    assert found.common[1][2] > 3 * found.expected(1, 2)


def test_nothing_changed_has_no_overlap() -> None:
    """nan, not 0."""
    found = overlap(torch.zeros(2, 5, dtype=torch.bool))
    assert isnan(found.coefficient(0, 1))
    assert isnan(found.jaccard(0, 1))
    assert isnan(overlap(torch.zeros(2, 0, dtype=torch.bool)).expected(0, 1))
