"""What a baseline wrote, token by token, beside its logs: its greedy answers with their ids.

The harness logs texts. Ids tell more: a compressed model that reads prompt and answer in one pass
chooses, at each position, as it would have chosen while writing, as long as it wrote the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.scoring.requests import KEY, Ints
from lm_eval_flips.scoring.shards import Header, ShardWriter, read_manifest, read_tensor_file
from lm_eval_flips.scoring.token_distances import parts_of

COUNTED = ("prompt", "ids", "hits", "gaps", "text")  # as many of an answer as it has


class End(IntEnum):
    """What ended an answer: a token that ends texts, a stop string of the task, or the limit.

    UNKNOWN of an answer that was told from a log's text, which does not hold what ended it.
    """

    TOKEN = 0
    STRING = 1
    LIMIT = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GreedyAnswer:
    """What a model wrote behind a prompt, up to and with what ended it.

    ``key`` is that of the request's text, ``limit`` the most tokens that it allowed, ``text`` what
    the harness logged. ``hits`` says of each of ``ids`` whether the model chooses it again when it
    reads its own answer, ``gaps`` how far its two best tokens lie apart there (nats).
    """

    key: bytes
    prompt: Ints
    ids: Ints
    end: End
    limit: int
    text: str
    hits: Tensor
    gaps: Tensor


class AnswersHeader(Header, frozen=True, kw_only=True):
    """Which model wrote; as in a reference, which lies beside the answers."""

    model: str
    revision: str
    dtype: str
    tokenizer: str
    max_length: int
    files: str = ""


class AnswerWriter:
    """Appends answers to a folder; continues an interrupted run.

    Args:
        folder: the folder.
        header: which model writes.
        writes: False where another process, which has all the same, writes it.

    Raises:
        FlipsError: the folder holds another model's answers, or cannot be written or read.
    """

    def __init__(self, folder: Path, header: AnswersHeader, *, writes: bool = True) -> None:
        self._shards = ShardWriter(folder, header, writes=writes)
        self._known = {
            answer.key
            for file in self._shards.manifest.shards
            for answer in _answers(read_tensor_file(folder, file))
        }

    def __contains__(self, key: bytes) -> bool:
        return key in self._known

    def add(self, answer: GreedyAnswer) -> None:
        """Append an answer, unless that of the same request is there."""
        if answer.key in self._known:
            return
        self._known.add(answer.key)
        values = {
            "prompt": torch.from_numpy(answer.prompt.astype(np.int32)),
            "ids": torch.from_numpy(answer.ids.astype(np.int32)),
            "hits": answer.hits,
            "gaps": answer.gaps.float(),
            "text": torch.tensor(
                list(answer.text.encode("utf-8", "surrogatepass")), dtype=torch.uint8
            ),
        }
        counts = {f"{name}_count": torch.tensor([len(own)]) for name, own in values.items()}
        self._shards.add(
            {
                "keys": torch.tensor([list(answer.key)], dtype=torch.uint8),
                "ends": torch.tensor([int(answer.end)]),
                "limits": torch.tensor([answer.limit]),
                **counts,
                **values,
            }
        )

    def flush(self) -> None:
        """Write what waits.

        Raises:
            FlipsError: it cannot be written.
        """
        self._shards.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How far a model's own choices can be trusted, by what it chose of its own answers again.

    ``gap`` is the largest distance of two best tokens (nats) at which it chose another than it had
    written; 0 where it never did. ``near_ties`` is the share of all positions whose two best tokens
    lie no further apart than that: 0 in a model whose pass repeats its steps.
    """

    gap: float
    near_ties: float

    @classmethod
    def of(cls, hits: Tensor, gaps: Tensor) -> Noise:
        """From all positions of a model's answers; nan for none.

        Example:
            >>> hits = torch.tensor([True, False, True, True])
            >>> Noise.of(hits, torch.tensor([2.0, 0.25, 0.125, 1.0]))
            Noise(gap=0.25, near_ties=0.5)
        """
        missed = gaps[~hits]
        gap = float(missed.max()) if len(missed) else 0.0
        return cls(gap=gap, near_ties=float((gaps <= gap).double().mean()))


class GreedyAnswers:
    """A baseline's answers, by the keys of their requests.

    Args:
        folder: where they were recorded; of several processes, each has a folder in it.

    Raises:
        FlipsError: there are none, or a file was cut off or changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_key: dict[bytes, GreedyAnswer] = {}
        for part in parts_of(folder):
            manifest = read_manifest(part, AnswersHeader)
            if part == folder:
                self.header = manifest.header
            for file in manifest.shards:
                shard = read_tensor_file(part, file)
                self._by_key.update((answer.key, answer) for answer in _answers(shard))

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[GreedyAnswer]:
        return iter(self._by_key.values())

    def get(self, key: bytes) -> GreedyAnswer | None:
        """The answer to a request; None where none was recorded."""
        return self._by_key.get(key)

    @property
    def noise(self) -> Noise:
        """Of all positions of all answers."""
        nothing = torch.empty(0)
        return Noise.of(
            torch.cat([nothing.bool(), *(answer.hits for answer in self)]),
            torch.cat([nothing, *(answer.gaps for answer in self)]),
        )


def _answers(shard: dict[str, Tensor]) -> Iterator[GreedyAnswer]:
    columns: dict[str, Sequence[Tensor]] = {
        name: torch.split(shard[name], shard[f"{name}_count"].tolist()) for name in COUNTED
    }
    singles = zip(shard["ends"].tolist(), shard["limits"].tolist(), strict=True)
    keys = shard["keys"].reshape(-1, KEY).numpy()
    for place, (end, limit) in enumerate(singles):
        own = {name: values[place] for name, values in columns.items()}
        yield GreedyAnswer(
            key=keys[place].tobytes(),
            prompt=own["prompt"].numpy().astype(np.int64),
            ids=own["ids"].numpy().astype(np.int64),
            end=End(end),
            limit=limit,
            text=bytes(own["text"].tolist()).decode("utf-8", "surrogatepass"),
            hits=own["hits"],
            gaps=own["gaps"],
        )
