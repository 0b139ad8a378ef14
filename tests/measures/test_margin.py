"""The top margin and its bins: numpy's histogram, hand counts and the edges of the bins."""

from __future__ import annotations

from math import inf, isnan, nan

import jaxtyping
import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor

from lm_eval_flips.measures.margin import Margins, Rate, margins, top_margin


def _random(generator: torch.Generator, n: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    margin = torch.rand(n, generator=generator, dtype=torch.float64)
    correct = torch.rand(n, generator=generator) < 0.4 + margin / 2
    changed = torch.rand(n, generator=generator) < 0.5 - margin / 2
    return margin, correct, changed


def _on(device: str, values: tuple[Tensor, Tensor, Tensor], bins: int = 10) -> Margins:
    margin, correct, changed = (tensor.to(device) for tensor in values)
    return margins(margin=margin, correct=correct, changed=changed, bins=bins)


def test_top_margin_matches_scipy_softmax(device: str, generator: torch.Generator) -> None:
    """The margin is the difference of the two largest of scipy's softmax."""
    scores = 5 * torch.randn(200, 6, generator=generator, dtype=torch.float64)
    ordered = np.sort(softmax(scores.numpy(), axis=-1), axis=-1)
    expected = torch.from_numpy(ordered[:, -1] - ordered[:, -2])
    torch.testing.assert_close(
        top_margin(scores.to(device)).cpu(), expected, rtol=1e-10, atol=1e-14
    )


def test_top_margin_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one log-likelihood moved by 0.01 moves that sample's margin."""
    scores = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    moved = scores.clone()
    moved[5, scores[5].argmax()] += 0.01
    assert (top_margin(scores) != top_margin(moved)).nonzero().flatten().tolist() == [5]


def test_top_margin_counted_by_hand(device: str) -> None:
    """Probabilities 0.1, 0.5 and 0.4 leave a margin of 0.1; equal ones leave none."""
    p = torch.tensor([[0.1, 0.5, 0.4], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64, device=device)
    assert top_margin(p.log()).tolist() == pytest.approx([0.1, 0.0], abs=1e-12)


def test_top_margin_ignores_a_constant_order_and_padding(
    device: str, generator: torch.Generator
) -> None:
    """A constant, another order of the choices and -inf padding leave the margin as it is."""
    scores = torch.randn(30, 3, generator=generator, dtype=torch.float64).to(device)
    pad = torch.full((30, 2), -inf, dtype=torch.float64, device=device)
    changed = torch.cat([scores[:, [2, 0, 1]] - 11, pad], 1)
    torch.testing.assert_close(top_margin(scores), top_margin(changed), rtol=1e-11, atol=1e-13)


def test_top_margin_of_different_numbers_of_choices(device: str) -> None:
    """In one batch a sample with one choice has margin 1, with two 1/2, with three 0."""
    p = torch.tensor([[1.0, 0.0, 0.0], [0.75, 0.25, 0.0], [0.4, 0.4, 0.2]], device=device)
    assert top_margin(p.log()).tolist() == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)


def test_single_choice_has_margin_one(device: str) -> None:
    """Without a second choice the best one has all the probability, in a column or padded."""
    alone = torch.tensor([[-4.0], [-0.1]], device=device)
    assert top_margin(alone).tolist() == [1.0, 1.0]
    padded = torch.tensor([[-4.0, -inf]], device=device)
    assert top_margin(padded).tolist() == [1.0]


def test_sample_without_any_finite_loglikelihood_has_no_margin(device: str) -> None:
    """All choices at -inf is no distribution: nan, and only for that sample."""
    found = top_margin(torch.tensor([[-inf, -inf], [0.0, -inf]], device=device))
    assert isnan(float(found[0]))
    assert float(found[1]) == 1.0


def test_float32_margin_is_computed_in_float64(device: str, generator: torch.Generator) -> None:
    """Single-precision log-likelihoods give the margin of the same numbers in double."""
    scores = torch.randn(20, 4, generator=generator).to(device)
    found = top_margin(scores)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, top_margin(scores.double()), rtol=0, atol=0)


def test_no_samples_have_no_margin(device: str) -> None:
    """An empty batch gives an empty margin."""
    assert top_margin(torch.zeros(0, 4, device=device)).shape == (0,)
    assert top_margin(torch.zeros(0, 1, device=device)).shape == (0,)


@pytest.mark.parametrize("bins", [1, 2, 7, 10, 20])
def test_bins_match_numpy_histogram(device: str, generator: torch.Generator, bins: int) -> None:
    """Totals and changed answers of each bin equal numpy's histograms over 0..1."""
    values = _random(generator)
    found = _on(device, values, bins)
    margin, _, changed = values
    totals, ends = np.histogram(margin.numpy(), bins=bins, range=(0.0, 1.0))
    moved, _ = np.histogram(margin[changed].numpy(), bins=bins, range=(0.0, 1.0))
    assert [b.rate.n for b in found.bins] == totals.tolist()
    assert [b.rate.changed for b in found.bins] == moved.tolist()
    assert [b.low for b in found.bins] + [found.bins[-1].high] == pytest.approx(ends.tolist())


