"""How far a compressed model is from the baseline on the baseline's own answers, beside its logs.

Each answer's request is found by the key of its text, as token distances are; what both runs logged
as texts is kept as hashes, by which the pair is proven later.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.scoring.requests import KEY
from lm_eval_flips.scoring.shards import Header, ShardWriter, read_manifest, read_tensor_file
from lm_eval_flips.scoring.token_distances import FIELDS, TokenDistances, parts_of, places_of

NEVER = -1  # where no token differs


class AnswerDistancesHeader(Header, frozen=True, kw_only=True):
    """Which model was measured, against which baseline, and how sure its choices are.

    ``top`` is K where the distances are lower bounds over the K most likely tokens and the rest.
    ``noise`` and ``near_ties`` are the baseline's on its own answers: see ``Noise``.
    """

    model: str
    revision: str
    dtype: str
    baseline: str
    baseline_dtype: str
    tokens: int
    max_length: int
    top: int | None
    noise: float
    near_ties: float
    files: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnswerDistance:
    """One answer as the compressed model reads it.

    ``parting`` is the first position at which it chooses another token, None where it never does;
    ``gap`` how far its two best tokens lie apart there (nats), nan where it never does. ``key`` is
    that of the request's text, ``baseline_response`` and ``response`` the hashes of what both
    runs logged.
    """

    key: bytes
    baseline_response: bytes
    response: bytes
    parting: int | None
    gap: float
    distances: TokenDistances


class AnswerDistanceWriter:
    """Appends answers' distances to a folder; continues an interrupted run.

    Args:
        folder: the folder.
        header: which model is measured against which baseline.
        writes: False where another process, which has all the same, writes it.

    Raises:
        FlipsError: the folder holds another pair's distances, or cannot be written or read.
    """

    def __init__(self, folder: Path, header: AnswerDistancesHeader, *, writes: bool = True) -> None:
        self._shards = ShardWriter(folder, header, writes=writes)
        self._known: set[bytes] = set()
        for file in self._shards.manifest.shards:
            keys = read_tensor_file(folder, file)["keys"]
            self._known |= {key.tobytes() for key in keys.numpy()}

    def add(self, answer: AnswerDistance) -> None:
        """Append an answer, unless that of the same request is there."""
        if answer.key in self._known:
            return
        self._known.add(answer.key)

        def whole(digest: bytes) -> Tensor:
            return torch.tensor([list(digest)], dtype=torch.uint8)

        self._shards.add(
            {
                "keys": whole(answer.key),
                "baseline_responses": whole(answer.baseline_response),
                "responses": whole(answer.response),
                "counts": torch.tensor([len(answer.distances)]),
                "partings": torch.tensor([NEVER if answer.parting is None else answer.parting]),
                "gaps": torch.tensor([answer.gap]),
                **{name: getattr(answer.distances, name) for name in FIELDS},
            }
        )

    def flush(self) -> None:
        """Write what waits.

        Raises:
            FlipsError: it cannot be written.
        """
        self._shards.flush()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredAnswerDistances:
    """All answers of a run: answer ``i`` has positions ``starts[i]`` to ``starts[i + 1]``."""

    folder: Path
    header: AnswerDistancesHeader
    keys: NDArray[np.uint64]
    baseline_responses: NDArray[np.uint64]
    responses: NDArray[np.uint64]
    partings: NDArray[np.int64]
    gaps: NDArray[np.float32]
    starts: NDArray[np.int64]
    values: dict[str, Tensor]

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places of requests ``[n, 2]`` by their keys; -1 for those that are not there."""
        return places_of(self.keys, keys)


def load_answer_distances(folder: Path) -> StoredAnswerDistances | None:
    """Read what a run recorded, of all its processes; None if that is nothing.

    Raises:
        FlipsError: it cannot be read, or a file was cut off or changed.
    """
    headers: list[AnswerDistancesHeader] = []
    shards: list[dict[str, Tensor]] = []
    for part in parts_of(folder):
        manifest = read_manifest(part, AnswerDistancesHeader)
        headers.append(manifest.header)
        shards += [read_tensor_file(part, file) for file in manifest.shards]
    if not shards:
        return None

    def whole(name: str) -> Tensor:
        return torch.cat([shard[name] for shard in shards])

    def digests(name: str) -> NDArray[np.uint64]:
        found: NDArray[np.uint64] = whole(name).reshape(-1, KEY).numpy().view(np.uint64)
        return found

    return StoredAnswerDistances(
        folder=folder,
        header=headers[0],
        keys=digests("keys"),
        baseline_responses=digests("baseline_responses"),
        responses=digests("responses"),
        partings=whole("partings").numpy(),
        gaps=whole("gaps").numpy(),
        starts=np.concatenate([[0], np.cumsum(whole("counts").numpy())]),
        values={name: whole(name) for name in FIELDS},
    )
