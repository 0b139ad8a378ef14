"""Distances over a vocabulary: scipy in double precision, identities, every edge by name."""

from __future__ import annotations

from math import inf, isnan, log, nan, tanh

import jaxtyping
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import rel_entr, softmax
from scipy.stats import entropy
from torch import Tensor

from lm_eval_flips.scoring import vocabulary
from lm_eval_flips.scoring.vocabulary import (
    VocabularyDistances,
    joined,
    token_scores,
    vocabulary_distances,
)

NAMES = ("kl", "reverse_kl", "jensen_shannon", "total_variation")
LARGE = 50_257


def pair(
    generator: torch.Generator, *shape: int, scale: float = 3.0, noise: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Logits of two models; the second has moved by a share of their scale."""
    baseline = scale * torch.randn(*shape, generator=generator)
    return baseline, baseline + noise * scale * torch.randn(*shape, generator=generator)


def scipys(baseline: Tensor, compressed: Tensor) -> dict[str, NDArray[np.float64]]:
    """The four distances, from the same logits in double precision."""
    p, q = (softmax(logits.double().cpu().numpy(), axis=-1) for logits in (baseline, compressed))
    mean = (p + q) / 2
    return {
        "kl": entropy(p, q, axis=-1),
        "reverse_kl": entropy(q, p, axis=-1),
        "jensen_shannon": (rel_entr(p, mean) + rel_entr(q, mean)).sum(-1) / 2,
        "total_variation": np.abs(p - q).sum(-1) / 2,
    }


def assert_matches(
    found: VocabularyDistances,
    expected: dict[str, NDArray[np.float64]],
    *,
    rtol: float = 2e-6,
    atol: float = 5e-7,
) -> None:
    """Every distance, at every position."""
    for name in NAMES:
        values = getattr(found, name)
        assert values.dtype == torch.float32
        wanted = torch.from_numpy(expected[name])
        torch.testing.assert_close(values.cpu().double(), wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize("tokens", [2, 3, 257, LARGE])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 8.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_distances_match_scipy(
    device: str, generator: torch.Generator, dtype: torch.dtype, scale: float, tokens: int
) -> None:
    """All four, of flat and of peaked distributions, from logits as models give them."""
    rows = 5 if tokens == LARGE else 50
    baseline, compressed = (
        logits.to(device, dtype) for logits in pair(generator, rows, tokens, scale=scale)
    )
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    assert_matches(found, scipys(baseline, compressed))


@pytest.mark.parametrize("scale", [1.0, 3.0, 8.0, 15.0])
def test_distances_of_models_that_have_nothing_in_common_match_scipy(
    device: str, generator: torch.Generator, scale: float
) -> None:
    """Tokens that one model holds likely and the other all but rules out, nats apart."""
    baseline, compressed = (
        scale * torch.randn(100, 500, generator=generator).to(device) for _ in range(2)
    )
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    assert_matches(found, scipys(baseline, compressed), atol=1e-6)


def test_distances_check_can_fail(generator: torch.Generator) -> None:
    """Control for the tests above: one logit of 257 moved by 0.01, and by one position, is seen."""
    baseline, compressed = pair(generator, 50, 257)
    expected = scipys(baseline, compressed)
    moved = compressed.clone()
    moved[3, compressed[3].argmax()] += 0.01
    for wrong in (moved, compressed.roll(1, 0), compressed.roll(1, 1)):
        found = vocabulary_distances(baseline=baseline, compressed=wrong)
        with pytest.raises(AssertionError, match="Tensor-likes are not close"):
            assert_matches(found, expected)


@pytest.mark.parametrize("step", [1, 600, None])
def test_more_positions_than_are_worked_on_at_once(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator, step: int | None
) -> None:
    """2500 positions of 257 tokens are several chunks, of one position, of two or of 2040."""
    if step is not None:
        monkeypatch.setattr(vocabulary, "STEP", step)
    baseline, compressed = pair(generator, 2500, 257)
    assert baseline.numel() > vocabulary.STEP
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    assert_matches(found, scipys(baseline, compressed))
    for scores, logits in ((found.baseline, baseline), (found.compressed, compressed)):
        assert torch.equal(scores.top, logits.argmax(-1))
        assert torch.equal(token_scores(logits).top, logits.argmax(-1))


def test_kl_of_two_tokens_counted_by_hand(device: str) -> None:
    """KL of (3/4, 1/4) from (1/2, 1/2) is 3/4 ln 3/2 + 1/4 ln 1/2 = 0.13081 nats; TV is 1/4."""
    found = vocabulary_distances(
        baseline=torch.tensor([[3.0, 1.0]], device=device).log(),
        compressed=torch.tensor([[5.0, 5.0]], device=device).log(),
    )
    assert float(found.kl) == pytest.approx(0.13081, abs=5e-6)
    assert float(found.reverse_kl) == pytest.approx(0.5 * log(0.5 / 0.75) + 0.5 * log(2), rel=1e-6)
    assert float(found.total_variation) == pytest.approx(0.25, rel=1e-6)
    assert float(found.baseline.lognorm) == pytest.approx(log(4), rel=1e-6)
    assert float(found.compressed.lognorm) == pytest.approx(log(10), rel=1e-6)


@pytest.mark.parametrize("gap", [1.0, 10.0, 17.0, 25.0, 84.0, 86.0, 120.0, 800.0])
def test_opposite_models_counted_by_hand(device: str, gap: float) -> None:
    """Of two tokens each model holds another likelier by a gap: KL is gap tanh(gap / 2).

    So is reverse KL; total variation is tanh(gap / 2). At 17 nats the unlikely token is less than
    a float32 shows beside the other, at 104 less than a float32 holds, at 745 than a double.
    """
    found = vocabulary_distances(
        baseline=torch.tensor([[gap, 0.0]], device=device),
        compressed=torch.tensor([[0.0, gap]], device=device),
    )
    kl, share = gap * tanh(gap / 2), (1 + tanh(gap / 2)) / 2
    mean_entropy = -sum(p * log(p) for p in (share, 1 - share) if p)
    assert float(found.kl) == pytest.approx(kl, rel=1e-6)
    assert float(found.reverse_kl) == pytest.approx(kl, rel=1e-6)
    assert float(found.total_variation) == pytest.approx(tanh(gap / 2), rel=1e-6)
    assert float(found.jensen_shannon) == pytest.approx(log(2) - mean_entropy, rel=1e-6)
    assert not bool(found.same_top)


@pytest.mark.parametrize("gap", [80.0, 90.0, 110.0, 200.0, 1000.0])
def test_token_that_both_models_all_but_rule_out_counts_next_to_nothing(
    device: str, generator: torch.Generator, gap: float
) -> None:
    """Also where its probability is 0 in single, or in double precision, for both."""
    baseline, compressed = (logits.to(device) for logits in pair(generator, 20, 300, scale=0.5))
    baseline[:, 7] -= gap
    compressed[:, 7] -= gap + 5
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    assert_matches(found, scipys(baseline, compressed))


@pytest.mark.parametrize("ruled_out", [0, 7])
@pytest.mark.parametrize("moved", [1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("tokens", [257, LARGE])
def test_near_models_keep_their_distance(
    device: str, generator: torch.Generator, tokens: int, moved: float, ruled_out: int
) -> None:
    """Logits moved by as little as 0.00001 are off by less than 1e-7 nats, and never negative."""
    baseline = 3 * torch.randn(20, tokens, generator=generator).to(device)
    baseline[:, :ruled_out] = -inf
    noise = torch.randn(20, tokens, generator=generator).to(device)
    compressed = baseline + moved * noise
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    assert_matches(found, scipys(baseline, compressed), rtol=0.0, atol=1e-7)
    for name in NAMES:
        assert float(getattr(found, name).min()) >= 0


def test_near_models_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: p log(p / q), summed in float32 as it is, is off by more."""
    baseline = 3 * torch.randn(20, LARGE, generator=generator)
    compressed = baseline + 1e-3 * torch.randn(20, LARGE, generator=generator)
    log_p, log_q = baseline.log_softmax(-1), compressed.log_softmax(-1)
    plain = (log_p.exp() * (log_p - log_q)).sum(-1).double().numpy()
    expected = scipys(baseline, compressed)["kl"]
    found = vocabulary_distances(baseline=baseline, compressed=compressed).kl.double().numpy()
    assert expected.min() > 2e-7
    assert np.abs(plain - expected).max() > 1e-7 > 3 * np.abs(found - expected).max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 5.0, 60.0])
