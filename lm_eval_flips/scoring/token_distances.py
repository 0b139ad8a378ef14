"""The distances of a compressed run from its baseline, request by request, beside its logs.

The harness logs no numbers of ours, so they lie in the run's folder, keyed by the text of each
request: `compare` finds them there for any task. Each request's answer is kept with them, so that
an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.scoring.reference import Positions
from lm_eval_flips.scoring.requests import KEY, Answer
from lm_eval_flips.scoring.shards import Header, ShardWriter, read_manifest, read_tensor_file


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenDistances:
    """Distances from the baseline at scored positions, on the CPU, ``[positions]``.

    Nats, but total_variation is a share 0..1; ``same_top`` says whether both models hold the same
    token most likely, ``logprob_change`` how much likelier the compressed model holds the scored
    token (nats).
    """

    kl: Tensor
    reverse_kl: Tensor
    jensen_shannon: Tensor
    total_variation: Tensor
    same_top: Tensor
    logprob_change: Tensor

    def __len__(self) -> int:
        return len(self.kl)


FIELDS = tuple(field.name for field in fields(TokenDistances))
NOTHING = TokenDistances(
    kl=torch.empty(0),
    reverse_kl=torch.empty(0),
    jensen_shannon=torch.empty(0),
    total_variation=torch.empty(0),
    same_top=torch.empty(0, dtype=torch.bool),
    logprob_change=torch.empty(0),
)


class DistancesHeader(Header, frozen=True, kw_only=True):
    """Which model was measured, against which baseline, and how.

    ``top`` is K where the distances are lower bounds over the K most likely tokens and the rest;
    ``tokens`` is the number of vocabulary entries that were compared; ``files`` the fingerprint of
    a local model's files.
    """

    model: str
    revision: str
    dtype: str
    baseline: str
    baseline_dtype: str
    tokens: int
    max_length: int
    positions: Positions
    top: int | None
    files: str = ""


class DistanceWriter:
    """Appends requests' distances and answers to a folder; continues an interrupted run.

    Args:
        folder: the folder.
        header: which model is measured against which baseline.
        writes: False where another process, which has all the same, writes it.

    Raises:
        FlipsError: the folder holds another pair's distances, or cannot be written or read.
    """

    def __init__(self, folder: Path, header: DistancesHeader, *, writes: bool = True) -> None:
        self._shards = ShardWriter(folder, header, writes=writes)
        self.answers: dict[bytes, Answer] = {}
        for file in self._shards.manifest.shards:
            self.answers.update(_answers(read_tensor_file(folder, file)))

    def add(
        self,
        key: bytes,
        answer: Answer,
        parts: Sequence[TokenDistances],
        *,
        baseline_loglikelihood: float,
    ) -> None:
        """Append one request; the windows of a rolling text follow each other.

        Args:
            key: hash of the request's text.
            answer: what the compressed model gave.
            parts: its distances; none of an empty text.
            baseline_loglikelihood: what the baseline gave, by which the pair is proven later.
        """
        if key in self.answers:
            return  # the same text in another task
        parts = parts or [NOTHING]
        self.answers[key] = answer
        self._shards.add(
            {
                "keys": torch.tensor([list(key)], dtype=torch.uint8),
                "counts": torch.tensor([sum(len(part) for part in parts)], dtype=torch.int32),
                "loglikelihoods": torch.tensor([answer.loglikelihood], dtype=torch.float64),
                "baseline_loglikelihoods": torch.tensor(
                    [baseline_loglikelihood], dtype=torch.float64
                ),
                "greedy": torch.tensor([answer.is_greedy]),
                **{name: torch.cat([getattr(part, name) for part in parts]) for name in FIELDS},
            }
        )

    def flush_if_due(self) -> None:
        """Write what waits if it is enough. Raises what ``flush`` raises."""
        self._shards.flush_if_due()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            FlipsError: it cannot be written.
        """
        self._shards.flush()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredDistances:
    """All distances of a run: request ``i`` has positions ``starts[i]`` to ``starts[i + 1]``.

    ``loglikelihoods`` and ``baseline_loglikelihoods`` are the answers that both runs logged.
    """

    folder: Path
    header: DistancesHeader
    keys: NDArray[np.uint64]
    loglikelihoods: NDArray[np.float64]
    baseline_loglikelihoods: NDArray[np.float64]
    starts: NDArray[np.int64]
    values: dict[str, Tensor]

    def find(
        self, keys: NDArray[np.uint64], loglikelihoods: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        """Places of requests ``[n, 2]`` by their keys; -1 for those that are not there.

        Several processes may each have answered the same text, of a document that stands twice;
        of those the one with the log-likelihood that was logged, ``[n]``, is meant.
        """
        places = places_of(self.keys, keys)
        if loglikelihoods is None or len(np.unique(_as_one(self.keys))) == len(self.keys):
            return places
        exact = places_of(
            _answered(self.keys, self.loglikelihoods), _answered(keys, loglikelihoods)
        )
        return np.where(exact >= 0, exact, places)


def load_distances(folder: Path) -> StoredDistances | None:
    """Read what a run recorded, of all its processes; None if that is nothing.

    Raises:
        FlipsError: it cannot be read, or a file was cut off or changed.
    """
    headers: list[DistancesHeader] = []
    shards: list[dict[str, Tensor]] = []
    for part in parts_of(folder):
        manifest = read_manifest(part, DistancesHeader)
        headers.append(manifest.header)
        shards += [read_tensor_file(part, file) for file in manifest.shards]
    if not shards:
        return None
    return StoredDistances(
        folder=folder,
        header=headers[0],
        keys=_joined(shard["keys"] for shard in shards).reshape(-1, KEY).numpy().view(np.uint64),
        loglikelihoods=_joined(shard["loglikelihoods"] for shard in shards).numpy(),
        baseline_loglikelihoods=_joined(
            shard["baseline_loglikelihoods"] for shard in shards
        ).numpy(),
        starts=np.concatenate(
            [[0], np.cumsum(_joined(shard["counts"] for shard in shards).numpy().astype(np.int64))]
        ),
        values={name: _joined(shard[name] for shard in shards) for name in FIELDS},
    )


def places_of(stored: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places of keys, ``[n, width]``, among those stored; -1 for those that are not there.

    Example:
        >>> stored = np.array([[1, 2], [3, 4]], np.uint64)
        >>> places_of(stored, np.array([[3, 4], [1, 1]], np.uint64)).tolist()
        [1, -1]
    """
    own, asked = _as_one(stored), _as_one(keys)
    if not len(own):
        return np.full(len(asked), -1)
    order = np.argsort(own, kind="stable")
    place = order[np.minimum(np.searchsorted(own[order], asked), len(own) - 1)]
    return np.where(own[place] == asked, place, -1)


def _answers(shard: dict[str, Tensor]) -> Iterator[tuple[bytes, Answer]]:
    kl = torch.split(shard["kl"], shard["counts"].tolist())
    columns = (shard["keys"].numpy(), shard["loglikelihoods"].tolist(), shard["greedy"].tolist())
    for key, loglikelihood, greedy, own in zip(*columns, kl, strict=True):
        yield key.tobytes(), Answer(loglikelihood, greedy, float(own.double().mean()))


def parts_of(folder: Path) -> Iterator[Path]:
    """The folders of one recording: of each of several processes one."""
    yield folder
    yield from sorted(folder.glob("rank-*"))


def _joined(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(parts))


def _answered(keys: NDArray[np.uint64], loglikelihoods: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Keys ``[n, 2]`` with the bits of their log-likelihoods ``[n]``."""
    return np.column_stack([keys, loglikelihoods.astype(np.float64).view(np.uint64)])


def _as_one(keys: NDArray[np.uint64]) -> Any:
    """Each row as one element that can be sorted and searched, ``[n]``."""
    return np.ascontiguousarray(keys).view(f"S{keys.shape[1] * keys.itemsize}").reshape(-1)
