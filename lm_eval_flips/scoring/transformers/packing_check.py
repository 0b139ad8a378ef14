"""Does a model read packs as it reads plain requests? Tried on real requests, before it counts.

A recurrent model, linear attention, ALiBi, a window that counts places, or an attention kernel that
ignores the mask would give other numbers without a word. Three things are tried on some of the
requests: the packed distributions are those of the plain requests, with as many strange tokens
between a context and its continuations as any pack will hold; so are those behind a prefix kept as
keys and values; and, where rounding hides small differences, a token that a request must not see
can be changed without changing what the request predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.scoring.lm_head import UnreadableHeadError
from lm_eval_flips.scoring.prefix_tree import Branch, Pack, plan
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.transformers.causal_model import CausalModel, out_of_memory

TRIED = 2  # requests; each is read by itself, which costs what packing saves
POSITIONS = 16  # of each request, the last ones
# Largest mean KL (nats) that rounding explains, between packed and plain and between two packs of
# one shape: ten times what real models show. A context that is not seen costs 0.1 nats or more.
ROUNDING = {torch.bfloat16: (3e-2, 1e-3), torch.float16: (3e-3, 1e-4)}
FINE_ROUNDING = (1e-6, 1e-6)
# What a model raises that cannot take a mask, positions or a cache of ours.
UNFIT = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)


class PackingCheck:
    """Tries a model on the longest requests, and again where longer ones or larger packs come.

    ``refusal`` says why packs cannot be used; ``prefixes_can_be_kept`` whether a prefix can stand
    before them as keys and values.
    """

    def __init__(self, model: CausalModel) -> None:
        self._model = model
        self._longest = 0  # tokens of the longest request that was tried
        self._size = 0  # tokens of the largest pack that was tried
        self._reach = 0  # and of the furthest one behind a kept prefix, with that prefix
        self._alone: dict[tuple[bytes, int], Tensor] = {}  # what requests predict by themselves
        self._off = 0.0  # largest mean KL between packed and plain that was seen
        self.refusal: str | None = None
        self.prefixes_can_be_kept = True

    @property
    def verdict(self) -> dict[str, Any]:
        """What was tried and found, as plain values for a log; empty before anything was tried.

        ``longest_request`` and ``largest_pack`` are tokens, ``nats_from_plain`` the largest mean KL
        between packed and plain distributions.
        """
        if not self._longest:
            return {}
        return {
            "longest_request": self._longest,
            "largest_pack": self._size,
            "nats_from_plain": None if isnan(self._off) else self._off,
            "prefixes_kept": self.prefixes_can_be_kept and self._reach > 0,
        }

    def run(self, requests: Sequence[TokenRequest], root: Branch) -> None:
        """Try some of these requests, unless that was done for requests and packs like these.

        Args:
            requests: the requests.
            root: how they are to be read.

        Raises:
            UnreadableHeadError: the model's logits cannot be made from hidden states.
            RuntimeError: the memory does not hold as much at once.
        """
        longest = max((len(request.fed) for request in requests), default=0)
        self.refusal = self.refusal or self._known_refusal(longest)
        # windows, indexers and rescaled positions show in the longest requests alone
        tried, longer = _some(requests), longest > self._longest
        behind = root.furthest
        near = [] if behind is None else _some([requests[index] for index in behind.requests])
        if len(near) > 1 and len(near[0].fed) == longest:
            tried = near  # one set serves both trials
        if self.refusal is not None or len(tried) < 2:
            return  # by itself, a request is read as it is
        if root.largest > self._size or longer:
            self.refusal = self._try(tried, root.largest)
            self._size = max(self._size, root.largest)
        if behind is not None and self.refusal is None:
            reach = behind.base + len(behind)
            if reach > self._reach or longer:
                self.prefixes_can_be_kept &= self._keeps_prefix(near, behind.base, reach)
                self._reach = max(self._reach, reach)
        self._alone.clear()
        self._longest = max(self._longest, longest)

    def _known_refusal(self, longest: int) -> str | None:
        if self._model.alibi:
            return "its attention counts the places between two tokens (ALiBi)"
        rescaled = self._model.rescaled_beyond
        if rescaled is not None and longest > rescaled:
            return f"its positions are rescaled for requests of more than {rescaled} tokens"
        chosen = self._model.chooses_beyond
        if chosen is not None and longest > chosen:
            beyond = f" of requests of more than {chosen} tokens" if chosen else ""
            return f"its layers choose the tokens{beyond} that they see"
        return None

    def _try(self, tried: Sequence[TokenRequest], size: int) -> str | None:
        close, closer = ROUNDING.get(self._model.model.dtype, FINE_ROUNDING)
        plain = self._plain(tried)
        pack = _trial(tried, 0, size)
        try:
            packed = self._packed(tried, pack)
            off = self._note(_mean_kl(plain, packed))
            if not off <= close:  # nan is not close
                return f"packed requests are {off:.1g} nats from plain ones"
            if closer < close:
                off = _mean_kl(packed, self._packed(tried, _other_strangers(pack, len(tried))))
                if not off <= closer:
                    return f"its attention sees tokens of other requests ({off:.1g} nats)"
        except UNFIT as error:
            if isinstance(error, UnreadableHeadError) or out_of_memory(error):
                raise
            said = (str(error).splitlines() or [type(error).__name__])[0]
            return f"it does not take a mask of its own: {said:.80}"
        return None

    def _keeps_prefix(self, tried: Sequence[TokenRequest], base: int, size: int) -> bool:
        plain = self._plain(tried)
        try:
            off = self._note(_mean_kl(plain, self._packed(tried, _trial(tried, base, size))))
        except UNFIT as error:
            if isinstance(error, UnreadableHeadError) or out_of_memory(error):
                raise
            return False
        return off <= ROUNDING.get(self._model.model.dtype, FINE_ROUNDING)[0]

    def _note(self, off: float) -> float:
        self._off = off if isnan(off) else max(self._off, off)
        return off

    def _plain(self, tried: Sequence[TokenRequest]) -> list[Tensor]:
        """What each predicts, read by itself."""
        for request in tried:
            key = request.fed.tobytes(), request.scored
            if key not in self._alone:
                hidden = self._model.of_batch([request])[0, request.first_scored :]
                self._alone[key] = self._distributions(hidden)
        return [self._alone[request.fed.tobytes(), request.scored] for request in tried]

    def _packed(self, tried: Sequence[TokenRequest], pack: Pack) -> list[Tensor]:
        """What each predicts in the pack, behind the prefix that it needs."""
        prefix = tried[0].fed[: pack.base].tolist()
        cache = self._model.keep_prefix(prefix, None) if prefix else None
        hidden = self._model.of_packs([pack], cache)[0]
        places = dict(zip(pack.requests, pack.places, strict=True))
        return [
            self._distributions(hidden[torch.from_numpy(places[index])])
            for index in range(len(tried))
        ]

    def _distributions(self, hidden: Tensor) -> Tensor:
        with torch.no_grad():
            return self._model.head.logits(hidden[-POSITIONS:]).float().log_softmax(-1)


def _some(requests: Sequence[TokenRequest]) -> list[TokenRequest]:
    """The longest request and those after it, the first few that are fed other tokens."""
    start = max(range(len(requests)), key=lambda index: len(requests[index].fed), default=0)
    some: dict[bytes, TokenRequest] = {}
    for request in (*requests[start:], *requests[:start]):
        some.setdefault(request.fed.tobytes(), request)
        if len(some) == TRIED:
            break
    return list(some.values())


def _trial(tried: Sequence[TokenRequest], base: int, size: int) -> Pack:
    """The tried requests, with one that stands between the first one's context and continuation.

    It makes the pack and its base as large as ``size``, so that places and positions differ as much
    as they can, but gives no token a position that these requests do not have: a model may have no
    more, or rescale all of them.
    """
    context = tried[0].fed[: tried[0].first_scored]
    room = max(size - len(_one_pack(tried, 0)), TRIED)
    # token 0 sorts first, and so comes before what the others go on with
    strange = np.zeros(room, np.int64)
    pack = _one_pack([*tried, TokenRequest(np.concatenate([context, strange]), strange[:1])], base)
    deepest = max(len(request.fed) for request in tried) - 1
    return replace(pack, depths=np.minimum(pack.depths, deepest))


def _other_strangers(pack: Pack, tried: int) -> Pack:
    """The pack with other tokens wherever no tried request sees them."""
    pairs = zip(pack.requests, pack.places, strict=True)
    predicting = np.concatenate([places for index, places in pairs if index < tried])
    seen = pack.visible()[predicting].any(0)
    return replace(pack, tokens=np.where(seen, pack.tokens, 1))


def _one_pack(tried: Sequence[TokenRequest], base: int) -> Pack:
    room = sum(len(request.fed) for request in tried)
    (pack,) = plan(tried, budget=room, row=room, base=base).steps
    if not isinstance(pack, Pack):
        raise TypeError("a plan with room for all requests is one pack")
    return pack


def _mean_kl(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """nan, as of a model whose logits are nan, is no difference where both are."""
    log_p, log_q = torch.cat(list(expected)), torch.cat(list(found))
    terms = log_p.exp() * (log_p - log_q)
    terms = torch.where(log_p.isneginf() | (log_p.isnan() & log_q.isnan()), 0.0, terms)
    return float(terms.sum(-1).mean())