def test_a_model_is_at_no_distance_from_itself(
    device: str, generator: torch.Generator, scale: float, dtype: torch.dtype
) -> None:
    """Exactly 0 everywhere, ruled out tokens and underflow included, and the same top token."""
    logits = scale * torch.randn(40, 3000, generator=generator)
    logits[5, 100:200] = -inf
    logits = logits.to(device, dtype)
    found = vocabulary_distances(baseline=logits, compressed=logits.clone())
    for name in NAMES:
        assert torch.equal(getattr(found, name), torch.zeros(40, device=device))
    assert bool(found.same_top.all())


def test_a_model_at_no_distance_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one logit moved is seen at its position alone."""
    logits = torch.randn(40, 3000, generator=generator)
    moved = logits.clone()
    moved[7, 11] += 1.0
    moved[9, logits[9].argmax()] -= 10.0
    found = vocabulary_distances(baseline=logits, compressed=moved)
    for name in NAMES:
        assert getattr(found, name).nonzero().flatten().tolist() == [7, 9]
    assert (~found.same_top).nonzero().flatten().tolist() == [9]


@pytest.mark.parametrize("scale", [1.0, 6.0, 60.0])
def test_exchanging_the_models_exchanges_the_directions(
    device: str, generator: torch.Generator, scale: float
) -> None:
    """KL becomes reverse KL and the other way round; the symmetric distances stay."""
    baseline, compressed = (x.to(device) for x in pair(generator, 30, 1000, scale=scale))
    there = vocabulary_distances(baseline=baseline, compressed=compressed)
    back = vocabulary_distances(baseline=compressed, compressed=baseline)
    assert torch.equal(there.kl, back.reverse_kl)
    assert torch.equal(there.reverse_kl, back.kl)
    torch.testing.assert_close(there.jensen_shannon, back.jensen_shannon, rtol=1e-6, atol=1e-7)
    assert torch.equal(there.total_variation, back.total_variation)
    assert torch.equal(there.baseline.lognorm, back.compressed.lognorm)
    assert torch.equal(there.baseline.top, back.compressed.top)
    assert not torch.allclose(there.kl, there.reverse_kl, rtol=1e-2)


@pytest.mark.parametrize("near", [False, True])
def test_token_ruled_out_by_both_counts_nothing(
    device: str, generator: torch.Generator, near: bool
) -> None:
    """-inf in both is as if the token were not there, beside rows without any."""
    baseline, compressed = pair(generator, 6, 400, noise=1e-3 if near else 0.5)
    padded = [logits.clone() for logits in (baseline, compressed)]
    for logits in padded:
        logits[2:4, 300:] = -inf
    found = vocabulary_distances(baseline=padded[0].to(device), compressed=padded[1].to(device))
    assert_matches(found, scipys(*padded))
    shorter = vocabulary_distances(baseline=baseline[2:4, :300], compressed=compressed[2:4, :300])
    for name in NAMES:
        torch.testing.assert_close(
            getattr(found, name)[2:4].cpu(), getattr(shorter, name), rtol=1e-6, atol=1e-7
        )


def test_token_ruled_out_by_the_compressed_model_alone(
    device: str, generator: torch.Generator
) -> None:
    """KL is inf there, however unlikely the token is; all else is finite, and so are other rows."""
    baseline, compressed = (x.to(device) for x in pair(generator, 4, 300))
    compressed[1, 7] = -inf
    baseline[2, 8], compressed[2, 8] = -800.0, -inf
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    expected = scipys(baseline, compressed)
    assert found.kl.isinf().tolist() == [False, True, True, False]
    expected["kl"][2] = inf  # e^-800 is 0 in double precision
    assert_matches(found, expected)


def test_token_ruled_out_by_the_baseline_alone(device: str, generator: torch.Generator) -> None:
    """The mirror of the test above: reverse KL is inf, KL is finite."""
    baseline, compressed = (x.to(device) for x in pair(generator, 4, 300))
    baseline[1, 7] = -inf
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    assert found.reverse_kl.isinf().tolist() == [False, True, False, False]
    assert found.kl.isfinite().all()
    assert_matches(found, scipys(baseline, compressed))


def test_models_without_a_common_token_are_as_far_apart_as_can_be(device: str) -> None:
    """Each rules out the other's only token: KL inf, Jensen-Shannon ln 2, total variation 1."""
    found = vocabulary_distances(
        baseline=torch.tensor([[3.0, -inf, -inf]], device=device),
        compressed=torch.tensor([[-inf, -9.0, -inf]], device=device),
    )
    assert (float(found.kl), float(found.reverse_kl)) == (inf, inf)
    assert float(found.jensen_shannon) == pytest.approx(log(2), rel=1e-7)
    assert float(found.total_variation) == 1.0


