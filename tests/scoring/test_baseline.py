"""Distances from a recorded baseline: float64 softmaxes, padded vocabularies, the bounded mode."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.baseline import Baseline
from lm_eval_flips.scoring.requests import TokenRequest, key_of
from lm_eval_flips.scoring.vocabulary import VocabularyDistances
from tests.scoring.test_reference import TOKENS, Toy, questions, record

NAMES = ("kl", "reverse_kl", "jensen_shannon", "total_variation")
REQUESTS = questions(4)
WANTED = [
    (key_of(request), token)
    for request in REQUESTS[1:]
    for token in range(request.scored)  # not the first: what is asked for is not all there is
]


def states(toy: Toy) -> Tensor:
    """A toy's states at the wanted positions."""
    return torch.cat([toy.states(request) for request in REQUESTS[1:]])


def logits(toy: Toy) -> Tensor:
    """A toy's logits at the wanted positions."""
    return toy.head.logits(states(toy))


def oracle(before: Tensor, after: Tensor) -> dict[str, NDArray[np.float64]]:
    """Distances in float64, by scipy, from the two models' logits."""
    rows = []
    for one, other in zip(before.double().numpy(), after.double().numpy(), strict=True):
        p, q = softmax(one), softmax(other)
        rows.append(
            (entropy(p, q), entropy(q, p), jensenshannon(p, q) ** 2, np.abs(p - q).sum() / 2)
        )
    return dict(zip(NAMES, np.array(rows).T, strict=True))


def assert_are(found: VocabularyDistances, expected: dict[str, NDArray[np.float64]]) -> None:
    """The four distances, position by position."""
    for name in NAMES:
        values = getattr(found, name)
        torch.testing.assert_close(
            values.double(), torch.from_numpy(expected[name]), atol=1e-6, rtol=1e-5
        )


def measured(
    folder: Path, before: Toy, after: Toy, *, top: int | None = None
) -> VocabularyDistances:
    """Distances of a toy at the wanted positions from another that is recorded."""
    reference = record(folder, before, REQUESTS, top=top)
    baseline = Baseline(reference, tokens=after.head.tokens)
    return baseline.rows(WANTED).distances(logits(after), slice(None))


