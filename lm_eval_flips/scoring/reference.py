"""The baseline's stored hidden states, from which its distributions are rebuilt exactly.

For every scored position the hidden state that enters lm_head is kept, in the model's dtype, each
shared position once; and lm_head's weight, once. That is 2 H bytes a position in bfloat16, where
the logits would take 2 V. In the bounded mode the K most likely tokens are kept instead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.lm_head import LMHead, StoredHead
from lm_eval_flips.scoring.reference_index import RequestIndex, read_indices
from lm_eval_flips.scoring.requests import KEY, Answer, Ints
from lm_eval_flips.scoring.shards import (
    File,
    Header,
    ShardWriter,
    read_manifest,
    read_tensor_file,
    tensor_content,
    write_file,
)
from lm_eval_flips.scoring.top_tokens import TopTokens

Positions = Literal["all", "last"]
States = Tensor | TopTokens

LM_HEAD = "lm_head.safetensors"
KEPT_SHARDS = 2  # in memory at once; requests come in about the order in which they were written


class ReferenceHeader(Header, frozen=True, kw_only=True):
    """Which model's states these are, and how they were made.

    ``positions`` "last" keeps a context's last position only, which predicts the continuation's
    first token. ``top`` is K in the bounded mode, None where hidden states are kept. ``files`` is
    the fingerprint of a local model's files. ``widened`` says that states and lm_head are
    multiplied in float32, whatever they are stored in. ``entries`` is a hash of the vocabulary
    alone, "" in recordings that did not keep it.
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
    widened: bool = False
    entries: str = ""


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
        writes: False where another process, which has all the same, writes it.

    Raises:
        FlipsError: the folder holds another model's states, or cannot be written or read.
    """

    def __init__(
        self,
        folder: Path,
        header: ReferenceHeader,
        *,
        lm_head: bytes | None = None,
        writes: bool = True,
    ) -> None:
        # refuses before another's lm_head is replaced
        self._shards = ShardWriter(folder, header, writes=writes)
        if writes and header.lm_head is not None and lm_head is not None:
            write_file(folder, header.lm_head, lm_head)
        self._states = 0  # rows that wait to be written
        self.answers = {
            key: answer
            for index in read_indices(folder, self._shards.manifest.shards)
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
                "counts": torch.tensor([len(rows) for rows in recorded.rows], dtype=torch.int32),
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
        self._requests = RequestIndex()
        self._loaded: OrderedDict[int, dict[str, Tensor]] = OrderedDict()
        for part in (folder, *sorted(folder.glob("rank-*"))):
            manifest = read_manifest(part, ReferenceHeader)
            if part == folder:
                self.header = manifest.header
            self._files += [(part, file) for file in manifest.shards]
            for index in read_indices(part, manifest.shards):
                self._requests.enter(index)
        self.folder = folder

    def __contains__(self, key: bytes) -> bool:
        return key in self._requests

    def head(self) -> LMHead:
        """The baseline's lm_head, rebuilt.

        Raises:
            FlipsError: its file was cut off or changed, or none was kept.
        """
        if self.header.lm_head is None:
            raise FlipsError(f"'{self.folder}' holds the most likely tokens only, no lm_head")
        tensors = read_tensor_file(self.folder, self.header.lm_head)
        bias = tensors.get("bias")
        stored = StoredHead(
            weight=tensors["weight"].to(self._device),
            bias=None if bias is None else bias.to(self._device),
            scale=self.header.scale,
            cap=self.header.cap,
            widened=self.header.widened,
        )
        return stored.head

    def states(self, wanted: Sequence[tuple[bytes, int]]) -> States:
        """The states that predict token ``j`` of a request, for each pair of its key and ``j``."""
        chosen: list[list[Tensor]] = []
        order: list[int] = []
        for shard, numbers, rows in self._requests.rows(wanted):
            tensors = self._shard(shard)
            chosen.append([tensors[name][rows] for name in _state_names(self.header)])
            order += numbers
        back = torch.tensor(order).argsort()
        states = [torch.cat(parts)[back].to(self._device) for parts in zip(*chosen, strict=True)]
        if self.header.top is None:
            return states[0]
        return TopTokens(ids=states[0], logprobs=states[1])

    def loglikelihood(self, key: bytes) -> float:
        """The baseline's answer to a request, in nats."""
        return self._requests.loglikelihood(key)

    def logprobs(self, key: bytes) -> Tensor:
        """Log-probabilities (nats) of a request's continuation, token by token."""
        return self._requests.logprobs(key)

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
