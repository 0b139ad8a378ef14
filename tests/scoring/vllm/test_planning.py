"""Requests are laid out for vLLM so that few tokens are computed: counted here, without an engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.vllm.planning import Step, calls, computed, dealt, plan

LETTERS = (7, 8, 9, 10)


def questions(count: int, *, shared: int, own: int, options: Sequence[int]) -> list[TokenRequest]:
    """Questions behind the same examples; each option has so many tokens, none of them shared."""
    drawn = np.random.default_rng(0)
    examples = drawn.integers(20, 90, shared).tolist()
    asked = []
    for _ in range(count):
        context = [*examples, *drawn.integers(20, 90, own).tolist()]
        for option, size in enumerate(options):
            tokens = [LETTERS[option], *drawn.integers(20, 90, size - 1).tolist()]
            asked.append(TokenRequest.of(context, tokens, max_length=4096))
    return asked


def cached_by_hand(prompts: Sequence[Sequence[int]], block: int) -> int:
    """Oracle: a prefix cache that holds whole blocks of all prompts so far, block by block."""
    held: set[tuple[int, ...]] = set()
    spent = 0
    for prompt in prompts:
        hit = 0
        while hit + block <= len(prompt) - 1 and tuple(prompt[: hit + block]) in held:
            hit += block
        spent += len(prompt) - hit
        held |= {tuple(prompt[:end]) for end in range(block, len(prompt) + 1, block)}
    return spent


def prompts_of(steps: Sequence[Step]) -> list[list[int]]:
    """All prompts that are asked position by position, in order."""
    return [position.prompt.tolist() for step in steps for position in step.positions]


@pytest.mark.parametrize("block", [1, 16, 128])
@pytest.mark.parametrize("options", [(1, 1, 1, 1), (3, 1, 6, 2)])
@pytest.mark.parametrize("shared", [0, 15, 400])
def test_tokens_are_counted_as_a_prefix_cache_holds_them(
    block: int, options: Sequence[int], shared: int
) -> None:
    """Oracle: a cache by hand."""
    requests = questions(5, shared=shared, own=30, options=options)
    steps = plan(requests, block=block, only_positions=True)
    assert sum(step.computed for step in steps) == cached_by_hand(prompts_of(steps), block)


def test_a_cache_by_hand_sees_a_worse_order() -> None:
    """Control: options that are asked in turn, without their questions together, cost more."""
    requests = questions(5, shared=0, own=40, options=(5, 5))
    steps = plan(requests, block=4, only_positions=True)
    prompts = prompts_of(steps)
    forgetful = sum(cached_by_hand([prompt], 4) for prompt in prompts)
    assert cached_by_hand(prompts, 4) < forgetful / 5


@pytest.mark.parametrize("only_positions", [True, False])
@pytest.mark.parametrize("block", [None, 16])
def test_every_token_of_every_request_is_asked_once(
    only_positions: bool, block: int | None
) -> None:
    """Identity: each request's rows are the prompts before its tokens, and want these."""
    requests = questions(3, shared=50, own=9, options=(1, 30, 2, 1))
    requests = [*requests, TokenRequest.of(requests[0].fed.tolist(), [3, 4], max_length=99)]
    seen = []
    for step in plan(requests, block=block, only_positions=only_positions):
        for index, rows in zip(step.requests, step.rows, strict=True):
            seen.append(index)
            request = requests[index]
            assert len(rows) == request.scored
            for token, row in enumerate(rows if not step.whole else ()):
                position = step.positions[row]
                assert (
                    position.prompt.tolist()
                    == request.fed[: request.first_scored + 1 + token].tolist()
                )
                assert request.continuation[token] in position.tokens
        owned = [position.owner for position in step.positions]
        assert len(set(owned)) == len(owned)
    assert sorted(seen) == list(range(len(requests)))


def test_options_of_one_token_are_one_prompt() -> None:
    """Of a question with letters one prompt is asked, which tells of all of them."""
    (step,) = plan(questions(1, shared=90, own=9, options=(1, 1, 1, 1)), block=16)
    assert [position.tokens for position in step.positions] == [LETTERS]
    assert step.computed == 99


def test_the_cheaper_way_is_taken() -> None:
    """Long options behind a short context are asked whole, short ones behind a long one are not."""
    long = plan(questions(4, shared=0, own=20, options=(30, 30)), block=128)
    short = plan(questions(4, shared=500, own=20, options=(1, 2)), block=16)
    assert [step.whole for step in long] == [True] * 4
    assert [step.whole for step in short] == [False] * 4
    assert sum(step.computed for step in long) == 4 * 2 * 50


def test_without_a_cache_a_shared_prompt_is_still_asked_once() -> None:
    """Letters are one prompt; other options are asked whole."""
    (letters,) = plan(questions(1, shared=90, own=9, options=(1, 1)), block=None)
    (longer,) = plan(questions(1, shared=90, own=9, options=(3, 3)), block=None)
    assert (letters.whole, letters.computed) == (False, 99)
    assert (longer.whole, longer.computed) == (True, 2 * 102)


def test_mmlu_takes_a_fifteenth_of_the_tokens() -> None:
    """5-shot, four letters: against four whole prompts a question."""
    requests = questions(40, shared=600, own=70, options=(1, 1, 1, 1))
    tokens = sum(step.computed for step in plan(requests, block=16))
    assert tokens < sum(len(request.fed) + 1 for request in requests) / 15


def test_calls_hold_about_as_many_prompts_as_asked() -> None:
    """All steps, in order; none is cut in two."""
    steps = plan(questions(7, shared=9, own=9, options=(3, 3)), block=16)
    parts = list(calls(steps, most=4))
    assert [step for part in parts for step in part] == steps
    assert len(parts) > 2
    assert list(calls([], most=4)) == []


@pytest.mark.parametrize(("count", "hands"), [(0, 2), (1, 3), (7, 1), (7, 3), (12, 4)])
def test_copies_are_dealt_neighbours(count: int, hands: int) -> None:
    """Dealt in turn, as the harness does, each hand holds a run of neighbours."""
    order = dealt(count, hands)
    assert sorted(order) == list(range(count))
    for hand in range(hands):
        own = order[hand::hands]
        assert own == list(range(own[0], own[0] + len(own))) if own else True


def test_a_prompt_that_is_wholly_cached_computes_its_last_block() -> None:
    """What the last token predicts is not kept."""
    assert computed(32, 32, 16) == 16
    assert computed(33, 33, 16) == 1
    assert computed(5, 0, 16) == 5