@pytest.mark.parametrize("value", [nan, inf])
@pytest.mark.parametrize("broken", ["baseline", "compressed"])
@pytest.mark.parametrize("ruled_out_by", ["baseline", "compressed", "both", "neither"])
def test_position_with_a_nan_is_nan_and_no_other(
    device: str, generator: torch.Generator, value: float, broken: str, ruled_out_by: str
) -> None:
    """Beside a broken position, one with a ruled out token is what it is by itself."""
    models = dict(zip(("baseline", "compressed"), pair(generator, 4, 50), strict=True))
    for name, logits in models.items():
        if ruled_out_by in (name, "both"):
            logits[2, 9] = -inf
    expected = scipys(models["baseline"], models["compressed"])
    models[broken][1, 3] = value
    baseline, compressed = (models[name].to(device) for name in ("baseline", "compressed"))
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    for name in NAMES:
        assert isnan(float(getattr(found, name)[1]))
        expected[name][1] = nan
        values = torch.from_numpy(expected[name]).float()
        torch.testing.assert_close(
            getattr(found, name).cpu(), values, rtol=2e-6, atol=2e-7, equal_nan=True
        )


def test_position_without_any_possible_token_is_nan(device: str) -> None:
    """All logits at -inf are no distribution."""
    nothing, something = torch.full((1, 3), -inf), torch.zeros(1, 3)
    for baseline, compressed in ((nothing, something), (something, nothing), (nothing, nothing)):
        found = vocabulary_distances(baseline=baseline.to(device), compressed=compressed.to(device))
        assert all(isnan(float(getattr(found, name))) for name in NAMES)


