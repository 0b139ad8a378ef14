"""Greedy decoding from drafts, against transformers' own `generate`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import StoppingCriteriaList
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
)

from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from lm_eval_flips.scoring.transformers.drafted import DraftedDecoding
from tests.scoring import models

LIMIT = 24  # tokens
PROMPT = models.tokens(9, 4)
Propose = Callable[[Sequence[int]], list[int]]


def written(model: Any, **given: Any) -> list[int]:
    """What a model writes behind the prompt."""
    found = model.generate(
        torch.tensor([PROMPT]),
        max_length=len(PROMPT) + LIMIT,
        do_sample=False,
        pad_token_id=0,
        **{"eos_token_id": None, **given},
    )
    ids: list[int] = found[0, len(PROMPT) :].tolist()
    return ids


def from_draft(model: Any, propose: Propose, **given: Any) -> tuple[list[int], int]:
    """The same from a draft, and in how many passes."""
    decoding = CausalModel(model).drafted(propose)
    assert decoding is not None
    ids = written(model, custom_generate=decoding, **given)
    return ids, decoding.passes


@pytest.fixture(params=["llama", "qwen2", "gpt2"])
def model(request: pytest.FixtureRequest) -> Any:
    """Models whose positions and caches are made in other ways."""
    return models.build(request.param)


def test_whatever_is_proposed_the_text_is_the_same(model: Any) -> None:
    """A right draft, a wrong one, one that is right at times, one beyond the limit."""
    plain = written(model)
    assert len(plain) == LIMIT
    drawn = random.Random(0)

    def at_times(so_far: Sequence[int]) -> list[int]:
        right = plain[len(so_far) : len(so_far) + 5]
        return [own if drawn.random() < 0.7 else (own + 1) % models.TOKENS for own in right]

    drafts: dict[str, tuple[Propose, range]] = {
        "right": (lambda so_far: plain[len(so_far) :], range(1, 2)),
        "none": (lambda so_far: [], range(LIMIT, LIMIT + 1)),
        "wrong": (
            lambda so_far: [(plain[len(so_far)] + 1) % models.TOKENS],
            range(LIMIT, LIMIT + 1),
        ),
        "at times": (at_times, range(5, LIMIT)),
        "too long": (lambda so_far: [*plain[len(so_far) :], *range(50)], range(1, 2)),
    }
    for name, (propose, passes) in drafts.items():
        ids, took = from_draft(model, propose)
        assert ids == plain, name
        assert took in passes, name


def test_it_stops_where_the_text_ends(model: Any) -> None:
    """At the token that ends a text, and where a criterion says so, in the midst of a draft."""
    plain = written(model)
    ending = plain[10]
    first = plain.index(ending)
    ids, _ = from_draft(model, lambda so_far: plain[len(so_far) :], eos_token_id=ending)
    assert ids == written(model, eos_token_id=ending) == plain[: first + 1]

    def seven(input_ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        return torch.tensor([input_ids.shape[1] >= len(PROMPT) + 7])

    stops: Any = StoppingCriteriaList([seven])
    ids, took = from_draft(model, lambda so_far: plain[len(so_far) :], stopping_criteria=stops)
    assert (ids, took) == (plain[:7], 1)


def test_processors_see_each_token_alone(model: Any) -> None:
    """A penalty on what was written changes the text, and in a draft in the same way."""
    penalty: Any = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(3.0)])
    plain, penalised = written(model), written(model, logits_processor=penalty)
    assert plain != penalised
    for draft in (plain, penalised):
        propose: Propose = lambda so_far, draft=draft: draft[len(so_far) :]  # type: ignore[misc]  # noqa: E731
        assert from_draft(model, propose, logits_processor=penalty)[0] == penalised


def test_models_that_read_by_length_or_windows_are_left_alone() -> None:
    """A cache of theirs cannot be cut back, or many tokens are read otherwise than one by one."""
    for name in ("mistral", "qwen3 sliding", "gemma3_text"):
        assert CausalModel(models.build(name)).drafted(lambda so_far: []) is None
    assert isinstance(
        CausalModel(models.build("llama")).drafted(lambda so_far: []), DraftedDecoding
    )
