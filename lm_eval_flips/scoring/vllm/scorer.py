"""Requests -> what vLLM says at every scored position, asked in the cheapest way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lm_eval_flips.scoring.baseline import Baseline
from lm_eval_flips.scoring.lm_head import StoredHead, UnreadableHeadError
from lm_eval_flips.scoring.requests import TokenRequest, key_of
from lm_eval_flips.scoring.scored_rows import RowEngine, RowScorer, ScoredRows
from lm_eval_flips.scoring.top_tokens import TopTokens
from lm_eval_flips.scoring.vllm.cache_check import CacheCheck, checked, tried
from lm_eval_flips.scoring.vllm.engine import MOST_TOKENS, Engine
from lm_eval_flips.scoring.vllm.known import Known, dense_rows
from lm_eval_flips.scoring.vllm.planning import Position, Step, calls, dealt, plan

CALL = 2048  # prompts that are asked at once
ROWS_BYTES = 1 << 26  # of rows over the vocabulary that exist at the same time


class VllmModel(RowEngine):
    """A model in vLLM, whose rows are log-probabilities."""

    def stored_head(self, hidden: Tensor) -> StoredHead:
        """None.

        Raises:
            UnreadableHeadError: vLLM gives no hidden states.
        """
        raise UnreadableHeadError("vLLM gives no hidden states")


class VllmScorer(RowScorer):
    """Runs requests through vLLM.

    Args:
        engine: asks it.
        top: how many of the likeliest tokens are wanted at every position, for a recording.
    """

    def __init__(self, engine: Engine, *, top: int | None = None) -> None:
        self.model = VllmModel(engine.facts.tokens)
        self.engine = engine
        self.baseline: Baseline | None = None
        self._top = None if top is None else min(top, engine.facts.tokens)
        self._check: CacheCheck | None = None

    @property
    def refusal(self) -> str | None:
        """Why the prefix cache is not read; None if it is, or nothing was tried yet."""
        if self.engine.facts.block is None:
            return "its prefix cache is off"
        return None if self._check is None else self._check.refusal

    @property
    def verdict(self) -> dict[str, Any]:
        """What was tried of the cache and found, for a log; empty before anything was tried."""
        return {} if self._check is None else self._check.verdict

    def rows(self, requests: Sequence[TokenRequest]) -> Iterator[ScoredRows]:
        """Rows for all requests, in an order of its own.

        Raises:
            FlipsError: vLLM gives no scores.
        """
        block = None if self.refusal else self.engine.facts.block
        steps = plan(requests, block=block, only_positions=self.baseline is not None)
        # copies of the engine are loaded anew for every call
        most = CALL if self.engine.facts.replicas == 1 else len(requests) * MOST_TOKENS
        for call in calls(steps, most=most):
            yield from self._rows(requests, call)

    def _rows(self, requests: Sequence[TokenRequest], call: Sequence[Step]) -> Iterator[ScoredRows]:
        positions = [position for step in call for position in step.positions]
        found = iter(self._at_positions(requests, positions))
        asked = [index for step in call if step.whole for index in step.requests]
        whole = iter(self.engine.whole([requests[index] for index in asked], self._top or 1))
        most = max(1, ROWS_BYTES // (4 * self.engine.facts.tokens))
        batch: list[Step] = []
        known: list[Known] = []
        for step in call:
            own = (
                [one for _ in step.requests for one in next(whole)]
                if step.whole
                else [next(found) for _ in step.positions]
            )
            if batch and len(known) + len(own) > most:
                yield self._made(batch, known)
                batch, known = [], []
            batch.append(step)
            known += own
        if batch:
            yield self._made(batch, known)

    def _made(self, batch: Sequence[Step], known: Sequence[Known]) -> ScoredRows:
        rows, start = [], 0
        for step in batch:
            rows += [own + start for own in step.rows]
            start += 1 + max(int(own.max()) for own in step.rows)
        return ScoredRows(
            hidden=dense_rows(known, tokens=self.engine.facts.tokens),
            requests=tuple(index for step in batch for index in step.requests),
            rows=tuple(rows),
        )

    def _at_positions(
        self, requests: Sequence[TokenRequest], positions: Sequence[Position]
    ) -> list[Known]:
        found = self._asked(requests, positions, cached=self.refusal is None)
        before = self._check
        longest = 0 if before is None else before.longest_prefix
        if self.refusal is not None or not (places := tried(positions, longest=longest)):
            return found
        some = [positions[place] for place in places]
        check = checked(
            some,
            [found[place] for place in places],
            self._asked(requests, some, cached=False),
            dtype=self.engine.facts.dtype,
        )
        self._check = check if before is None else before.joined(check)
        return found if self.refusal is None else self._asked(requests, positions, cached=False)

    def _asked(
        self, requests: Sequence[TokenRequest], positions: Sequence[Position], *, cached: bool
    ) -> list[Known]:
        """What every wanted token has at each position."""
        order = dealt(len(positions), self.engine.facts.replicas)
        prompts = [positions[place].prompt for place in order]
        wanted = [dict.fromkeys(positions[place].tokens) for place in order]
        for own, more in zip(wanted, self._of_baseline(requests, positions, order), strict=True):
            own.update(dict.fromkeys(more))
        found: list[Known | None] = [None] * len(order)
        if self._top is not None:
            found = [*self.engine.likeliest(prompts, self._top, cached=cached)]
        while True:
            left = [
                [token for token in own if one is None or token not in one.logprobs]
                for own, one in zip(wanted, found, strict=True)
            ]
            some = [place for place, own in enumerate(left) if own]
            if not some:
                break
            more_found = self.engine.chosen(
                [prompts[place] for place in some],
                [left[place][:MOST_TOKENS] for place in some],
                cached=cached,
            )
            for place, more_known in zip(some, more_found, strict=True):
                known = found[place]
                found[place] = more_known if known is None else known.joined(more_known)
        ordered = sorted(zip(order, found, strict=True), key=lambda pair: pair[0])
        return [known for _, known in ordered if known is not None]

    def _of_baseline(
        self, requests: Sequence[TokenRequest], positions: Sequence[Position], order: Sequence[int]
    ) -> list[list[int]]:
        """The tokens that the baseline holds most likely at each position, where it holds any."""
        more: list[list[int]] = [[] for _ in order]
        if self.baseline is None:
            return more
        owners = [positions[place].owner for place in order]
        places = [
            place
            for place, (_, token) in enumerate(owners)
            if token == 0 or not self.baseline.first_only
        ]
        if not places:
            return more
        keys = [(key_of(requests[owners[place][0]]), owners[place][1]) for place in places]
        states = self.baseline.reference.states(keys)
        if not isinstance(states, TopTokens):
            raise TypeError("a reference of hidden states was not refused")
        for place, ids in zip(places, np.asarray(states.ids).tolist(), strict=True):
            more[place] = ids
        return more
