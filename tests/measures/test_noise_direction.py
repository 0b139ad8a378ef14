"""The direction of noise: against draws of numpy's, by symmetry, and where nothing can turn."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
import torch

from lm_eval_flips.comparison.row import measure
from lm_eval_flips.measures.noise_direction import NoiseFlips, noise_flips
from lm_eval_flips.pairs.metric import PairedMetric
from tests.generators.paired import Questions

N = 4000


def _world(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Questions with four choices; the right one is drawn as likely as the baseline holds it."""
    generator = torch.Generator().manual_seed(seed)
    scores = 1.5 * torch.randn(N, 4, generator=generator, dtype=torch.float64)
    gold = torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0]
    return scores, torch.nn.functional.one_hot(gold, 4).bool()


@pytest.mark.parametrize("size", [0.05, 0.3, 1.0])
def test_it_is_the_share_that_numpys_noise_loses(size: float) -> None:
    """Noise of a known size, drawn by numpy: as many changes, and the share of its losses."""
    scores, right = _world(1)
    rng = np.random.default_rng(2)
    before = scores.numpy().argmax(-1)
    lost = won = changed = 0
    for _ in range(20):
        after = (scores.numpy() + size * rng.normal(size=(N, 4))).argmax(-1)
        was = right.numpy()[np.arange(N), before]
        now = right.numpy()[np.arange(N), after]
        lost, won = lost + (was & ~now).sum(), won + (~was & now).sum()
        changed += (before != after).sum()
    found = noise_flips(scores, right, changed=round(changed / 20))
    assert found.loss_share == pytest.approx(lost / (lost + won), abs=0.03)
    assert found.lost == pytest.approx(lost / 20, rel=0.1)
    assert found.won == pytest.approx(won / 20, rel=0.1)
    # control: what answers that turn to any other choice alike would give
    correct = right.numpy()[np.arange(N), before].mean()
    assert found.loss_share < correct / (correct + (1 - correct) / 3) - 0.1


def test_two_choices_that_are_right_by_a_coin_lose_half() -> None:
    """Where margins are as large for right answers as for wrong ones: one half."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(N, 2, generator=generator)
    gold = torch.randint(2, (N,), generator=generator)
    right = torch.nn.functional.one_hot(gold, 2).bool()
    assert noise_flips(scores, right, changed=400).loss_share == pytest.approx(0.5, abs=0.03)


def test_what_cannot_turn_has_no_direction() -> None:
    """Nothing changed, no sample, or a single choice each: nan."""
    scores, right = _world(4)
    assert isnan(noise_flips(scores, right, changed=0).loss_share)
    assert isnan(noise_flips(scores[:0], right[:0], changed=3).loss_share)
    assert noise_flips(scores[:, :1], right[:, :1], changed=3) == NoiseFlips(lost=0.0, won=0.0)
    # a sample's missing choices are never chosen
    padded = torch.cat([scores, torch.full((N, 1), -torch.inf)], 1)
    marks = torch.cat([right, torch.zeros(N, 1).bool()], 1)
    found = noise_flips(padded, marks, changed=300).loss_share
    plain = noise_flips(scores, right, changed=300).loss_share
    assert found == pytest.approx(plain, abs=0.03)


def test_a_row_holds_its_losses_against_noise() -> None:
    """Its own tasks' noise, added up; a run that noise alone turned is told apart in few draws."""
    alarms, draws = 0, 20
    for seed in range(draws):
        parts = [noisy(seed, size=0.3), noisy(seed + 1000, size=1.0)]
        row = measure(parts, name="both")
        assert row.direction is not None
        expected = [part.noise for part in parts if part.noise is not None]
        lost, won = sum(own.lost for own in expected), sum(own.won for own in expected)
        assert row.direction.random_loss_share == pytest.approx(lost / (lost + won))
        alarms += row.p_random < 0.05
    assert alarms <= 4  # 5 % of 20 is 1; more than 4 in 0.3 %
    # control: one that loses its right answers is told apart
    assert measure([noisy(7, size=0.3, worse=1.0)], name="worse").p_random < 0.001


def noisy(seed: int, *, size: float, worse: float = 0.0) -> PairedMetric:
    """400 questions, noise on the baseline's log-likelihoods, and a loss of the right one."""
    rng = np.random.default_rng(seed)
    before = rng.normal(-3, 1.5, (400, 4))
    gold = np.array([rng.choice(4, p=np.exp(row) / np.exp(row).sum()) for row in before])
    after = before + size * rng.normal(size=before.shape)
    after[np.arange(400), gold] -= worse
    return Questions(before, after, gold).paired()
