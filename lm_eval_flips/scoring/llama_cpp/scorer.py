"""Requests -> logits by llama.cpp, each shared token computed once.

A token belongs to the sequences of all requests that read it, so a tree of requests is one call: a
sequence is a path from the root to a leaf. A prefix that many packs share is computed once, and its
cells are lent to the sequences behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.context import SEQUENCES, Context
from lm_eval_flips.scoring.llama_cpp.model import LlamaModel
from lm_eval_flips.scoring.llama_cpp.output_layer import stored_head_of
from lm_eval_flips.scoring.llama_cpp.packs import chain, leaves_of, score_packs, wanted_of
from lm_eval_flips.scoring.lm_head import StoredHead
from lm_eval_flips.scoring.prefix_tree import Branch, Pack, plan
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.scored_rows import RowEngine, RowScorer, ScoredRows

BUDGET = 1024  # tokens of a call
LOGITS_BYTES = 1 << 27  # of a call, where its requests can be told apart into several


class LlamaEngine(RowEngine):
    """A GGUF model whose rows are llama.cpp's own logits.

    Args:
        model: the model.
    """

    def __init__(self, model: LlamaModel) -> None:
        super().__init__(model.vocabulary.size)
        self.model = model
        self._kept: StoredHead | None = None

    def stored_head(self, hidden: Tensor) -> StoredHead:
        """The file's output layer as plain numbers.

        Raises:
            UnreadableHeadError: it does not make llama.cpp's logits.
        """
        if self._kept is None:
            self._kept = stored_head_of(self.model)
        return self._kept

    @property
    def recorded_dtype(self) -> torch.dtype:
        """What hidden states are stored in: what llama.cpp rounds them to."""
        return torch.float32 if self._kept is None else self._kept.weight.dtype


class LlamaScorer(RowScorer):
    """Runs requests through a GGUF model.

    Args:
        model: the model.
        budget: most tokens of a call, but for a request that is longer; None for the default.
        hidden: give the states after the last norm too, for a reference.
    """

    def __init__(
        self, model: LlamaModel, *, budget: int | None = None, hidden: bool = False
    ) -> None:
        self.model: LlamaEngine = LlamaEngine(model)
        self.budget = budget or BUDGET
        self._hidden = hidden
        self._context: Context | None = None

    @property
    def refusal(self) -> str | None:
        """Why requests are read one by one; None if they are packed."""
        if self.model.model.recurrent:
            return "its layers carry a state from token to token, which requests cannot share"
        return None

    def rows(self, requests: Sequence[TokenRequest]) -> Iterator[ScoredRows]:
        """Logits for all requests, in an order of its own.

        Raises:
            FlipsError: llama.cpp failed, or has not enough memory.
        """
        if not requests:
            return
        root = self._plan(requests)
        longest = max(len(request.fed) for request in requests)
        context = self._prepared(longest + max(self.budget, root.largest), root.largest)
        yield from self._branch(context, requests, root)

    def _plan(self, requests: Sequence[TokenRequest]) -> Branch:
        if self.refusal is None:
            return plan(requests, budget=self.budget, row=self.budget)
        groups: dict[bytes, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(request.fed.tobytes(), []).append(index)
        chains = sorted(groups.values(), key=lambda group: -len(requests[group[0]].fed))
        nothing = np.empty(0, np.int64)
        return Branch(base=0, tokens=nothing, steps=tuple(chain(requests, own) for own in chains))

    def _prepared(self, cells: int, largest: int) -> Context:
        """A context with room for that many tokens, empty."""
        batch = max(self.budget, largest)
        context = self._context
        if context is None or context.cells < cells or context.batch < batch:
            if context is not None:
                context.close()
            sequences = SEQUENCES if self.refusal is None else 1
            self._context = context = Context(
                self.model.model,
                cells=cells,
                batch=batch,
                sequences=sequences,
                hidden=self._hidden,
            )
        context.clear()
        return context

    def _branch(
        self,
        context: Context,
        requests: Sequence[TokenRequest],
        branch: Branch,
        *,
        prefix: int | None = None,
        free: int = 0,
    ) -> Iterator[ScoredRows]:
        """Score what stands behind a prefix.

        Args:
            context: where the prefix is.
            requests: all requests.
            branch: the tokens that come next, and what stands behind them.
            prefix: the sequence that holds the prefix, None where there is none yet.
            free: the first sequence that holds nothing; all after it hold nothing either.
        """
        own = len(branch.tokens) > 0
        if own:
            if free == SEQUENCES - 1:
                raise FlipsError(f"more than {free - 1} prefixes stand within each other")
            if prefix is not None:
                context.copy(prefix, free, branch.base)
            context.keep(branch.tokens, branch.base, free)
            prefix, free = free, free + 1
        packs = [step for step in branch.steps if isinstance(step, Pack)]
        for batch in self._batches(requests, packs, SEQUENCES - free):
            scored = score_packs(context, batch, prefix=prefix, free=free)
            if scored.recorded is not None:
                rounded = scored.recorded.to(self.model.recorded_dtype)
                scored = replace(scored, recorded=rounded)
            yield scored
        for step in branch.steps:
            if isinstance(step, Branch):
                yield from self._branch(context, requests, step, prefix=prefix, free=free)
        if own and prefix is not None:
            context.forget(prefix)

    def _batches(
        self, requests: Sequence[TokenRequest], packs: Sequence[Pack], sequences: int
    ) -> Iterator[list[Pack]]:
        """Packs that are computed in one call, in the order in which they are given."""
        rows = max(1, LOGITS_BYTES // (4 * self.model.head.tokens))
        waiting = [*packs][::-1]
        batch: list[Pack] = []
        tokens = leaves = wanted = 0
        while waiting:
            pack = waiting.pop()
            sizes = len(pack), int(leaves_of(pack).sum()), len(wanted_of(pack))
            if len(pack.requests) > 1 and (sizes[1] > sequences or sizes[2] > rows):
                waiting += [*self._halves(requests, pack)][::-1]
                continue
            fits = tokens + sizes[0] <= self.budget
            if batch and not (
                fits and leaves + sizes[1] <= sequences and wanted + sizes[2] <= rows
            ):
                yield batch
                batch, tokens, leaves, wanted = [], 0, 0, 0
            batch.append(pack)
            tokens, leaves, wanted = tokens + sizes[0], leaves + sizes[1], wanted + sizes[2]
        if batch:
            yield batch

    def _halves(self, requests: Sequence[TokenRequest], pack: Pack) -> Iterator[Pack]:
        middle = len(pack.requests) // 2
        for among in (pack.requests[:middle], pack.requests[middle:]):
            yield from plan(
                requests,
                budget=max(self.budget, len(pack)),
                row=len(pack),
                among=among,
                base=pack.base,
                keep_prefixes=False,
            ).packs()
