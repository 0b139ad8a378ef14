"""Greedy decoding of one text whose next tokens are proposed: many are read in one pass.

It is handed to transformers' ``generate`` as ``custom_generate``, so that stopping criteria and
processors of logits are those of the caller, asked token by token as if each had been read alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

Propose = Callable[[Sequence[int]], Sequence[int]]


class DraftedDecoding:
    """The tokens that greedy decoding writes, found with fewer passes.

    Args:
        propose: what may follow on the tokens written so far.
        cache_name: what the model calls its cache.

    Example:
        >>> model.generate(ids, custom_generate=DraftedDecoding(draft.propose))  # doctest: +SKIP
    """

    def __init__(self, propose: Propose, *, cache_name: str) -> None:
        self._propose, self._cache_name = propose, cache_name
        self.passes = 0

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        *,
        logits_processor: Callable[[Tensor, Tensor], Tensor],
        stopping_criteria: Any,
        generation_config: Any,
        **_: Any,
    ) -> Tensor:
        """Write behind ``input_ids``, [1, tokens], until a criterion stops it."""
        start, read, cache = input_ids.shape[1], 0, DynamicCache()
        while True:
            room = generation_config.max_length - input_ids.shape[1] - 1
            draft = list(self._propose(input_ids[0, start:].tolist()))[: max(room, 0)]
            fed = torch.cat([input_ids[:, read:], input_ids.new_tensor([draft])], dim=1)
            kept = len(draft) + 1
            arguments = {self._cache_name: cache, "use_cache": True, "logits_to_keep": kept}
            logits = model(input_ids=fed, **arguments).logits[:, -kept:].float()
            self.passes += 1
            for place in range(kept):
                token = logits_processor(input_ids, logits[:, place]).argmax(-1)
                input_ids = torch.cat([input_ids, token[:, None]], dim=1)
                if bool(stopping_criteria(input_ids, None).all()):
                    return input_ids
                if place == len(draft) or int(token) != draft[place]:
                    break
            held, read = read + fed.shape[1], input_ids.shape[1] - 1
            if held > read:
                cache.crop(read - held)