def lognorm(values: Tensor) -> Tensor:
    """The log of the norm, float64."""
    return values.double().logsumexp(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_distances_are_those_of_float64_softmaxes(tmp_path: Path, dtype: torch.dtype) -> None:
    """Of the logits that the two models make in their own dtype."""
    before, after = Toy(1, dtype=dtype), Toy(2, dtype=dtype)
    found = measured(tmp_path, before, after)
    assert_are(found, oracle(logits(before), logits(after)))
    assert torch.equal(found.same_top, logits(before).argmax(-1) == logits(after).argmax(-1))
    for scores, toy in ((found.baseline, before), (found.compressed, after)):
        torch.testing.assert_close(scores.lognorm.double(), lognorm(logits(toy)), atol=1e-5, rtol=0)


def test_the_check_of_the_distances_can_fail(tmp_path: Path) -> None:
    """Control: another compressed model, or the two swapped, is seen."""
    before, after = Toy(1), Toy(2)
    found = measured(tmp_path, before, after)
    for wrong in (
        oracle(logits(before), logits(Toy(3))),
        oracle(logits(after), logits(before)),
    ):
        with pytest.raises(AssertionError, match="not close"):
            assert_are(found, wrong)


def test_swapping_the_models_swaps_the_two_kls(tmp_path: Path) -> None:
    """The symmetric distances stay."""
    there = measured(tmp_path / "a", Toy(1), Toy(2))
    back = measured(tmp_path / "b", Toy(2), Toy(1))
    swapped = {"kl": "reverse_kl", "reverse_kl": "kl"}
    for name in NAMES:
        torch.testing.assert_close(
            getattr(there, name), getattr(back, swapped.get(name, name)), atol=1e-6, rtol=1e-5
        )
    assert float((there.kl - there.reverse_kl).abs().max()) > 0.01


@pytest.mark.parametrize("top", [None, 4])
def test_a_model_is_at_no_distance_from_itself(tmp_path: Path, top: int | None) -> None:
    """To within rounding, with the same token on top everywhere."""
    found = measured(tmp_path, Toy(1), Toy(1), top=top)
    assert all(float(getattr(found, name).max()) < 1e-6 for name in NAMES)
    assert bool(found.same_top.all())


@pytest.mark.parametrize(("ours", "theirs"), [(TOKENS, TOKENS + 5), (TOKENS + 5, TOKENS)])
def test_only_tokens_that_both_models_have_are_compared(
    tmp_path: Path, ours: int, theirs: int
) -> None:
    """Either vocabulary may be the padded one; each model's own tokens decide its numbers."""
    before, after = Toy(1, tokens=ours), Toy(2, tokens=theirs)
    found = measured(tmp_path, before, after)
    one, other = logits(before), logits(after)
    assert (one.shape[1], other.shape[1]) == (ours, theirs)
    assert_are(found, oracle(one[:, :TOKENS], other[:, :TOKENS]))
    torch.testing.assert_close(found.compressed.lognorm.double(), lognorm(other), atol=1e-5, rtol=0)
    assert torch.equal(found.compressed.top, other.argmax(-1))
    assert torch.equal(found.baseline.top, one[:, :TOKENS].argmax(-1))


def test_a_padded_token_on_top_is_another_answer(tmp_path: Path) -> None:
    """It counts in the compressed model's norm and top token, and in no distance."""
    before = Toy(1)
    baseline = Baseline(record(tmp_path, before, REQUESTS), tokens=TOKENS + 1)
    assert baseline.shared == TOKENS
    own = torch.cat([logits(before), torch.full((len(WANTED), 1), 50.0)], 1)
    found = baseline.rows(WANTED).distances(own, slice(None))
    assert float(found.kl.max()) < 1e-6
    assert not found.same_top.any()
    torch.testing.assert_close(found.compressed.lognorm, torch.full((len(WANTED),), 50.0))


@pytest.mark.parametrize("top", [1, 4, TOKENS])
def test_the_bounded_mode_merges_all_other_tokens(tmp_path: Path, top: int) -> None:
    """Distances between merged distributions, which never exceed those of the whole vocabulary."""
    before, after = Toy(1), Toy(2)
    found = measured(tmp_path / "bounded", before, after, top=top)
    whole = oracle(logits(before), logits(after))
    order = logits(before).argsort(-1, descending=True)[:, :top]
    merged = []
    for toy in (before, after):
        p = logits(toy).double().softmax(-1)
        kept = p.gather(-1, order)
        merged.append(torch.cat([kept, (1 - kept.sum(-1, keepdim=True)).clamp_min(1e-300)], 1))
    assert_are(found, oracle(merged[0].log(), merged[1].log()))
    for name in NAMES:
        bound = torch.from_numpy(whole[name])
        assert bool((getattr(found, name).double() <= bound + 1e-6).all())
    gap = float((torch.from_numpy(whole["kl"]) - found.kl.double()).max())
    assert gap > 0.01 if top < TOKENS else gap < 1e-5
    assert torch.equal(found.same_top, logits(before).argmax(-1) == logits(after).argmax(-1))


def test_the_bounded_mode_of_a_larger_vocabulary_compares_the_shared_tokens(tmp_path: Path) -> None:
    """The compressed model's norm is over all its own tokens all the same."""
    before, after = Toy(1), Toy(2, tokens=TOKENS + 5)
    found = measured(tmp_path, before, after, top=TOKENS)
    assert_are(found, oracle(logits(before), logits(after)[:, :TOKENS]))
    torch.testing.assert_close(
        found.compressed.lognorm.double(), lognorm(logits(after)), atol=1e-5, rtol=0
    )
    assert torch.equal(found.compressed.top, logits(after).argmax(-1))


def test_a_token_that_the_compressed_model_lacks_is_refused(tmp_path: Path) -> None:
    """The baseline's most likely tokens are kept by their ids."""
    with pytest.raises(FlipsError, match="tokens that the compressed model does not have"):
        measured(tmp_path, Toy(1), Toy(2, tokens=TOKENS - 5), top=4)


def test_the_reference_tells_whether_only_first_positions_are_known(tmp_path: Path) -> None:
    """And gives those."""
    toy = Toy(1)
    last = Baseline(record(tmp_path / "last", toy, REQUESTS, last=True), tokens=TOKENS)
    every = Baseline(record(tmp_path / "all", toy, REQUESTS), tokens=TOKENS)
    assert (last.first_only, every.first_only) == (True, False)
    firsts = [(key_of(request), 0) for request in REQUESTS]
    own = torch.stack([toy.states(request)[0] for request in REQUESTS])
    for baseline in (last, every):
        found = baseline.rows(firsts).distances(toy.head.logits(own), slice(None))
        assert float(found.kl.max()) < 1e-6


@pytest.mark.parametrize("top", [None, 4])
def test_some_of_the_rows_give_their_own_distances(tmp_path: Path, top: int | None) -> None:
    """A part of the positions, as they are made a few at a time."""
    before, after = Toy(1), Toy(2)
    baseline = Baseline(record(tmp_path, before, REQUESTS, top=top), tokens=TOKENS)
    rows = baseline.rows(WANTED)
    whole = rows.distances(logits(after), slice(None))
    for place in (slice(0, 3), slice(3, 4), slice(4, len(WANTED))):
        part = rows.distances(logits(after)[place], place)
        for field in fields(VocabularyDistances):
            found, expected = getattr(part, field.name), getattr(whole, field.name)
            if isinstance(found, Tensor):
                torch.testing.assert_close(found, expected[place], atol=1e-6, rtol=1e-5)
    shifted = rows.distances(logits(after)[0:3], slice(1, 4))
    assert float((shifted.kl - whole.kl[0:3]).abs().max()) > 0.01


def test_what_is_wanted_may_be_in_any_order(tmp_path: Path) -> None:
    """The distances follow it."""
    before, after = Toy(1), Toy(2)
    baseline = Baseline(record(tmp_path, before, REQUESTS), tokens=TOKENS)
    order = np.random.default_rng(0).permutation(len(WANTED))
    mixed = baseline.rows([WANTED[place] for place in order])
    found = mixed.distances(logits(after)[torch.from_numpy(order)], slice(None))
    whole = baseline.rows(WANTED).distances(logits(after), slice(None))
    torch.testing.assert_close(found.kl, whole.kl[torch.from_numpy(order)], atol=1e-6, rtol=1e-5)


def test_a_request_that_was_not_recorded_is_not_found(tmp_path: Path) -> None:
    """Whoever asks looks first."""
    other = TokenRequest.of([1], [2], max_length=4)
    baseline = Baseline(record(tmp_path, Toy(1), REQUESTS), tokens=TOKENS)
    assert key_of(other) not in baseline.reference
    with pytest.raises(KeyError, match=r"b'"):
        baseline.rows([(key_of(other), 0)])
