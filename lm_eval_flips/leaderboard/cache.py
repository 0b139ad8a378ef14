"""Entries that need not be computed again, beside the runs in `.lm-eval-flips-cache`.

A file holds the SHA-256 of what follows it, the key and the entry. The key is a hash of everything
that the entry depends on: name, size and time of change of each file of both runs, the options,
and this package's own files. What is stale, damaged or of other content is computed anew and
replaced; nothing that is read is executed or unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import write_whole
from lm_eval_flips.logs.runs import Run, load_run

FOLDER = ".lm-eval-flips-cache"
FORMAT = 1
DIGEST = hashlib.sha256().digest_size

File = tuple[str, int, int]


class Cache:
    """The cache of one board.

    Args:
        folder: where its files lie; None for no cache.
        baseline: the baseline's run.
        asked: the options of the board.
    """

    def __init__(self, folder: Path | None, baseline: Run, asked: Options) -> None:
        self._folder = folder
        self._baseline = _files(baseline)
        self._board = [str(baseline.path.resolve()), _options(asked)]
        self._made_by = [FORMAT, _own_files()]
        self.problem: str | None = None

    def load(self, run: Run) -> bytes | None:
        """A run's entry, if it is there, whole, and of what the files are now."""
        return self._load(self._file(run), self.key(run))

    def store(self, run: Run, entry: bytes, *, key: bytes) -> None:
        """Keep a run's entry under the key that held before it was computed.

        A folder that cannot be written costs time, not the board: ``problem`` says why.
        """
        self._store(self._file(run), entry, key)

    def load_ranking(self, key: bytes) -> bytes | None:
        """How runs were ranked against each other, likewise."""
        return self._load(self._ranked, key)

    def store_ranking(self, ranking: bytes, *, key: bytes) -> None:
        """Keep how runs are ranked, likewise."""
        self._store(self._ranked, ranking, key)

    def key_of_all(self, runs: Sequence[Run]) -> bytes:
        """A hash of everything that a ranking of these runs depends on, in their order."""
        return _hash([self.key(run).hex() for run in runs])

    @property
    def _ranked(self) -> Path:
        return self._named([*self._board, "ranking"])

    def _load(self, file: Path, key: bytes) -> bytes | None:
        if self._folder is None:
            return None
        try:
            content = file.read_bytes()
        except OSError:
            return None
        digest, rest = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(rest).digest() != digest or rest[:DIGEST] != key:
            return None
        return rest[DIGEST:]

    def _store(self, file: Path, value: bytes, key: bytes) -> None:
        if self._folder is None:
            return
        content = key + value
        try:
            write_whole(file, hashlib.sha256(content).digest() + content)
        except FlipsError as error:
            self.problem = str(error)

    def key(self, run: Run) -> bytes:
        """A hash of everything that a run's entry depends on."""
        return _hash([*self._made_by, *self._board, self._baseline, _files(run)])

    def _file(self, run: Run) -> Path:
        return self._named([*self._board, str(run.path.resolve())])

    def _named(self, what: Sequence[object]) -> Path:
        name = _hash(what).hex()[:32]
        return (self._folder or Path()) / f"{name}.bin"


def _hash(content: object) -> bytes:
    return hashlib.sha256(msgspec.json.encode(content)).digest()


def _options(asked: Options) -> dict[str, object]:
    """The options by name; a noise floor by its files, which are read too."""
    settings: dict[str, object] = {**asked.given, "device": str(asked.device)}
    floor, bootstrap = asked.noise_floor, asked.bootstrap
    if floor is not None:
        settings["noise_floor"] = _files(floor if isinstance(floor, Run) else load_run(floor))
    if bootstrap is not None:
        settings["bootstrap"] = [bootstrap.replicates, bootstrap.seed]
    return settings


def _files(run: Run) -> list[File]:
    """Name, size and time of change of everything that is read of a run."""
    paths = [*run.files]
    for folder in (run.distances, run.answer_distances, run.judgements):
        if folder is not None:
            paths += folder.rglob("*")
    return sorted(map(_stamp, paths))


@lru_cache
def _own_files() -> list[File]:
    """This package's own files: another version computes anew, and so does one that is edited."""
    folder = Path(__file__).parents[1]
    return sorted(map(_stamp, folder.rglob("*.py")))


def _stamp(path: Path) -> File:
    try:
        status = path.stat()
    except OSError:  # a link to nothing; what lies there later has a size and a time
        return path.name, -1, -1
    return path.name, status.st_size, status.st_mtime_ns