def test_only_token_has_no_distance(device: str) -> None:
    """Its probability is 1, whatever its logit."""
    found = vocabulary_distances(
        baseline=torch.tensor([[-300.0]], device=device),
        compressed=torch.tensor([[5.0]], device=device),
    )
    assert [float(getattr(found, name)) for name in NAMES] == [0.0] * 4
    assert float(found.baseline.lognorm) == -300.0


def test_no_positions_have_no_distances(device: str) -> None:
    """Nothing in, nothing out."""
    nothing = torch.zeros(0, 7, device=device)
    found = vocabulary_distances(baseline=nothing, compressed=nothing)
    assert all(getattr(found, name).shape == (0,) for name in NAMES)
    assert found.same_top.shape == token_scores(nothing).top.shape == (0,)


@pytest.mark.parametrize("scale", [0.3, 3.0, 10.0, 40.0])
@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
def test_inequalities_between_the_distances_hold(
    device: str, generator: torch.Generator, scale: float, noise: float
) -> None:
    """Pinsker, JS between TV^2 / 2 and TV ln 2, and no distance below 0."""
    baseline, compressed = (
        x.to(device) for x in pair(generator, 100, 400, scale=scale, noise=noise)
    )
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    variation, shannon = found.total_variation, found.jensen_shannon
    for name in NAMES:
        assert float(getattr(found, name).min()) >= 0
    assert bool((variation**2 <= torch.minimum(found.kl, found.reverse_kl) / 2 + 1e-7).all())
    assert bool((shannon >= variation**2 / 2 - 1e-7).all())
    assert bool((shannon <= variation * log(2) + 1e-6).all())
    assert float(variation.max()) <= 1 + 1e-6


def test_one_minus_total_variation_is_the_rate_of_accepted_drafts(
    device: str, generator: torch.Generator
) -> None:
    """A draft x of q is accepted with probability min(1, p(x) / q(x)): sum of min(p, q)."""
    baseline, compressed = pair(generator, 50, 500)
    p, q = (softmax(logits.double().numpy(), axis=-1) for logits in (baseline, compressed))
    accepted = (q * np.minimum(1, p / q)).sum(-1)
    found = vocabulary_distances(baseline=baseline.to(device), compressed=compressed.to(device))
    share = 1 - found.total_variation.cpu().double().numpy()
    np.testing.assert_allclose(share, accepted, atol=1e-6)
    assert accepted.min() < 0.9


