"""The baseline's stored hidden states, from which its distributions are rebuilt exactly.

For every scored position the hidden state that enters lm_head is kept, in the model's dtype, each
shared position once; and lm_head's weight, once. That is 2 H bytes a position in bfloat16, where
the logits would take 2 V. In the bounded mode the K most likely tokens are kept instead.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from math import nan
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.prefix_tree import Ints, TokenRequest
from lm_eval_flips.scoring.shards import (
    File,
    Header,
    Manifest,
    ShardWriter,
    read_manifest,
    read_tensor_file,
    tensor_content,
    write_file,
)
from lm_eval_flips.scoring.top_tokens import TopTokens
from lm_eval_flips.scoring.transformers.lm_head import LMHead, linear

Positions = Literal["all", "last"]
States = Tensor | TopTokens

KEY = 16  # bytes of a request's key
LM_HEAD = "lm_head.safetensors"
KEPT_SHARDS = 2  # in memory at once; requests come in about the order in which they were written


class ReferenceHeader(Header, frozen=True, kw_only=True):
    """Which model's states these are, and how they were made.

    ``positions`` "last" keeps a context's last position only, which predicts the continuation's
    first token. ``top`` is K in the bounded mode, None where hidden states are kept. ``files`` is
    the fingerprint of a local model's files.
    """

    model: str
    revision: str
    dtype: str
    tokenizer: str
    vocabulary: int
    width: int
    max_length: int
    positions: Positions
    top: int | None
    scale: float
    cap: float
    lm_head: File | None
    files: str = ""


class Answer(NamedTuple):
    """What a model gave for a request: its log-likelihood (nats), and whether it is greedy.

    ``token_kl`` is the mean over its tokens of KL(baseline || compressed), nan without a baseline.
    """

    loglikelihood: float
    is_greedy: bool
    token_kl: float = nan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """Some requests' answers and the states that predict them.

    Token ``j`` of request ``i`` is predicted by row ``rows[i][j]`` of ``states``;
    ``logprobs[i][j]`` is its log-probability (nats).
    """

    keys: Sequence[bytes]
    answers: Sequence[Answer]
    rows: Sequence[Ints]
    logprobs: Sequence[Tensor]
    states: States


def key_of(request: TokenRequest) -> bytes:
    """A request's key: a hash of what the model is fed and of the continuation.

    Example:
        >>> request = TokenRequest.of([1, 2], [3], max_length=8)
        >>> key_of(request) == key_of(TokenRequest.of([1, 2], [3], max_length=9))
        True
    """
    hashed = hashlib.blake2b(digest_size=KEY)
    hashed.update(len(request.fed).to_bytes(8, "little"))
    hashed.update(request.fed.astype("<i4").tobytes())
    hashed.update(request.continuation.astype("<i4").tobytes())
    return hashed.digest()


def lm_head_file(weight: Tensor, bias: Tensor | None) -> tuple[File, bytes]:
    """lm_head's weight ``[tokens, width]`` and bias as a file for a reference, not yet written."""
    tensors = {"weight": weight.detach()} | ({} if bias is None else {"bias": bias.detach()})
    return tensor_content(LM_HEAD, tensors)


class ReferenceWriter:
    """Records a baseline's states; continues where an interrupted recording stopped.

    Args:
        folder: the reference's folder.
        header: which model's states these are.
        lm_head: what the file holds that the header names, if it names one.

    Raises:
        FlipsError: the folder holds another model's states, or cannot be written or read.
    """

    def __init__(
        self, folder: Path, header: ReferenceHeader, *, lm_head: bytes | None = None
    ) -> None:
        self._shards = ShardWriter(folder, header)  # refuses before another's lm_head is replaced
        if header.lm_head is not None and lm_head is not None:
            write_file(folder, header.lm_head, lm_head)
        self._states = 0  # rows that wait to be written
        self.answers = {
            key: answer
            for index in _indices(folder, self._shards.manifest)
            for key, answer in index.answers()
        }

    def add(self, recorded: Recorded) -> None:
        """Append some requests, which are written with others as a shard."""
        states = _as_tensors(recorded.states)
        rows = np.concatenate(list(recorded.rows)) + self._states
        self._shards.add(
            {
                "keys": torch.frombuffer(bytearray(b"".join(recorded.keys)), dtype=torch.uint8)
                .reshape(-1, KEY)
                .clone(),
                "counts": torch.tensor([len(own) for own in recorded.rows], dtype=torch.int32),
                "loglikelihoods": torch.tensor(
                    [answer.loglikelihood for answer in recorded.answers], dtype=torch.float64
                ),
                "greedy": torch.tensor([answer.is_greedy for answer in recorded.answers]),
                "rows": torch.from_numpy(rows.astype(np.int32)),
                "logprobs": torch.cat(list(recorded.logprobs)).float(),
                **states,
            }
        )
        self._states += len(next(iter(states.values())))
        self.answers.update(zip(recorded.keys, recorded.answers, strict=True))
        if self._shards.flush_if_due():
            self._states = 0

    def flush(self) -> None:
        """Write what waits. Raises what ``add`` raises."""
        self._shards.flush()
        self._states = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Index:
    """What a shard says of its requests."""

    keys: Tensor
    counts: Tensor
    loglikelihoods: Tensor
    greedy: Tensor
    rows: Tensor
    logprobs: Tensor

    def names(self) -> Iterator[bytes]:
        for key in self.keys.numpy():
            yield key.tobytes()

    def answers(self) -> Iterator[tuple[bytes, Answer]]:
        values = zip(self.loglikelihoods.tolist(), self.greedy.tolist(), strict=True)
        for key, (loglikelihood, greedy) in zip(self.names(), values, strict=True):
            yield key, Answer(loglikelihood, greedy)


