"""How requests are asked of vLLM, so that it computes as few tokens as possible: a plan, no engine.

Two ways give a continuation's scores. Position by position: a prompt that ends where a token is
predicted, of which one token is written; what stands in the prefix cache is not computed again, in
whole blocks, and options that share a context share its prompt. Whole: context and continuation as
one prompt whose log-probabilities are asked for, which computes all of it, cached or not. The
tokens of both are counted, and those of fewer are computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lm_eval_flips.scoring.prefix_tree import common
from lm_eval_flips.scoring.requests import Ints, TokenRequest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Position:
    """A prompt, and the tokens whose log-probabilities behind it are wanted.

    It is what predicts token ``owner[1]`` of request ``owner[0]``, and of others maybe. Of its
    prompt ``cached`` tokens are expected in the cache.
    """

    prompt: Ints
    cached: int
    tokens: tuple[int, ...]
    owner: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """Requests of one context. Token ``j`` of ``requests[i]`` is predicted by ``rows[i][j]``.

    Rows are positions, of which some belong to several requests; or, where requests are asked
    ``whole``, each request's own, one after the other. ``computed`` are the tokens that vLLM is
    expected to compute.
    """

    requests: tuple[int, ...]
    rows: tuple[Ints, ...]
    positions: tuple[Position, ...]
    whole: bool
    computed: int


def plan(
    requests: Sequence[TokenRequest],
    *,
    block: int | None,
    only_positions: bool = False,
) -> list[Step]:
    """Lay out requests in an order in which neighbours share the most.

    Args:
        requests: what is asked.
        block: tokens of a block of the prefix cache; None without one.
        only_positions: ask nothing whole, as where tokens are wanted that vLLM does not choose.

    Example:
        >>> options = [TokenRequest.of([1] * 40, [n], max_length=99) for n in (7, 8, 9)]
        >>> (step,) = plan(options, block=16)
        >>> step.whole, step.computed, step.positions[0].tokens
        (False, 40, (7, 8, 9))
    """
    order = sorted(
        range(len(requests)), key=lambda index: requests[index].fed.astype(">u4").tobytes()
    )
    groups: dict[bytes, list[int]] = {}
    for index in order:
        request = requests[index]
        groups.setdefault(request.fed[: request.first_scored + 1].tobytes(), []).append(index)
    steps: list[Step] = []
    before = np.empty(0, np.int64)
    for group in groups.values():
        step = _by_positions(requests, group, block=block, before=before)
        if not only_positions:
            whole = _whole(requests, group)
            step = step if step.computed <= whole.computed else whole
        steps.append(step)
        before = requests[group[-1]].fed
    return steps


def computed(length: int, shared: int, block: int | None) -> int:
    """Tokens of a prompt that are computed where its first ``shared`` ones stand in the cache.

    The last token always is, since what it predicts is not kept.

    Example:
        >>> computed(40, 39, 16), computed(40, 39, None), computed(32, 32, 16)
        (8, 40, 16)
    """
    if block is None:
        return length
    return length - min(shared, length - 1) // block * block


def calls(steps: Iterable[Step], *, most: int) -> Iterator[list[Step]]:
    """Steps that are asked in one call, about ``most`` prompts of them."""
    call: list[Step] = []
    size = 0
    for step in steps:
        call.append(step)
        size += len(step.requests) if step.whole else len(step.positions)
        if size >= most:
            yield call
            call, size = [], 0
    if call:
        yield call


def dealt(count: int, hands: int) -> list[int]:
    """An order in which ``hands`` that are dealt to in turn get neighbours each.

    vLLM's copies are dealt prompts in turn; each has a prefix cache of its own.

    Example:
        >>> order = dealt(5, 2)
        >>> order[0::2], order[1::2]
        ([0, 1, 2], [3, 4])
    """
    sizes = [len(range(hand, count, hands)) for hand in range(hands)]
    starts = np.cumsum([0, *sizes]).tolist()
    return [starts[turn % hands] + turn // hands for turn in range(count)]


def _by_positions(
    requests: Sequence[TokenRequest],
    group: Sequence[int],
    *,
    block: int | None,
    before: Ints,
) -> Step:
    """Every position of some requests; ``before`` is the prompt that was computed last."""
    places: dict[bytes, int] = {}
    prompts: list[Ints] = []
    sizes: list[int] = []
    owners: list[tuple[int, int]] = []
    wanted: list[dict[int, None]] = []
    rows: list[Ints] = []
    for index in group:
        request = requests[index]
        own = np.empty(request.scored, np.int64)
        for token, wanted_token in enumerate(request.continuation.tolist()):
            prompt = request.fed[: request.first_scored + 1 + token]
            place = places.setdefault(prompt.tobytes(), len(prompts))
            if place == len(prompts):
                sizes.append(computed(len(prompt), common(before, prompt), block))
                before = prompt
                prompts.append(prompt)
                owners.append((index, token))
                wanted.append({})
            wanted[place].setdefault(wanted_token)
            own[token] = place
        rows.append(own)
    positions = zip(prompts, sizes, wanted, owners, strict=True)
    return Step(
        requests=tuple(group),
        rows=tuple(rows),
        positions=tuple(
            Position(prompt=prompt, cached=len(prompt) - size, tokens=tuple(wanted), owner=owner)
            for prompt, size, wanted, owner in positions
        ),
        whole=False,
        computed=sum(sizes),
    )


def _whole(requests: Sequence[TokenRequest], group: Sequence[int]) -> Step:
    bounds = np.cumsum([0, *(requests[index].scored for index in group)])
    return Step(
        requests=tuple(group),
        rows=tuple(np.arange(low, high) for low, high in pairwise(bounds.tolist())),
        positions=(),
        whole=True,
        computed=sum(len(requests[index].fed) + 1 for index in group),
    )
