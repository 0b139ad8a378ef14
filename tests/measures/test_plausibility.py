"""What no probabilities can be: hand counts, and controls of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from lm_eval_flips.measures.agreement import out_of_step, relation, reordered
from lm_eval_flips.measures.plausibility import (
    ROWS,
    contradicts_greedy,
    grid,
    overfull,
    tied,
    tied_at_the_top,
)

PADDED = torch.tensor([[-1.0, -1.0, -torch.inf], [-1.0, -2.0, -2.0], [-1.0, -1.0, -1.0]])
CHOICES = torch.tensor([2, 3, 3])


def test_ties_leave_padding_out() -> None:
    """Two own choices that tie are all tied, though the padding is not."""
    assert tied(PADDED, CHOICES).tolist() == [True, False, True]
    assert tied_at_the_top(PADDED, CHOICES).tolist() == [True, False, True]
    assert not tied(PADDED, torch.tensor([1, 1, 1])).any()


def test_probabilities_of_equally_long_choices_are_summed() -> None:
    """0.6 + 0.5 is too much; 0.6 and 0.5 of other lengths may begin one another."""
    held = torch.log(torch.tensor([[0.6, 0.5]]))
    assert overfull(held, torch.tensor([[2.0, 2.0]]), torch.tensor([2])).item()
    assert not overfull(held, torch.tensor([[2.0, 9.0]]), torch.tensor([2])).item()
    assert not overfull(held, torch.full((1, 2), torch.nan), torch.tensor([2])).item()


def test_a_softmax_is_never_overfull() -> None:
    """Of any logits, as scipy makes it; the same in base 10 is."""
    logits = np.random.default_rng(0).normal(0, 2, (200, 4))
    scores = torch.from_numpy(special.log_softmax(logits, axis=-1))
    ones, four = torch.ones(200, 4), torch.full((200,), 4)
    assert not overfull(scores, ones.double(), four).any()
    assert overfull(scores / np.log(10), ones.double(), four).all()


def test_greedy_flags_follow_the_probability() -> None:
    """0.6 is the likeliest; 0.3 need not be; the likeliest of letters is no less likely."""
    scores = torch.log(torch.tensor([[0.6, 0.3]]))
    one = torch.ones(1, 2)
    assert contradicts_greedy(scores, torch.tensor([[0, 0]]), one).item()
    assert not contradicts_greedy(scores, torch.tensor([[1, 0]]), one).item()
    assert contradicts_greedy(scores, torch.tensor([[1, 1]]), one).item()
    assert not contradicts_greedy(scores, torch.tensor([[1, 1]]), one * 3).item()
    assert not contradicts_greedy(scores, torch.tensor([[-1, -1]]), one).item()


@pytest.mark.parametrize("step", [1.0, 0.5, 0.125, 0.1, 0.01])
def test_the_coarsest_step_is_named(step: float) -> None:
    """Multiples of a step are told as such; anything finer is not."""
    counts = torch.arange(1, 300).double()
    assert grid(-counts * step) == step
    assert np.isnan(grid(-counts * step * np.pi))
    assert np.isnan(grid(torch.zeros(5)))


@pytest.mark.parametrize("lag", [1, -1])
@pytest.mark.parametrize("start", [0, 100])
def test_a_shift_is_found_where_it_begins(lag: int, start: int) -> None:
    """From the first request on, or from one in the middle; with the noise of a compression."""
    draw = torch.Generator().manual_seed(0)
    asked = torch.randn(240, generator=draw)
    answered = asked + 0.1 * torch.randn(240, generator=draw)
    assert out_of_step(asked, answered) is None
    answered[start:] = answered[start:].roll(lag)
    found = out_of_step(asked, answered)
    assert found is not None
    assert found.lag == lag


def test_unrelated_answers_are_no_shift() -> None:
    """Control: of 200 draws of unrelated answers, none is nearer to its neighbour's."""
    draw = torch.Generator().manual_seed(1)
    for _ in range(200):
        asked, answered = torch.randn(2, 120, generator=draw)
        assert out_of_step(asked, answered) is None


def test_a_reordered_row_holds_the_same_numbers() -> None:
    """The same row is not reordered, nor is one of other numbers."""
    ours = torch.tensor([[-1.0, -2.0], [-1.0, -2.0], [-1.0, -2.0]])
    theirs = torch.tensor([[-2.0, -1.0], [-1.0, -2.0], [-2.0, -1.5]])
    assert reordered(ours, theirs).tolist() == [True, False, False]


def test_a_relation_is_numpys() -> None:
    """Correlation by corrcoef, slope by least squares through the origin, infinite ones out."""
    draw = np.random.default_rng(3)
    ours = draw.normal(-5, 2, (50, 3))
    theirs = 1.5 * ours + draw.normal(0, 1, (50, 3))
    theirs[4, 2] = -np.inf
    four = torch.full((50,), 3)
    found = relation(torch.from_numpy(ours), torch.from_numpy(theirs), four)
    kept = np.isfinite(theirs)
    (slope,), _, _, _ = np.linalg.lstsq(ours[kept][:, None], theirs[kept], rcond=None)
    assert found.n == 149
    assert found.correlation == pytest.approx(np.corrcoef(ours[kept], theirs[kept])[0, 1])
    assert found.slope == pytest.approx(slope)
    assert found.ratio == pytest.approx(np.median(theirs[kept]) / np.median(ours[kept]), rel=0.02)


def test_many_samples_are_as_few() -> None:
    """What is summed up block by block: a sample at each end of a block, and those between."""
    scores = torch.full((2 * ROWS + 1, 2), -3.0)
    full = torch.tensor([0, ROWS - 1, ROWS, 2 * ROWS])
    scores[full] = -0.1
    told = overfull(scores, torch.ones_like(scores), torch.full((len(scores),), 2))
    assert told.nonzero()[:, 0].tolist() == full.tolist()