def test_constant_in_the_logits_changes_nothing(generator: torch.Generator) -> None:
    """Logits that a float32 can shift without rounding give the same to the last bit."""
    baseline, compressed = (logits.mul(64).round() / 64 for logits in pair(generator, 30, 500))
    shift = torch.arange(30)[:, None] - 10.0
    plain = vocabulary_distances(baseline=baseline, compressed=compressed)
    moved = vocabulary_distances(baseline=baseline + shift, compressed=compressed - 3 * shift)
    for name in NAMES:
        assert torch.equal(getattr(plain, name), getattr(moved, name))
    torch.testing.assert_close(moved.baseline.lognorm, plain.baseline.lognorm + shift[:, 0])


def test_other_order_of_both_vocabularies_changes_nothing(generator: torch.Generator) -> None:
    """Control: that of one vocabulary alone is a large distance, and another top token."""
    baseline, compressed = pair(generator, 30, 500)
    order = torch.randperm(500, generator=generator)
    plain = vocabulary_distances(baseline=baseline, compressed=compressed)
    both = vocabulary_distances(baseline=baseline[:, order], compressed=compressed[:, order])
    for name in NAMES:
        torch.testing.assert_close(getattr(plain, name), getattr(both, name), rtol=2e-6, atol=2e-7)
    assert torch.equal(plain.same_top, both.same_top)
    alone = vocabulary_distances(baseline=baseline, compressed=compressed[:, order])
    assert bool((alone.kl > plain.kl + 1).all())
    assert int(alone.same_top.sum()) < int(plain.same_top.sum())


