"""What vLLM tells of a distribution, as rows over the vocabulary."""

from __future__ import annotations

import pytest
import torch

from lm_eval_flips.scoring.top_tokens import bounded_distances, top_tokens
from lm_eval_flips.scoring.vllm.known import Known, dense_rows

VOCABULARY, TOP = 50, 6


def drawn(seed: int, rows: int = 20) -> torch.Tensor:
    """Log-probabilities over a vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, VOCABULARY, generator=generator, dtype=torch.float64)
    return logits.log_softmax(-1)


def known_of(logprobs: torch.Tensor, ids: torch.Tensor) -> list[Known]:
    """What is known where only some tokens are asked for, and the likeliest is always told."""
    found = []
    for row, own in zip(logprobs, ids.tolist(), strict=True):
        top = int(row.argmax())
        found.append(Known(logprobs={token: float(row[token]) for token in (*own, top)}, top=top))
    return found


def test_known_tokens_have_what_they_have() -> None:
    """Identity, and the likeliest token stays it, whichever are known."""
    logprobs = drawn(0)
    ids = torch.randint(
        VOCABULARY, (len(logprobs), TOP), generator=torch.Generator().manual_seed(1)
    )
    rows = dense_rows(known_of(logprobs, ids), tokens=VOCABULARY)
    assert torch.allclose(rows.gather(-1, ids), logprobs.gather(-1, ids).float())
    assert torch.equal(rows.argmax(-1), logprobs.argmax(-1))
    assert torch.allclose(rows.double().exp().sum(-1), torch.ones(len(rows)).double(), atol=1e-6)


def test_bounds_are_those_of_the_whole_distribution() -> None:
    """Oracle: distances over bins, made of all logits of both models."""
    baseline, compressed = drawn(0), drawn(1)
    top = top_tokens(baseline.float(), TOP)
    expected = bounded_distances(baseline=top, compressed=compressed.float())
    rows = dense_rows(known_of(compressed, top.ids), tokens=VOCABULARY)
    found = bounded_distances(baseline=top, compressed=rows)
    for name in ("kl", "reverse_kl", "jensen_shannon", "total_variation"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
    assert torch.equal(found.same_top, expected.same_top)


def test_other_tokens_would_give_another_bound() -> None:
    """Control: known of other tokens than the baseline's, a row is no bound at all."""
    baseline, compressed = drawn(0), drawn(1)
    top = top_tokens(baseline.float(), TOP)
    others = top_tokens(-baseline.float(), TOP).ids
    rows = dense_rows(known_of(compressed, others), tokens=VOCABULARY)
    expected = bounded_distances(baseline=top, compressed=compressed.float())
    found = bounded_distances(baseline=top, compressed=rows)
    assert float((found.kl - expected.kl).abs().max()) > 0.1


def test_recorded_tokens_are_the_likeliest() -> None:
    """What a reference keeps is the same, made of the known tokens alone."""
    logprobs = drawn(2)
    expected = top_tokens(logprobs.float(), TOP)
    found = top_tokens(dense_rows(known_of(logprobs, expected.ids), tokens=VOCABULARY), TOP)
    assert torch.equal(found.ids, expected.ids)
    assert torch.allclose(found.logprobs, expected.logprobs, atol=1e-5)


def test_a_certain_model_leaves_next_to_nothing() -> None:
    """Rounding may bring the sum of the known to more than 1: what is left is never nothing."""
    (row,) = dense_rows([Known(logprobs={3: 1e-6}, top=3)], tokens=4)
    assert torch.isfinite(row).all()
    assert float(row[:3].exp().sum()) == pytest.approx(1e-7, rel=1e-3)


def test_a_second_question_adds_to_the_first() -> None:
    """Where both know a token, the first does."""
    first, second = Known(logprobs={1: -0.1}, top=1), Known(logprobs={1: -0.2, 2: -3.0}, top=1)
    assert first.joined(second) == Known(logprobs={1: -0.1, 2: -3.0}, top=1)
