"""Direction: losses among flips by hand, against scipy, statsmodels and answers drawn at random."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
import torch
from torch import Tensor

from lm_eval_flips.measures.direction import direction, signed_margin
from lm_eval_flips.measures.margin import top_margin

# Ten questions, of which the baseline has six right.
BEFORE = torch.tensor([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], dtype=torch.bool)
AFTER = torch.tensor([1, 1, 1, 0, 0, 0, 1, 0, 0, 0], dtype=torch.bool)


def test_ten_answers_by_hand() -> None:
    """Three lost of six that were right, and one won."""
    found = direction(baseline_correct=BEFORE, compressed_correct=AFTER)
    assert (found.lost, found.won, found.baseline_correct) == (3, 1, 6)
    assert found.loss_share == 0.75
    assert isnan(found.random_loss_share)  # no log-likelihoods that noise could turn
    assert found.negative_flip_rate == 0.5


def test_swapped_runs_swap_losses_and_wins() -> None:
    """What one run lost the other won; the share of losses is turned round."""
    there = direction(baseline_correct=BEFORE, compressed_correct=AFTER)
    back = direction(baseline_correct=AFTER, compressed_correct=BEFORE)
    assert (back.lost, back.won) == (there.won, there.lost)
    assert back.loss_share == 1 - there.loss_share


def test_nothing_moved_is_no_direction() -> None:
    """No flip at all: nan, never 0 or 1, and no test."""
    found = direction(baseline_correct=BEFORE, compressed_correct=BEFORE)
    assert isnan(found.loss_share)
    assert found.negative_flip_rate == 0.0
    none = direction(baseline_correct=~BEFORE & BEFORE, compressed_correct=AFTER)
    assert isnan(none.negative_flip_rate)
    assert isnan(none.random_loss_share)


def _scores(generator: torch.Generator) -> Tensor:
    return torch.randn(200, 4, generator=generator, dtype=torch.float64)


def test_the_baseline_s_own_margin_is_its_top_margin(generator: torch.Generator) -> None:
    """At the answer the two agree; elsewhere the margin is negative."""
    scores = _scores(generator)
    answer = scores.argmax(-1)
    assert torch.equal(signed_margin(scores, answer), top_margin(scores))
    assert (signed_margin(scores, (answer + 1) % 4) < 0).all()


def test_a_margin_is_negative_just_where_the_answer_changed(generator: torch.Generator) -> None:
    """By numpy's softmax, and by the sign."""
    before, after = _scores(generator), _scores(generator)
    answer = before.argmax(-1)
    found = signed_margin(after, answer)
    assert torch.equal(found < 0, after.argmax(-1) != answer)
    p = np.exp(after.numpy()) / np.exp(after.numpy()).sum(-1, keepdims=True)
    for row in range(5):
        others = np.delete(p[row], answer[row])
        assert float(found[row]) == pytest.approx(p[row, answer[row]] - others.max())
    assert float(signed_margin(torch.zeros(1, 1), torch.tensor([0]))) == 1.0
