"""Where a recorded baseline's requests lie in its shards, and what was answered to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lm_eval_flips.scoring.requests import Answer
from lm_eval_flips.scoring.shards import File, read_tensor_file


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardIndex:
    """What a shard says of its requests, in order; ``rows`` and ``logprobs`` of all positions."""

    keys: Tensor
    counts: Tensor
    loglikelihoods: Tensor
    greedy: Tensor
    rows: Tensor
    logprobs: Tensor

    def names(self) -> Iterator[bytes]:
        """The requests' keys."""
        for key in self.keys.numpy():
            yield key.tobytes()

    def answers(self) -> Iterator[tuple[bytes, Answer]]:
        """The requests' keys and answers."""
        values = zip(self.loglikelihoods.tolist(), self.greedy.tolist(), strict=True)
        for key, (loglikelihood, greedy) in zip(self.names(), values, strict=True):
            yield key, Answer(loglikelihood, greedy)


def read_indices(folder: Path, files: Sequence[File]) -> Iterator[ShardIndex]:
    """What each shard of a folder says of its requests.

    Raises:
        FlipsError: a file is missing, cut off, or was changed.
    """
    for file in files:
        tensors = read_tensor_file(folder, file)
        yield ShardIndex(**{field.name: tensors[field.name] for field in fields(ShardIndex)})


class _Place(NamedTuple):
    """Where a request is: in which shard, the how manieth there, and its positions."""

    shard: int
    number: int
    start: int
    size: int


class ShardRows(NamedTuple):
    """States of one shard: ``rows`` there, which are the ``wanted`` ones of those asked for."""

    shard: int
    wanted: list[int]
    rows: Tensor


class RequestIndex:
    """Finds requests, by their keys, in shards that are numbered as they are entered."""

    def __init__(self) -> None:
        self._shards: list[ShardIndex] = []
        self._places: dict[bytes, _Place] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def enter(self, index: ShardIndex) -> None:
        """Add the next shard's requests."""
        starts = torch.cumsum(index.counts, 0) - index.counts
        places = zip(index.names(), starts.tolist(), index.counts.tolist(), strict=True)
        for number, (key, start, size) in enumerate(places):
            self._places[key] = _Place(len(self._shards), number, start, size)
        self._shards.append(index)

    def loglikelihood(self, key: bytes) -> float:
        """The answer to a request, in nats."""
        place = self._places[key]
        return float(self._shards[place.shard].loglikelihoods[place.number])

    def logprobs(self, key: bytes) -> Tensor:
        """Log-probabilities (nats) of a request's continuation, token by token."""
        place = self._places[key]
        return self._shards[place.shard].logprobs[place.start : place.start + place.size]

    def rows(self, wanted: Sequence[tuple[bytes, int]]) -> Iterator[ShardRows]:
        """Shard by shard, the rows of the states that predict token ``j`` of a request.

        Args:
            wanted: pairs of a request's key and ``j``.
        """
        by_shard: dict[int, list[tuple[int, int]]] = {}
        for number, (key, token) in enumerate(wanted):
            place = self._places[key]
            by_shard.setdefault(place.shard, []).append((number, place.start + token))
        for shard, places in sorted(by_shard.items()):
            positions = torch.tensor([position for _, position in places])
            rows = self._shards[shard].rows[positions].long()
            yield ShardRows(shard, [number for number, _ in places], rows)
