"""Packs of requests as calls of llama.cpp: each leaf of a tree is a sequence of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.scoring.llama_cpp.context import Context, Tokens
from lm_eval_flips.scoring.prefix_tree import Pack
from lm_eval_flips.scoring.requests import Ints, TokenRequest
from lm_eval_flips.scoring.scored_rows import ScoredRows


def score_packs(
    context: Context, packs: Sequence[Pack], *, prefix: int | None, free: int
) -> ScoredRows:
    """Compute packs behind the same prefix, each leaf a sequence of its own."""
    parts: list[Tokens] = []
    for pack in packs:
        before = np.concatenate([[0], np.cumsum(leaves_of(pack))])  # leaves before each place
        chosen = np.zeros(len(pack), bool)
        chosen[wanted_of(pack)] = True
        parts.append(
            Tokens(
                ids=pack.tokens,
                positions=pack.depths,
                first=free + before[:-1],
                last=free + before[pack.ends],
                wanted=chosen,
            )
        )
        free = free + int(before[-1])
    tokens = Tokens(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Tokens)
        }
    )
    leaves = range(int(tokens.first.min()), int(tokens.last.max()))
    if prefix is not None:
        for leaf in leaves:
            context.copy(prefix, leaf, packs[0].base)
    decoded = context.decode(tokens)
    for leaf in leaves:
        context.forget(leaf)
    row = np.cumsum(tokens.wanted) - 1
    starts = np.cumsum([0, *map(len, packs)])
    placed = [
        row[start + own]
        for start, pack in zip(starts.tolist(), packs, strict=False)
        for own in pack.places
    ]
    return ScoredRows(
        hidden=decoded.logits,
        requests=tuple(index for pack in packs for index in pack.requests),
        rows=tuple(placed),
        recorded=decoded.hidden,
    )


def chain(requests: Sequence[TokenRequest], group: Sequence[int]) -> Pack:
    """Requests that are fed the same tokens, which see all before them."""
    fed = requests[group[0]].fed
    return Pack(
        base=0,
        tokens=fed,
        depths=np.arange(len(fed)),
        ends=np.full(len(fed), len(fed)),
        requests=tuple(group),
        places=tuple(np.arange(requests[index].first_scored, len(fed)) for index in group),
    )


def leaves_of(pack: Pack) -> NDArray[np.bool_]:
    """Whether nothing descends from each token."""
    leaves: NDArray[np.bool_] = pack.ends == np.arange(1, len(pack) + 1)
    return leaves


def wanted_of(pack: Pack) -> Ints:
    """The places that predict something."""
    return np.unique(np.concatenate(pack.places))
