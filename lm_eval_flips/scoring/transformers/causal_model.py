"""A transformers causal language model, run on packs: tokens in, hidden states out.

The hidden state that enters lm_head is taken by a hook on that layer, which passes one position on;
logits of the others are made later, a few positions at a time. Keys and values of a shared prefix
are kept in a cache that no pack changes.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from lm_eval_flips.scoring.lm_head import LMHead, StoredHead, UnreadableHeadError, agrees
from lm_eval_flips.scoring.prefix_tree import Pack
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.scored_rows import ScoredModel
from lm_eval_flips.scoring.transformers.drafted import DraftedDecoding, Propose
from lm_eval_flips.scoring.transformers.lengths import chooses_beyond, rescaled_beyond
from lm_eval_flips.scoring.transformers.lm_head import head_of, stored_head_of

FULL, SLIDING = "full_attention", "sliding_attention"


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on any device.

    Example:
        >>> out_of_memory(RuntimeError("shapes do not match"))
        False
    """
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(said in words for said in ("out of memory", "can't allocate memory"))
    )


@dataclass(slots=True)
class _Caught:
    """What the hook on lm_head saw of one forward pass."""

    places: Tensor | slice = field(default_factory=lambda: slice(None))
    hidden: Tensor | None = None

    def take(self, _: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Keep the hidden states asked for; let the model go on with one of them."""
        (states,) = args
        self.hidden = states[:, self.places]
        return (self.hidden[:1, :1],)


class CausalModel(ScoredModel):
    """A causal language model that reads packs.

    Args:
        model: a transformers model whose ``get_output_embeddings`` is its lm_head.

    ``window`` is the number of tokens that some of its attention layers see, None if all see all;
    ``rescaled_beyond`` the length beyond which positions mean something else, which a pack of
    longer and shorter requests cannot have; None if they never do; ``chooses_beyond`` the length
    beyond which a layer chooses the tokens that it sees, None if none does; ``alibi`` whether
    attention is biased by how many places apart two tokens are.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = torch.device(model.device)
        config = model.config.get_text_config(decoder=True)
        kinds = set(getattr(config, "layer_types", None) or ())
        window = getattr(config, "sliding_window", None)
        self.window: int | None = int(window) if window and kinds != {FULL} else None
        self.kinds = kinds
        self.rescaled_beyond = rescaled_beyond(config)
        self.chooses_beyond = chooses_beyond(config)
        self.alibi = any(
            getattr(part, "alibi", False) for part in (config, getattr(config, "attn_config", None))
        )
        parameters = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        self._keeps_logits = "logits_to_keep" in parameters
        self._head: LMHead | None = None
        self._logits_device: torch.device | None = None

    @property
    def head(self) -> LMHead:
        """lm_head and what follows it, known after the first forward pass."""
        if self._head is None:
            raise UnreadableHeadError("no forward pass has been made yet")
        return self._head

    @property
    def logits_device(self) -> torch.device:
        """Where lm_head makes its logits: of a model over several devices not where it begins."""
        if self._logits_device is None:
            raise UnreadableHeadError("no forward pass has been made yet")
        return self._logits_device

    def stored_head(self, hidden: Tensor) -> StoredHead:
        """The head as plain numbers, held against the model's on these hidden states.

        Raises:
            UnreadableHeadError: its weight cannot be had, or does not make its output.
        """
        return stored_head_of(self.model.get_output_embeddings(), self.head, hidden)

    def probe(self, token: int) -> Tensor:
        """Read one token, which tells what follows lm_head; its hidden state, ``[1, width]``.

        Raises:
            UnreadableHeadError: the model's logits cannot be made from hidden states.
        """
        return self._forward(torch.tensor([[token]], device=self.device), slice(None))[0]

    def keep_prefix(self, tokens: Sequence[int], before: DynamicCache | None) -> DynamicCache:
        """Keys and values of a prefix, behind those of a shorter one, which stay as they are."""
        cache = _copied(before)
        ids = torch.as_tensor(tokens, device=self.device)[None]
        self._forward(ids, slice(-1, None), cache=cache)
        return cache

    def of_packs(self, packs: Sequence[Pack], cache: DynamicCache | None) -> Tensor:
        """Hidden states of packs behind the same prefix, ``[packs, longest, width]``."""
        longest = max(map(len, packs))
        ids = torch.zeros(len(packs), longest, dtype=torch.long)
        for row, pack in zip(ids, packs, strict=True):
            row[: len(pack)] = torch.from_numpy(pack.tokens)
        arguments: dict[str, Any] = {}
        # a row of padding behind a chain hides nothing: what follows a token is never seen
        if not all(pack.chain for pack in packs):
            positions = torch.zeros_like(ids)
            for row, pack in zip(positions, packs, strict=True):
                row[: len(pack)] = torch.from_numpy(pack.depths)
            arguments["position_ids"] = positions.to(self.device)
            arguments["attention_mask"] = self._masks(packs, longest)
        if cache is not None:
            arguments["cache"] = _copied(cache, rows=len(packs))
        return self._forward(ids.to(self.device), slice(None), **arguments)

    def of_batch(self, requests: Sequence[TokenRequest]) -> Tensor:
        """Hidden states of whole requests, padded on the right, ``[requests, longest, width]``."""
        longest = max(len(request.fed) for request in requests)
        ids = torch.zeros(len(requests), longest, dtype=torch.long)
        for row, request in zip(ids, requests, strict=True):
            row[: len(request.fed)] = torch.from_numpy(request.fed)
        return self._forward(ids.to(self.device), slice(None))

    def drafted(self, propose: Propose) -> DraftedDecoding | None:
        """Greedy decoding with proposals; None where lengths or windows change what is read."""
        limits = (self.window, self.rescaled_beyond, self.chooses_beyond)
        if self.alibi or any(limit is not None for limit in limits) or not self._keeps_logits:
            return None
        return DraftedDecoding(propose, cache_name=self._cache_name)

    def _forward(
        self, ids: Tensor, places: slice, cache: DynamicCache | None = None, **arguments: Any
    ) -> Tensor:
        if cache is not None:
            arguments |= {self._cache_name: cache, "use_cache": True}
        else:
            arguments["use_cache"] = False
        caught = _Caught(places)
        with torch.no_grad(), self._hooked(caught):
            own = self.model(input_ids=ids, **arguments).logits
        if caught.hidden is None:
            raise UnreadableHeadError("the model makes its logits without calling its lm_head")
        first = caught.hidden[0, :1]  # what the hook let pass
        if self._head is None:
            self._head = head_of(self.model, first, own[0])
        rebuilt = None if self._head is None else self._head.logits(first)
        if rebuilt is None or not agrees(rebuilt, own[0]):
            raise UnreadableHeadError(
                "the model's logits are not lm_head's, scaled or softly capped"
            )
        self._logits_device = rebuilt.device
        return caught.hidden

    @contextmanager
    def _hooked(self, caught: _Caught) -> Iterator[None]:
        module = self.model.get_output_embeddings()
        if module is None:
            raise UnreadableHeadError("the model has no lm_head")
        hook = module.register_forward_pre_hook(caught.take)
        try:
            yield
        finally:
            hook.remove()

    def _masks(self, packs: Sequence[Pack], longest: int) -> Tensor | dict[str, Tensor]:
        """The additive mask of packs, ``[packs, 1, longest, base + longest]``.

        One where all layers see as far; one for each kind of layer where some see a window only,
        which counts positions within a request, not places in the pack.
        """
        base = packs[0].base
        full = torch.zeros(len(packs), longest, base + longest, dtype=torch.bool)
        full[:, :, :base] = True
        near = torch.ones_like(full)
        for row, within, pack in zip(full, near, packs, strict=True):
            size = len(pack)
            row[:size, base : base + size] = torch.from_numpy(pack.visible())
            row[size:, base] = True  # padding has to see something
            depths = torch.from_numpy(pack.depths)
            seen = torch.cat([torch.arange(base), depths])
            if self.window is not None:
                within[:size, : base + size] = depths[:, None] - seen < self.window
        if self.window is None:
            return self._additive(full)
        if FULL in self.kinds:
            return {FULL: self._additive(full), SLIDING: self._additive(full & near)}
        return self._additive(full & near)

    def _additive(self, visible: Tensor) -> Tensor:
        dtype = self.model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype)
        mask.masked_fill_(~visible, torch.finfo(dtype).min)
        return mask[:, None].to(self.device)


def _copied(cache: DynamicCache | None, rows: int = 1) -> DynamicCache:
    """A cache for some rows that grows without changing the one whose tensors it shares."""
    if cache is None:
        return DynamicCache()
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    layer: Any
    for layer in copied.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return copied