class _Place(NamedTuple):
    """Where a request is: in which shard, the how manieth there, and its positions."""

    shard: int
    number: int
    start: int
    size: int


def _indices(folder: Path, manifest: Manifest[ReferenceHeader]) -> Iterator[_Index]:
    for file in manifest.shards:
        tensors = read_tensor_file(folder, file)
        yield _Index(**{field.name: tensors[field.name] for field in fields(_Index)})


class Reference:
    """A recorded baseline.

    Args:
        folder: where it was recorded; a recording by several processes has a folder for each in it.
        device: where its states and lm_head go.

    Raises:
        FlipsError: there is none, it is of another format, or a file was cut off or changed.
    """

    def __init__(self, folder: Path, *, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._files: list[tuple[Path, File]] = []
        self._indices: list[_Index] = []
        self._places: dict[bytes, _Place] = {}
        self._loaded: OrderedDict[int, dict[str, Tensor]] = OrderedDict()
        for part in (folder, *sorted(folder.glob("rank-*"))):
            manifest = read_manifest(part, ReferenceHeader)
            if part == folder:
                self.header = manifest.header
            self._files += [(part, file) for file in manifest.shards]
            for index in _indices(part, manifest):
                self._enter(index)
        self.folder = folder

    def _enter(self, index: _Index) -> None:
        starts = torch.cumsum(index.counts, 0) - index.counts
        places = zip(index.names(), starts.tolist(), index.counts.tolist(), strict=True)
        for number, (key, start, size) in enumerate(places):
            self._places[key] = _Place(len(self._indices), number, start, size)
        self._indices.append(index)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def head(self) -> LMHead:
        """The baseline's lm_head, rebuilt.

        Raises:
            FlipsError: its file was cut off or changed, or none was kept.
        """
        if self.header.lm_head is None:
            raise FlipsError(f"'{self.folder}' holds the most likely tokens only, no lm_head")
        tensors = read_tensor_file(self.folder, self.header.lm_head)
        bias = tensors.get("bias")
        return LMHead(
            project=linear(
                tensors["weight"].to(self._device), None if bias is None else bias.to(self._device)
            ),
            tokens=self.header.vocabulary,
            scale=self.header.scale,
            cap=self.header.cap,
        )

    def states(self, wanted: Sequence[tuple[bytes, int]]) -> States:
        """The states that predict token ``j`` of a request, for each pair of its key and ``j``."""
        chosen: list[list[Tensor]] = []
        for shard, places in self._by_shard(wanted):
            tensors = self._shard(shard)
            index = self._indices[shard]
            rows = index.rows[torch.tensor([place for _, place in places])].long()
            chosen.append([tensors[name][rows] for name in _state_names(self.header)])
        order = [where for _, places in self._by_shard(wanted) for where, _ in places]
        back = torch.tensor(order).argsort()
        found = [torch.cat(parts)[back].to(self._device) for parts in zip(*chosen, strict=True)]
        if self.header.top is None:
            return found[0]
        return TopTokens(ids=found[0], logprobs=found[1])

    def loglikelihood(self, key: bytes) -> float:
        """The baseline's answer to a request, in nats."""
        place = self._places[key]
        return float(self._indices[place.shard].loglikelihoods[place.number])

    def logprobs(self, key: bytes) -> Tensor:
        """Log-probabilities (nats) of a request's continuation, token by token."""
        place = self._places[key]
        return self._indices[place.shard].logprobs[place.start : place.start + place.size]

    def _by_shard(
        self, wanted: Sequence[tuple[bytes, int]]
    ) -> Iterable[tuple[int, list[tuple[int, int]]]]:
        """For each shard: which of those wanted it holds, and at which of its positions."""
        found: dict[int, list[tuple[int, int]]] = {}
        for where, (key, token) in enumerate(wanted):
            place = self._places[key]
            found.setdefault(place.shard, []).append((where, place.start + token))
        return sorted(found.items())

    def _shard(self, number: int) -> dict[str, Tensor]:
        if number not in self._loaded:
            while len(self._loaded) >= KEPT_SHARDS:
                self._loaded.popitem(last=False)
            self._loaded[number] = read_tensor_file(*self._files[number])
        self._loaded.move_to_end(number)
        return self._loaded[number]


def _state_names(header: ReferenceHeader) -> tuple[str, ...]:
    return ("hidden",) if header.top is None else ("top_ids", "top_logprobs")


def _as_tensors(states: States) -> dict[str, Tensor]:
    if isinstance(states, TopTokens):
        return {"top_ids": states.ids, "top_logprobs": states.logprobs}
    return {"hidden": states}
