"""The bounded reference: lower bounds of the distances, from scipy and by inequality."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import entropy
from torch import Tensor

from lm_eval_flips.scoring.top_tokens import TopTokens, bounded_distances, top_tokens
from lm_eval_flips.scoring.vocabulary import VocabularyDistances, vocabulary_distances

NAMES = ("kl", "reverse_kl", "jensen_shannon", "total_variation")
ROUNDING = 5e-7  # nats, of a distance in float32
COUNTS = (1, 2, 5, 20, 100, 400, 1000)


def pair(
    generator: torch.Generator, *, scale: float = 3.0, noise: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Logits of two models at 40 positions over 400 tokens."""
    baseline = scale * torch.randn(40, 400, generator=generator)
    return baseline, baseline + noise * scale * torch.randn(40, 400, generator=generator)


def bounds(baseline: Tensor, compressed: Tensor, count: int) -> VocabularyDistances:
    """What is left of the distances with so many tokens kept."""
    return bounded_distances(baseline=top_tokens(baseline, count), compressed=compressed)


@pytest.mark.parametrize("scale", [0.3, 3.0, 10.0, 40.0])
@pytest.mark.parametrize("noise", [1e-3, 0.3, 3.0])
def test_bounds_lie_below_the_distances_and_grow_with_the_tokens_kept(
    generator: torch.Generator, scale: float, noise: float
) -> None:
    """Merging tokens never adds to a divergence; all kept, nothing is lost."""
    baseline, compressed = pair(generator, scale=scale, noise=noise)
    whole = vocabulary_distances(baseline=baseline, compressed=compressed)
    kept = [bounds(baseline, compressed, count) for count in COUNTS]
    for name in NAMES:
        values = torch.stack([getattr(found, name) for found in (*kept, whole)])
        slack = ROUNDING + 2e-6 * values[:-1]
        assert bool((values[1:] >= values[:-1] - slack).all())
        torch.testing.assert_close(values[-3], values[-1], rtol=2e-6, atol=ROUNDING)
        torch.testing.assert_close(values[-2], values[-1], rtol=2e-6, atol=ROUNDING)
        assert float(values[0].min()) >= 0


def test_bounds_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: few tokens lose much, and other tokens bound another model."""
    baseline, compressed = pair(generator)
    whole = vocabulary_distances(baseline=baseline, compressed=compressed)
    few = bounds(baseline, compressed, 2)
    for name in NAMES:
        assert bool((getattr(few, name) < 0.95 * getattr(whole, name)).any())
    kept = top_tokens(baseline, 20)
    shifted = TopTokens(ids=kept.ids.roll(1, 0), logprobs=kept.logprobs)
    other = bounded_distances(baseline=shifted, compressed=compressed)
    assert bool((other.kl > whole.kl + 0.1).any())


@pytest.mark.parametrize("count", [1, 7, 399, 400])
@pytest.mark.parametrize("scale", [1.0, 5.0, 30.0])
def test_bounds_are_scipys_of_the_merged_distributions(
    generator: torch.Generator, scale: float, count: int
) -> None:
    """The K most likely tokens of the baseline and one bin for all others, in double precision."""
    baseline, compressed = pair(generator, scale=scale)
    p, q = (softmax(logits.double().numpy(), axis=-1) for logits in (baseline, compressed))
    order = np.argsort(-p, axis=-1)
    p, q = (np.take_along_axis(values, order, -1) for values in (p, q))
    p, q = (np.c_[values[:, :count], values[:, count:].sum(-1)] for values in (p, q))
    mean = (p + q) / 2
    found = bounds(baseline, compressed, count)
    for values, expected in (
        (found.kl, entropy(p, q, axis=-1)),
        (found.reverse_kl, entropy(q, p, axis=-1)),
        (found.jensen_shannon, (rel_entr(p, mean) + rel_entr(q, mean)).sum(-1) / 2),
        (found.total_variation, np.abs(p - q).sum(-1) / 2),
    ):
        np.testing.assert_allclose(values.double().numpy(), expected, rtol=5e-6, atol=1e-6)


def test_bound_of_three_tokens_counted_by_hand() -> None:
    """(5, 3, 2) and (4, 4, 2) tenths, one token kept: KL of (0.5, 0.5) from (0.4, 0.6)."""
    baseline, compressed = torch.tensor([[5.0, 3.0, 2.0]]), torch.tensor([[4.0, 4.0, 2.0]])
    found = bounds(baseline.log(), compressed.log(), 1)
    assert float(found.kl) == pytest.approx(0.5 * np.log(0.5 / 0.4) + 0.5 * np.log(0.5 / 0.6))
    assert float(found.total_variation) == pytest.approx(0.1, rel=1e-6)
    assert float(found.compressed.lognorm) == pytest.approx(np.log(10), rel=1e-6)
    assert found.baseline.lognorm.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("scale", [1.0, 5.0, 60.0])
def test_a_model_is_at_no_distance_from_itself(
    generator: torch.Generator, scale: float, count: int, dtype: torch.dtype
) -> None:
    """Exactly 0, with the same top token at every position, ties and ruled out tokens included."""
    logits = pair(generator, scale=scale)[0].to(dtype)
    logits[3, 50:150] = -inf
    logits[4, :30] = logits[4].max()
    found = bounds(logits, logits.clone(), count)
    for name in NAMES:
        assert torch.equal(getattr(found, name), torch.zeros(40))
    assert bool(found.same_top.all())


def test_a_model_at_no_distance_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one token moved is seen at its position alone."""
    logits = pair(generator)[0]
    moved = logits.clone()
    moved[6, logits[6].argmax()] -= 20.0
    found = bounds(logits, moved, 5)
    for name in NAMES:
        assert getattr(found, name).nonzero().flatten().tolist() == [6]
    assert (~found.same_top).nonzero().flatten().tolist() == [6]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_same_top_is_that_of_the_whole_vocabulary(
    generator: torch.Generator, count: int, dtype: torch.dtype
) -> None:
    """Also where the compressed model's top token is not kept, and where tokens are equal."""
    baseline, compressed = (logits.to(dtype) for logits in pair(generator, noise=0.5))
    whole = vocabulary_distances(baseline=baseline, compressed=compressed)
    found = bounds(baseline, compressed, count)
    assert torch.equal(found.same_top, whole.same_top)
    assert torch.equal(found.baseline.top, whole.baseline.top)
    assert torch.equal(found.compressed.top, whole.compressed.top)
    torch.testing.assert_close(found.compressed.lognorm, whole.compressed.lognorm)
    assert 5 < int(whole.same_top.sum()) < 35