@pytest.mark.parametrize("tokens", [1, 2, 257, LARGE])
@pytest.mark.parametrize("scale", [0.1, 3.0, 60.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_log_of_the_norm_and_the_top_token(
    device: str, generator: torch.Generator, dtype: torch.dtype, scale: float, tokens: int
) -> None:
    """As torch's logsumexp in double and numpy's argmax, which is the first of equals."""
    baseline, compressed = (
        logits.to(device, dtype) for logits in pair(generator, 20, tokens, scale=scale)
    )
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    tops = [logits.double().cpu().numpy().argmax(-1) for logits in (baseline, compressed)]
    for logits, top, scores in (
        (baseline, tops[0], found.baseline),
        (baseline, tops[0], token_scores(baseline)),
        (compressed, tops[1], found.compressed),
        (compressed, tops[1], token_scores(compressed)),
    ):
        expected = logits.double().logsumexp(-1)
        torch.testing.assert_close(scores.lognorm.double(), expected, rtol=3e-7, atol=1e-6)
        assert scores.top.tolist() == top.tolist()
    assert found.same_top.tolist() == (tops[0] == tops[1]).tolist()


def test_log_of_the_norm_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: the norm without its largest term, or of another row."""
    logits = 3 * torch.randn(20, 257, generator=generator)
    expected = logits.double().logsumexp(-1)
    without = logits.scatter(-1, logits.argmax(-1, keepdim=True), -inf)
    for wrong in (without, logits.roll(1, 0), logits.bfloat16().float()):
        found = token_scores(wrong).lognorm.double()
        assert not torch.allclose(found, expected, rtol=3e-7, atol=1e-6)


def test_first_of_equal_tokens_is_the_most_likely(device: str) -> None:
    """Ties are common in bfloat16; both ways to the top token take the same one."""
    logits = torch.tensor([[1.0, 5.0, 5.0, 5.0], [2.0, 2.0, 2.0, 2.0]], device=device).bfloat16()
    found = vocabulary_distances(baseline=logits, compressed=logits)
    assert token_scores(logits).top.tolist() == found.baseline.top.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_first_of_equal_tokens_of_several_blocks(
    device: str, generator: torch.Generator, dtype: torch.dtype
) -> None:
    """Equals in one block, in others and in the rest behind the last whole block; nan is most."""
    places = [[300, 301], [255, 256], [511, 600], [600, 699], [0, 699], [699], [5, 260]]
    logits = torch.randn(len(places), 700, generator=generator)
    for row, equal in enumerate(places):
        logits[row, equal] = 9.0
    logits[-1, 620] = nan
    logits = logits.to(device, dtype)
    found = vocabulary_distances(baseline=logits, compressed=logits.flip(0))
    first = [*(equal[0] for equal in places[:-1]), 620]
    assert token_scores(logits).top.tolist() == found.baseline.top.tolist() == first
    assert found.compressed.top.tolist() == first[::-1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_positions_scores_hang_on_no_other(
    generator: torch.Generator, dtype: torch.dtype, threads: int
) -> None:
    """To the last bit: alone, beside others, and measured; a sum in other parts would differ."""
    logits = (3 * torch.randn(7, LARGE, generator=generator)).to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = token_scores(logits)
        measured = vocabulary_distances(baseline=logits.roll(1, 0), compressed=logits)
        alone = [token_scores(row[None]) for row in logits]
        pairs = [vocabulary_distances(baseline=row[None], compressed=row[None]) for row in logits]
    finally:
        torch.set_num_threads(before)
    for found in (alone, [pair.compressed for pair in pairs], [pair.baseline for pair in pairs]):
        assert torch.equal(torch.cat([one.lognorm for one in found]), whole.lognorm)
        assert torch.equal(torch.cat([one.top for one in found]), whole.top)
    assert torch.equal(measured.compressed.lognorm, whole.lognorm)
    assert torch.equal(measured.baseline.lognorm, whole.lognorm.roll(1))


def test_few_of_many_positions_are_computed_again(generator: torch.Generator) -> None:
    """A position that rules a token out is worked out apart, and its neighbours stay as they are."""
    baseline, compressed = pair(generator, 40, 700)
    plain = vocabulary_distances(baseline=baseline, compressed=compressed)
    apart = [0, 13, 39]
    baseline[apart, 600:], compressed[apart, 600:] = -inf, -inf
    found = vocabulary_distances(baseline=baseline, compressed=compressed)
    assert_matches(found, scipys(baseline, compressed))
    others = [row for row in range(40) if row not in apart]
    for name in NAMES:
        assert torch.equal(getattr(found, name)[others], getattr(plain, name)[others])
        assert not torch.equal(getattr(found, name)[apart], getattr(plain, name)[apart])


def test_logprob_is_a_logit_less_the_norm(generator: torch.Generator) -> None:
    """Probabilities made so sum to 1, also where a token is ruled out."""
    logits = 3 * torch.randn(20, 257, generator=generator)
    logits[4, 5:50] = -inf
    total = (logits - token_scores(logits).lognorm[:, None]).double().exp().sum(-1)
    np.testing.assert_allclose(total, 1.0, atol=2e-6)


def test_chunks_are_joined_in_order(generator: torch.Generator) -> None:
    """Distances of three parts, one after the other, are those of the whole."""
    baseline, compressed = pair(generator, 30, 200)
    whole = vocabulary_distances(baseline=baseline, compressed=compressed).cpu()
    parts = joined(
        [
            vocabulary_distances(baseline=baseline[part], compressed=compressed[part])
            for part in (slice(7), slice(7, 8), slice(8, None))
        ]
    )
    for name in NAMES:
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    assert torch.equal(parts.same_top, whole.same_top)
    torch.testing.assert_close(parts.baseline.lognorm, whole.baseline.lognorm)
    torch.testing.assert_close(parts.compressed.lognorm, whole.compressed.lognorm)


def test_logits_are_left_as_they_are(generator: torch.Generator) -> None:
    """What is worked on in place is no logit of the caller's, nor a result of another call."""
    baseline, compressed = pair(generator, 30, 200)
    before = baseline.clone(), compressed.clone()
    first = vocabulary_distances(baseline=baseline, compressed=compressed)
    kept = {name: getattr(first, name).clone() for name in NAMES}
    vocabulary_distances(baseline=compressed.roll(1, 1), compressed=baseline)
    token_scores(baseline)
    assert torch.equal(baseline, before[0])
    assert torch.equal(compressed, before[1])
    for name in NAMES:
        assert torch.equal(getattr(first, name), kept[name])


def test_vocabularies_of_other_sizes_are_refused() -> None:
    """The shapes in the signature are checked under test: 4 tokens cannot be held against 3."""
    with pytest.raises(jaxtyping.TypeCheckError, match="compressed"):
        vocabulary_distances(baseline=torch.zeros(2, 4), compressed=torch.zeros(2, 3))