def test_bins_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one more changed answer is seen, in its bin alone."""
    margin, correct, changed = _random(generator)
    before = _on("cpu", (margin, correct, changed))
    place = int((~changed).nonzero()[0])
    changed[place] = True
    after = _on("cpu", (margin, correct, changed))
    differs = [
        i for i, (a, b) in enumerate(zip(before.bins, after.bins, strict=True)) if a.rate != b.rate
    ]
    assert differs == [int(margin[place] * 10)]


def test_margins_counted_by_hand(device: str) -> None:
    """Five answers: means 0.6 and 0.2, one of three correct and both incorrect changed."""
    found = margins(
        margin=torch.tensor([0.2, 0.6, 1.0, 0.1, 0.3], device=device),
        correct=torch.tensor([True, True, True, False, False], device=device),
        changed=torch.tensor([True, False, False, True, True], device=device),
        bins=2,
    )
    assert found.mean_correct == pytest.approx(0.6, rel=1e-6)
    assert found.mean_incorrect == pytest.approx(0.2, rel=1e-6)
    assert (found.correct, found.incorrect) == (Rate(n=3, changed=1), Rate(n=2, changed=2))
    assert [b.rate for b in found.bins] == [Rate(n=3, changed=3), Rate(n=2, changed=0)]


def test_margin_of_exactly_one_is_in_the_last_bin(device: str) -> None:
    """All the probability on one choice is a margin of 1, which the last bin includes."""
    margin = top_margin(torch.tensor([[0.0, -inf], [0.0, -800.0]], device=device))
    assert margin.tolist() == [1.0, 1.0]
    yes = torch.tensor([True, True], device=device)
    found = margins(margin=margin, correct=yes, changed=~yes)
    assert [b.rate.n for b in found.bins] == [0] * 9 + [2]
    assert found.bins[-1].high == 1.0


def test_margin_on_an_edge_is_in_the_upper_bin(device: str) -> None:
    """A margin of exactly i/10 lies in [i/10, (i+1)/10), as the bin's own ends say."""
    margin = torch.tensor([i / 10 for i in range(10)], dtype=torch.float64, device=device)
    yes = torch.ones(10, dtype=torch.bool, device=device)
    found = margins(margin=margin, correct=yes, changed=yes)
    assert [b.rate.n for b in found.bins] == [1] * 10
    assert [b.low for b in found.bins] == margin.tolist()


def test_bins_and_correctness_split_the_same_samples(generator: torch.Generator) -> None:
    """Correct plus incorrect, and the sum over the bins, are both all samples and all changed."""
    values = _random(generator)
    found = _on("cpu", values)
    n, changed = len(values[0]), int(values[2].sum())
    assert found.correct.n + found.incorrect.n == n == sum(b.rate.n for b in found.bins)
    assert found.correct.changed + found.incorrect.changed == changed
    assert sum(b.rate.changed for b in found.bins) == changed


def test_negating_correctness_swaps_the_two_sides(generator: torch.Generator) -> None:
    """Calling the correct answers incorrect exchanges their means and rates."""
    margin, correct, changed = _random(generator)
    there, back = _on("cpu", (margin, correct, changed)), _on("cpu", (margin, ~correct, changed))
    assert (there.mean_correct, there.correct) == (back.mean_incorrect, back.incorrect)
    assert (there.mean_incorrect, there.incorrect) == (back.mean_correct, back.correct)
    assert there.bins == back.bins


def test_no_samples_give_nan_not_zero(device: str) -> None:
    """Means and shares of no samples are nan, in every bin."""
    none = torch.zeros(0, dtype=torch.bool, device=device)
    found = margins(margin=torch.zeros(0, device=device), correct=none, changed=none)
    assert isnan(found.mean_correct)
    assert isnan(found.mean_incorrect)
    assert isnan(found.correct.share)
    assert all(isnan(b.rate.share) for b in found.bins)
    assert found.bins[0].rate.interval == pytest.approx((nan, nan), nan_ok=True)


def test_one_correct_answer_leaves_the_incorrect_undefined(device: str) -> None:
    """A single sample gives its own side a mean and a share, and the other nan."""
    yes = torch.tensor([True], device=device)
    found = margins(margin=torch.tensor([0.55], device=device), correct=yes, changed=yes)
    assert found.mean_correct == pytest.approx(0.55, rel=1e-6)
    assert found.correct.share == 1.0
    assert isnan(found.mean_incorrect)
    assert isnan(found.incorrect.share)


def test_margins_of_other_samples_are_refused() -> None:
    """The shapes in the signature are checked under test: 3 margins cannot go with 2 answers."""
    two = torch.ones(2, dtype=torch.bool)
    with pytest.raises(jaxtyping.TypeCheckError, match="correct"):
        margins(margin=torch.zeros(3), correct=two, changed=two)
