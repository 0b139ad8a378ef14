"""Requests -> the hidden states that predict their continuations, in as few tokens as possible.

A model that takes a tree's mask reads packs; any other reads its requests one by one, in batches.
Which of the two it is, is found out on the requests themselves: packed must give what plain gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from lm_eval_flips.scoring.prefix_tree import Branch, Pack, plain_batches, plan
from lm_eval_flips.scoring.requests import Ints, TokenRequest
from lm_eval_flips.scoring.scored_rows import RowScorer, ScoredRows
from lm_eval_flips.scoring.transformers.causal_model import CausalModel, out_of_memory
from lm_eval_flips.scoring.transformers.drafted import DraftedDecoding, Propose
from lm_eval_flips.scoring.transformers.packing_check import PackingCheck

BUDGET = {"cpu": 1024}  # tokens of a pack, by device
LARGE_BUDGET = 4096


class Scorer(RowScorer):
    """Runs requests through a model, packed where the model can take it.

    ``refusal`` says why it cannot, once that is known.

    Args:
        model: the model.
        budget: most tokens of a pack; None for the device's default. Halved when memory runs out.
        batch_size: rows of a batch, where the model cannot take packs.
    """

    def __init__(
        self, model: CausalModel, *, budget: int | None = None, batch_size: int = 1
    ) -> None:
        self.model: CausalModel = model
        self.budget = budget or BUDGET.get(model.device.type, LARGE_BUDGET)
        self.batch_size = batch_size
        self._check = PackingCheck(model)

    @property
    def refusal(self) -> str | None:
        """Why requests are read one by one; None if they are packed, or nothing was tried yet."""
        return self._check.refusal

    @property
    def verdict(self) -> dict[str, Any]:
        """What the trial of packs found, as plain values for a log; empty without one."""
        return self._check.verdict

    def drafted(self, propose: Propose) -> DraftedDecoding | None:
        """Greedy decoding with proposals; None for a model that reads many tokens otherwise.

        Only after requests were read: their trial tells.
        """
        takes_packs = self.refusal is None and self._check.prefixes_can_be_kept
        return self.model.drafted(propose) if takes_packs and self.verdict else None

    def rows(self, requests: Sequence[TokenRequest]) -> Iterator[ScoredRows]:
        """Hidden states for all requests, in an order of its own.

        Raises:
            UnreadableHeadError: the model's logits cannot be made from hidden states.
        """
        yield from self._read(requests, None, 0, None)

    def _read(
        self,
        requests: Sequence[TokenRequest],
        among: Sequence[int] | None,
        base: int,
        cache: DynamicCache | None,
    ) -> Iterator[ScoredRows]:
        """Read some of the requests, whose first ``base`` tokens are in the cache."""
        root = self._plan(requests, among, base)
        if root is None:
            yield from self._plain(requests, among)
        else:
            yield from self._branch(requests, root, cache)

    def _plan(
        self, requests: Sequence[TokenRequest], among: Sequence[int] | None, base: int
    ) -> Branch | None:
        """Packs as large as the model was tried on, within its memory; None if it takes none."""
        while self.refusal is None:
            keeps = self._check.prefixes_can_be_kept
            root = plan(requests, budget=self.budget, among=among, base=base, keep_prefixes=keeps)
            try:
                self._check.run(requests, root)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if self.budget == 1:
                    self._check.refusal = "two requests at once do not fit into the memory"
                self.budget = max(1, min(self.budget, root.largest) // 2)
            else:
                if self.refusal is None and keeps == self._check.prefixes_can_be_kept:
                    return root
        return None

    def _branch(
        self, requests: Sequence[TokenRequest], branch: Branch, cache: DynamicCache | None
    ) -> Iterator[ScoredRows]:
        if len(branch.tokens):
            cache = self.model.keep_prefix(branch.tokens.tolist(), cache)
        packs = [step for step in branch.steps if isinstance(step, Pack)]
        yield from self._packs(requests, packs, cache)
        for step in branch.steps:
            if isinstance(step, Branch):
                yield from self._branch(requests, step, cache)

    def _packs(
        self, requests: Sequence[TokenRequest], packs: Sequence[Pack], cache: DynamicCache | None
    ) -> Iterator[ScoredRows]:
        """Run packs behind the same prefix, those of about a length together."""
        waiting = sorted(packs, key=len, reverse=True)
        while waiting:
            # the prefix is copied for each row
            rows = max(1, self.budget // max(len(waiting[0]), waiting[0].base))
            batch, waiting = waiting[:rows], waiting[rows:]
            try:
                found = _packed_rows(self.model.of_packs(batch, cache), batch)
            except RuntimeError as error:
                if not out_of_memory(error) or sum(len(pack.requests) for pack in batch) == 1:
                    raise
                found = None
            # not while the error is at hand, which holds what the failed pass had made
            if found is None:
                self.budget = max(1, min(self.budget, sum(map(len, batch)) // 2))
                if len(batch) == 1:
                    yield from self._read(requests, batch[0].requests, batch[0].base, cache)
                else:
                    waiting = batch + waiting
            elif found.hidden.isnan().any():
                # nan spreads in a pack: what must not be seen is weighed by 0, which leaves it nan
                yield from self._plain(requests, found.requests)
            else:
                yield found

    def _plain(
        self, requests: Sequence[TokenRequest], among: Sequence[int] | None = None
    ) -> Iterator[ScoredRows]:
        waiting = list(plain_batches(requests, size=self.batch_size, among=among))
        while waiting:
            batch = waiting.pop(0)
            try:
                yield self._batch(requests, batch)
            except RuntimeError as error:
                if not out_of_memory(error) or len(batch) == 1:
                    raise
                middle = len(batch) // 2
                self.batch_size = min(self.batch_size, middle)
                waiting[:0] = [batch[:middle], batch[middle:]]

    def _batch(self, requests: Sequence[TokenRequest], batch: Sequence[int]) -> ScoredRows:
        """One row of the batch for all requests that are fed the same tokens."""
        row_of: dict[bytes, int] = {}
        fed: list[TokenRequest] = []
        places = []
        width = max(len(requests[index].fed) for index in batch)
        for index in batch:
            request = requests[index]
            row = row_of.setdefault(request.fed.tobytes(), len(fed))
            if row == len(fed):
                fed.append(request)
            places.append(row * width + np.arange(request.first_scored, len(request.fed)))
        return _chosen_rows(self.model.of_batch(fed).flatten(0, 1), batch, places)


def _packed_rows(hidden: Tensor, packs: Sequence[Pack]) -> ScoredRows:
    width = hidden.shape[1]
    return _chosen_rows(
        hidden.flatten(0, 1),
        [index for pack in packs for index in pack.requests],
        [row * width + own for row, pack in enumerate(packs) for own in pack.places],
    )


def _chosen_rows(hidden: Tensor, requests: Sequence[int], places: Sequence[Ints]) -> ScoredRows:
    """Only the hidden states that predict something, each once."""
    chosen, flat = np.unique(np.concatenate(list(places)), return_inverse=True)
    bounds = np.cumsum([len(own) for own in places])[:-1]
    return ScoredRows(
        hidden=hidden[torch.from_numpy(chosen).to(hidden.device)],
        requests=tuple(requests),
        rows=tuple(np.split(flat, bounds)),
    )
