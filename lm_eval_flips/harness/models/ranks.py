"""A model of the harness as one of several processes that share the documents, on any device.

The harness lets its `hf` model share them where there are several GPUs only, so that of two
processes on a CPU, or on one GPU, each would answer all and write its answers over the other's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM


class RankedHF(HFLM):  # type: ignore[misc]  # lm_eval ships no types
    """The harness's `hf` model, sharing documents with the other processes of its launcher."""

    def __init__(self, *args: Any, device: str | None = "cuda", **kwargs: Any) -> None:
        if device == "cpu" or not torch.accelerator.is_available():
            # without it processes on a CPU do not know of each other
            os.environ.setdefault("ACCELERATE_USE_CPU", "true")
        self._split = kwargs.get("tp_plan") is not None
        super().__init__(*args, device=device, **kwargs)
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None and accelerator.num_processes > 1:
            self._rank = accelerator.process_index
            self._world_size = accelerator.num_processes

    @property
    def writes(self) -> bool:
        """Whether this process writes: of those that a model is split over, one does."""
        return not (
            self._split and torch.distributed.is_initialized() and torch.distributed.get_rank()
        )

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """What every rank has of each task, merged to what one process would have, in order."""
        gathered: list[Any] | None = super().gather_object(obj, dst=dst)
        if gathered is None or len(gathered) == 1 or not isinstance(obj, Mapping):
            return gathered
        return [merged(gathered)]


def merged(ranks: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    """What several ranks have under each key, as if one process had answered every document.

    Documents are dealt out in turn. Samples know their document; values of a metric do not, but
    each rank has its own in order.

    Example:
        >>> merged([{"task": {"acc": [1, 3, 5]}}, {"task": {"acc": [2, 4]}}])
        {'task': {'acc': [1, 2, 3, 4, 5]}}
    """
    keys = dict.fromkeys(chain.from_iterable(ranks))
    return {key: _whole([rank[key] for rank in ranks if key in rank]) for key in keys}


def _whole(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, Mapping) for part in parts):
        return merged(parts)
    everything = list(chain.from_iterable(parts))
    if not all(isinstance(one, Mapping) and "doc_id" in one for one in everything):
        return list(_in_turn(parts))
    filters = list(dict.fromkeys(one.get("filter") for one in everything))
    return sorted(everything, key=lambda one: (filters.index(one.get("filter")), one["doc_id"]))


def _in_turn(parts: Sequence[Sequence[Any]]) -> Iterator[Any]:
    for turn in range(max(map(len, parts), default=0)):
        yield from (part[turn] for part in parts if turn < len(part))