@pytest.mark.parametrize("count", [1, 6, 399, 400, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_likeliest_first_and_all_others_in_the_last_bin(
    generator: torch.Generator, dtype: torch.dtype, count: int
) -> None:
    """Log-probabilities as scipy's in double precision; the bins sum to 1."""
    logits = pair(generator)[0].to(dtype)
    found = top_tokens(logits, count)
    kept = min(count, 400)
    assert found.ids.shape == (40, kept)
    assert found.logprobs.shape == (40, kept + 1)
    assert (found.ids.dtype, found.logprobs.dtype) == (torch.int32, torch.float32)
    expected = log_softmax(logits.double().numpy(), axis=-1)
    ids, logprobs = found.ids.numpy().astype(np.int64), found.logprobs.double().numpy()
    assert all(len(set(row)) == kept for row in ids.tolist())
    np.testing.assert_allclose(
        logprobs[:, :-1], np.take_along_axis(expected, ids, -1), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_array_equal(logprobs[:, :-1], -np.sort(-logprobs[:, :-1], axis=-1))
    np.testing.assert_allclose(
        logprobs[:, :-1], -np.sort(-expected, axis=-1)[:, :kept], rtol=1e-6, atol=1e-6
    )
    others = np.exp(expected)
    np.put_along_axis(others, ids, 0.0, -1)
    np.testing.assert_allclose(np.exp(logprobs[:, -1]), others.sum(-1), rtol=1e-5)
    assert ((logprobs[:, -1] == -inf) == (kept == 400)).all()


def test_of_equal_tokens_the_first_leads(generator: torch.Generator) -> None:
    """Kept tokens are distinct, and each of them as likely as any that is left out."""
    logits = torch.zeros(1, 400)
    logits[0, [250, 30, 31, 90, 300]] = 1.0
    for count in (1, 2, 4, 5, 6):
        ids = top_tokens(logits, count).ids[0].tolist()
        assert ids[0] == 30
        assert len(set(ids)) == count
        assert logits[0, ids[:5]].tolist() == [1.0] * min(count, 5)


def test_compressed_vocabulary_may_have_more_tokens(generator: torch.Generator) -> None:
    """Entries that a model pads its vocabulary with, and never says, change no bound."""
    baseline, compressed = pair(generator)
    padded = torch.cat([compressed, torch.full((40, 8), -inf)], -1)
    plain, found = bounds(baseline, compressed, 20), bounds(baseline, padded, 20)
    for name in NAMES:
        torch.testing.assert_close(getattr(plain, name), getattr(found, name))
    said = torch.cat([compressed, compressed.max(-1, keepdim=True).values + 2], -1)
    assert bool((bounds(baseline, said, 20).total_variation > plain.total_variation).all())


def test_logits_are_left_as_they_are(generator: torch.Generator) -> None:
    """Neither the tokens kept nor the bound are made in the caller's logits."""
    baseline, compressed = pair(generator)
    before = baseline.clone(), compressed.clone()
    kept = top_tokens(baseline, 5)
    logprobs = kept.logprobs.clone()
    bounded_distances(baseline=kept, compressed=compressed)
    assert torch.equal(baseline, before[0])
    assert torch.equal(compressed, before[1])
    assert torch.equal(kept.logprobs, logprobs)
