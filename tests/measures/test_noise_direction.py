"""The direction of noise: against draws of numpy's, by symmetry, and where nothing can turn."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
import torch

from lm_eval_flips.measures.noise_direction import noise_loss_share

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
    found = noise_loss_share(scores, right, changed=round(changed / 20))
    assert found == pytest.approx(lost / (lost + won), abs=0.03)
    # control: what answers that turn to any other choice alike would give
    correct = right.numpy()[np.arange(N), before].mean()
    assert found < correct / (correct + (1 - correct) / 3) - 0.1


def test_two_choices_that_are_right_by_a_coin_lose_half() -> None:
    """Where margins are as large for right answers as for wrong ones: one half."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(N, 2, generator=generator)
    gold = torch.randint(2, (N,), generator=generator)
    right = torch.nn.functional.one_hot(gold, 2).bool()
    assert noise_loss_share(scores, right, changed=400) == pytest.approx(0.5, abs=0.03)


def test_what_cannot_turn_has_no_direction() -> None:
    """Nothing changed, no sample, or a single choice each: nan."""
    scores, right = _world(4)
    assert isnan(noise_loss_share(scores, right, changed=0))
    assert isnan(noise_loss_share(scores[:0], right[:0], changed=3))
    assert isnan(noise_loss_share(scores[:, :1], right[:, :1], changed=3))
    # a sample's missing choices are never chosen
    padded = torch.cat([scores, torch.full((N, 1), -torch.inf)], 1)
    marks = torch.cat([right, torch.zeros(N, 1).bool()], 1)
    found = noise_loss_share(padded, marks, changed=300)
    assert found == pytest.approx(noise_loss_share(scores, right, changed=300), abs=0.03)
