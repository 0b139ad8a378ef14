"""Direction: losses among flips by hand, against scipy, statsmodels and answers drawn at random."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
import torch
from torch import Tensor

from lm_eval_flips.measures.direction import Direction, direction, signed_margin
from lm_eval_flips.measures.margin import top_margin
from lm_eval_flips.measures.significance import binomial_test, mcnemar

# Ten questions with 2 to 5 choices, of which the baseline has six right.
BEFORE = torch.tensor([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], dtype=torch.bool)
AFTER = torch.tensor([1, 1, 1, 0, 0, 0, 1, 0, 0, 0], dtype=torch.bool)
CHOICES = torch.tensor([4, 4, 4, 4, 4, 4, 2, 3, 5, 5])


def test_ten_answers_by_hand() -> None:
    """Three lost and one won; at random the four wrong ones win 1 + 1/2 + 1/4 + 1/4 = 2."""
    found = direction(baseline_correct=BEFORE, compressed_correct=AFTER, choices=CHOICES)
    assert (found.lost, found.won, found.baseline_correct) == (3, 1, 6)
    assert found.loss_share == 0.75
    assert found.random_wins == pytest.approx(2.0)
    assert found.random_loss_share == pytest.approx(6 / 8)
    assert found.negative_flip_rate == 0.5


def test_swapped_runs_swap_losses_and_wins() -> None:
    """What one run lost the other won; the share of losses is turned round."""
    there = direction(baseline_correct=BEFORE, compressed_correct=AFTER)
    back = direction(baseline_correct=AFTER, compressed_correct=BEFORE)
    assert (back.lost, back.won) == (there.won, there.lost)
    assert back.loss_share == 1 - there.loss_share


def test_nothing_moved_is_no_direction() -> None:
    """No flip at all: nan, never 0 or 1, and no test."""
    found = direction(baseline_correct=BEFORE, compressed_correct=BEFORE, choices=CHOICES)
    assert isnan(found.loss_share)
    assert found.negative_flip_rate == 0.0
    none = direction(baseline_correct=~BEFORE & BEFORE, compressed_correct=AFTER)
    assert isnan(none.negative_flip_rate)
    assert isnan(none.random_loss_share)


def test_a_sample_with_one_choice_cannot_be_won() -> None:
    """It adds nothing to the wins at random."""
    found = direction(
        baseline_correct=torch.tensor([False, False]),
        compressed_correct=torch.tensor([False, True]),
        choices=torch.tensor([1, 2]),
    )
    assert found.random_wins == 1.0


def _changed_at_random(rng: np.random.Generator, rate: float) -> Direction:
    """400 answers among four choices, a share of which changes to any other choice."""
    gold = rng.integers(4, size=400)
    before = np.where(rng.random(400) < 0.6, gold, (gold + rng.integers(1, 4, 400)) % 4)
    moved = rng.random(400) < rate
    after = np.where(moved, (before + rng.integers(1, 4, 400)) % 4, before)
    return direction(
        baseline_correct=torch.from_numpy(before == gold),
        compressed_correct=torch.from_numpy(after == gold),
        choices=torch.full((400,), 4),
    )


def test_answers_that_change_at_random_are_told_by_the_line_of_chance() -> None:
    """The share of losses is that line's, and its test raises a false alarm in at most 5 %."""
    rng = np.random.default_rng(3)
    found = [_changed_at_random(rng, 0.15) for _ in range(1000)]
    lost, flips = (sum(d.lost for d in found), sum(d.lost + d.won for d in found))
    expected = np.mean([d.random_loss_share for d in found])
    assert lost / flips == pytest.approx(float(expected), abs=0.01)
    alarms = np.mean(
        [binomial_test(d.lost, d.lost + d.won, d.random_loss_share) < 0.05 for d in found]
    )
    assert alarms < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)
    # control: against one half the same answers look like a preference for losses
    assert np.mean([mcnemar(lost=d.lost, won=d.won) < 0.05 for d in found]) > 0.9


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
