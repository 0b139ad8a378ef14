"""The mirror of a folder at an address: the files that are read of it, fetched where they changed.

The time of change of a mirrored file is a hash of the store's own stamp of it, so that file and
stamp cannot part, whoever ends the process.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.addresses import MirroredPath
from lm_eval_flips.logs.processes import runs
from lm_eval_flips.logs.remote_files import READ_FOLDERS, Progress, Wanted

# What stores tell of a file that is another once its content is.
STAMPS = (
    *("ETag", "etag", "Content-MD5", "md5", "md5Hash", "sha", "sha256", "oid", "blob_id"),
    *("xet_hash", "crc32c", "CRC", "generation", "version_id", "VersionId", "created", "mtime"),
    *("modified", "modify", "LastModified", "last_modified", "Last-Modified", "updated"),
    *("modificationTime", "date_time"),
)
FETCHING = re.compile(r"\.fetching-(\d+)-.*")  # by which process
ROUNDS = 2  # how often a file is fetched that changes meanwhile
SECONDS, TICKS = 2**31, 10**7  # that every file system can keep, in steps of 100 ns


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as the store lists it."""

    place: str
    size: int | None
    stamp: str | None

    @property
    def time(self) -> int:
        """The time of change, in nanoseconds, that its mirrored file has."""
        number = int.from_bytes(hashlib.sha256(f"{self.stamp}".encode()).digest()[:16], "big")
        return number % SECONDS * 10**9 + number // SECONDS % TICKS * 100


@dataclass(slots=True)
class Mirror:
    """A folder, or one file where nothing is ``wanted`` of it, and its mirror."""

    system: Any
    root: str
    at: MirroredPath
    wanted: Wanted | None
    progress: Progress | None
    fetched: dict[str, str | None] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def renew(self) -> None:
        """Bring the mirror up to date.

        Raises:
            FlipsError: a file changes or disappears while it is fetched.
        """
        folder = self.at if self.wanted is not None else self.at.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        listed = self._list()
        for _ in range(ROUNDS):
            if not (missing := self._missing(listed)):
                break
            listed = self._fetch(missing, folder)
        if changed := self._missing(listed):
            names = [f"{self._path(name)}" for name in sorted(changed)]
            raise FlipsError(
                f"'{named(names)}' changed while it was read, {ROUNDS} times; wait until it is "
                "written, and compare again"
            )
        if self.wanted is None:
            return
        for file in _files_below(self.at):
            name = file.relative_to(self.at).as_posix()
            if name not in listed and self.wanted(name):  # the store has it no more
                file.unlink(missing_ok=True)

    def _path(self, name: str) -> MirroredPath:
        return self.at / name if name else self.at

    def _list(self) -> dict[str, Listed]:
        """What is wanted, by its path below the folder."""
        self.system.invalidate_cache()
        if self.wanted is None:
            return {"": self._listed(self.system.info(self.root))}
        listed = {}
        for place, told in self._found().items():
            name = self._name(place)
            if name and self.wanted(name):
                listed[name] = self._listed(told, place)
        return listed

    def _found(self) -> dict[str, Mapping[str, Any]]:
        """Every file below the folder, or only below those folders in it that are read."""
        if self.wanted is None or not self.wanted.own:
            return dict(self.system.find(self.root, detail=True))
        found: dict[str, Mapping[str, Any]] = {}
        for told in self.system.ls(self.root, detail=True):
            place = str(told["name"]).rstrip("/")
            if told["type"] != "directory":
                found[place] = told
            elif place.rpartition("/")[2] in READ_FOLDERS:
                found |= self.system.find(place, detail=True)
        return found

    def _name(self, place: str) -> str | None:
        """The path of a listed file below the folder; None of what does not lie there."""
        if not place.startswith(f"{self.root}/") or place.endswith("/"):
            return None
        name = place[len(self.root) + 1 :]
        # a name is what a store says: none may lead out of the mirror
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in name.split("/")):
            return None
        return name

    def _listed(self, told: Mapping[str, Any], place: str = "") -> Listed:
        place = place or str(told["name"])
        stamps = _stamps(told)
        if not stamps:  # a web server's listing is only of names
            told = self.system.info(place)
            stamps = _stamps(told)
        size = told.get("size")
        return Listed(place, size, f"{size} {stamps}" if stamps else None)

    def _missing(self, listed: Mapping[str, Listed]) -> dict[str, Listed]:
        return {name: file for name, file in listed.items() if not self._has(name, file)}

    def _has(self, name: str, file: Listed) -> bool:
        if name in self.fetched:
            return self.fetched[name] == file.stamp
        try:
            status = self._path(name).stat()
        except OSError:
            return False
        same = file.stamp is not None and status.st_mtime_ns == file.time
        return same and file.size in (None, status.st_size)

    def _fetch(self, missing: Mapping[str, Listed], folder: Path) -> dict[str, Listed]:
        """Fetch files beside the mirror; those that are still the same then take their place."""
        self.sizes |= {name: file.size or 0 for name, file in missing.items()}
        _sweep(folder)
        with tempfile.TemporaryDirectory(prefix=f".fetching-{os.getpid()}-", dir=folder) as beside:
            parts = {name: os.path.join(beside, str(i)) for i, name in enumerate(missing)}
            places = [file.place for file in missing.values()]
            self._get(places, list(parts.values()))
            listed = self._list()
            for name, file in missing.items():
                now, part = listed.get(name), Path(parts[name])
                if now is None:
                    raise self._gone(name)
                if now.stamp == file.stamp and file.size in (None, part.stat().st_size):
                    self.fetched[name] = file.stamp
                    os.utime(part, ns=(file.time, file.time))
                    self._path(name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    os.replace(part, self._path(name))
        return listed

    def _get(self, places: list[str], parts: list[str]) -> None:
        callback = _Files(self.progress, sum(self.sizes.values()))
        try:
            self.system.get(places, parts, callback=callback)
        except FileNotFoundError as error:
            gone = next((place for place in places if place in str(error)), places[0])
            raise self._gone(self._name(gone) or "") from None

    def _gone(self, name: str) -> FlipsError:
        return FlipsError(f"'{self._path(name)}' disappeared while it was read; compare again")


def _sweep(folder: Path) -> None:
    """Remove what a process was fetching that is no more."""
    for left in folder.glob(".fetching-*"):
        match = FETCHING.fullmatch(left.name)
        if match and not runs(int(match[1])):
            shutil.rmtree(left, ignore_errors=True)


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def _stamps(told: Mapping[str, Any]) -> str:
    known = {name: f"{told[name]}" for name in STAMPS if told.get(name) not in (None, "")}
    return f"{known}" if known else ""


class _Files(Callback):  # type: ignore[misc]  # (fsspec has no types)
    """Tells ``progress`` of the bytes of every file that fsspec fetches."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        super().__init__()
        self._progress, self._total = progress, total

    def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Callback:
        return _Bytes(self._told)

    def _told(self, size: int) -> None:
        if self._progress is not None:
            self._progress(size, self._total)


class _Bytes(Callback):  # type: ignore[misc]
    """Tells of the bytes of one file."""

    def __init__(self, told: Callable[[int], None]) -> None:
        super().__init__()
        self._told = told

    def relative_update(self, inc: int = 1) -> None:
        self._told(inc)
