"""Runs at addresses that fsspec knows (s3://, hf://, gs:// …): what is read of them is mirrored.

Nothing is ever written there. A file that has not changed since it was mirrored, as its size and
the store's own stamp of it tell, is not fetched again. The time of change of a mirrored file is a
hash of that stamp, so that file and stamp cannot part, whoever ends the process.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.addresses import MirroredPath, address_of, mirror_of
from lm_eval_flips.logs.files import unreadable
from lm_eval_flips.logs.names import RESULTS_NAME, SAMPLES_NAME
from lm_eval_flips.logs.remote_errors import not_reached, raised_by_stores
from lm_eval_flips.logs.remote_files import READ_FOLDERS, Wanted
from lm_eval_flips.logs.secrets import masked_text

Progress = Callable[[int, int], None]

# What stores tell of a file that is another once its content is.
STAMPS = (
    *("ETag", "etag", "Content-MD5", "md5", "md5Hash", "sha", "sha256", "oid", "blob_id"),
    *("xet_hash", "crc32c", "CRC", "generation", "version_id", "VersionId", "created", "mtime"),
    *("modified", "modify", "LastModified", "last_modified", "Last-Modified", "updated"),
    *("modificationTime", "date_time"),
)
LOGS = (".json", ".jsonl", ".gz", ".zst")
ROUNDS = 2  # how often a file is fetched that changes meanwhile
SECONDS, TICKS = 2**31, 10**7  # that every file system can keep, in steps of 100 ns


def here(path: str | Path, *, tree: bool = False, progress: Progress | None = None) -> Path:
    """A path itself; of an address the folder or file that mirrors it, brought up to date.

    Args:
        path: a path, or an address that fsspec knows.
        tree: whether it is a folder of runs at any depth, not one run.
        progress: called with the bytes fetched since the last call, and with those of all files.

    Raises:
        FlipsError: nothing there, not to be reached or not allowed; its library is not installed;
            files that change while they are fetched, twice.
    """
    address = address_of(path)
    if address is None:
        return path if isinstance(path, Path) else Path(path)
    shown = masked_text(address)
    system, root = _opened(address, shown)
    if isinstance(root, Path):
        return root
    try:
        return _mirrored(system, address, root, tree=tree, progress=progress)
    except FlipsError:
        raise
    except OSError as error:
        if _is_local(error):
            raise unreadable(Path(str(error.filename)), error) from None
        raise not_reached(shown, error) from None
    except raised_by_stores() as error:
        raise not_reached(shown, error) from None


def _is_local(error: OSError) -> bool:
    """Whether it was raised by the mirror on this machine, not by the store."""
    return str(mirror_of("")) in str(error.filename or "")


def _opened(address: str, shown: str) -> tuple[Any, str | Path]:
    """The file system of an address, and the place in it; a ``Path`` where it is this machine's."""
    import fsspec
    from fsspec.registry import known_implementations

    protocol = address.partition("://")[0]
    if "::" in address:
        raise FlipsError(f"'{shown}' is a chain of addresses; unpack it, and give one")
    try:
        system, place = fsspec.core.url_to_fs(address, skip_instance_cache=True)
    except ImportError as error:
        package = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
        way = f"`pip install {package}`" if package not in ("", "fsspec") else f"{error}"
        raise FlipsError(f"'{shown}' cannot be read without another library: {way}") from None
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise not_reached(shown, error) from None
        raise FlipsError(
            f"'{shown}' begins with '{protocol}://', which fsspec does not know; it knows s3, gs, "
            "hf, az, https, sftp and more: copy the run to one of them, or here"
        ) from None
    except raised_by_stores() as error:
        raise not_reached(shown, error) from None
    if isinstance(system, fsspec.implementations.local.LocalFileSystem):
        return system, Path(place)
    return system, place


def _mirrored(
    system: Any, address: str, place: str, *, tree: bool, progress: Progress | None
) -> Path:
    system.invalidate_cache()
    query = "?" in address and address.startswith("http")
    at = mirror_of(address.partition("?")[0] if query else address)
    found = system.info(place)
    root = str(found["name"]).rstrip("/")
    # a web server calls its folders files too
    one = found["type"] == "file" and (query or at.suffix in LOGS)
    if not one:
        _Mirror(system, root, at, Wanted(tree=tree), progress).renew()
        _beside(system, root, at, progress)
        return at
    if query or not (RESULTS_NAME.fullmatch(at.name) or SAMPLES_NAME.fullmatch(at.name)):
        _Mirror(system, root, at, None, progress).renew()
        return at
    folder, above = root.rpartition("/")[0], at.parent
    _Mirror(system, folder, above, Wanted(beside=at.name), progress).renew()
    _beside(system, folder, above, progress)
    return at


def _beside(system: Any, root: str, at: MirroredPath, progress: Progress | None) -> None:
    """What lies beside a model's folder and is of its run: distances, judgements, records."""
    has_results = any(RESULTS_NAME.fullmatch(file.name) for file in at.iterdir())
    folder = root.rpartition("/")[0]
    if has_results and folder.rpartition("/")[0]:  # the first segment is a bucket or an account
        _Mirror(system, folder, at.parent, Wanted(own=True), progress).renew()


@dataclass(frozen=True, slots=True)
class _Listed:
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
class _Mirror:
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
        for file in _files_below(self.at) if self.wanted is not None else ():
            name = file.relative_to(self.at).as_posix()
            if name not in listed and self.wanted(name):  # the store has it no more
                file.unlink(missing_ok=True)

    def _path(self, name: str) -> MirroredPath:
        return self.at / name if name else self.at

    def _list(self) -> dict[str, _Listed]:
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

    def _listed(self, told: Mapping[str, Any], place: str = "") -> _Listed:
        place = place or str(told["name"])
        stamps = _stamps(told)
        if not stamps:  # a web server's listing is only of names
            told = self.system.info(place)
            stamps = _stamps(told)
        size = told.get("size")
        return _Listed(place, size, f"{size} {stamps}" if stamps else None)

    def _missing(self, listed: Mapping[str, _Listed]) -> dict[str, _Listed]:
        return {name: file for name, file in listed.items() if not self._has(name, file)}

    def _has(self, name: str, file: _Listed) -> bool:
        if name in self.fetched:
            return self.fetched[name] == file.stamp
        try:
            status = self._path(name).stat()
        except OSError:
            return False
        same = file.stamp is not None and status.st_mtime_ns == file.time
        return same and file.size in (None, status.st_size)

    def _fetch(self, missing: Mapping[str, _Listed], folder: Path) -> dict[str, _Listed]:
        """Fetch files beside the mirror; those that are still the same then take their place."""
        self.sizes |= {name: file.size or 0 for name, file in missing.items()}
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as beside:
            parts = {name: os.path.join(beside, str(i)) for i, name in enumerate(missing)}
            places = [file.place for file in missing.values()]
            self._get(places, list(parts.values()))
            listed = self._list()
            for name, file in missing.items():
                now, part = listed.get(name), Path(parts[name])
                if now is None:
                    raise FlipsError(f"'{self._path(name)}' disappeared while it was read")
                if now.stamp == file.stamp and file.size in (None, part.stat().st_size):
                    self.fetched[name] = file.stamp
                    os.utime(part, ns=(file.time, file.time))
                    self._path(name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    os.replace(part, self._path(name))
        return listed

    def _get(self, places: list[str], parts: list[str]) -> None:
        callback = _callback(self.progress, sum(self.sizes.values()))
        try:
            self.system.get(places, parts, **callback)
        except FileNotFoundError as error:
            gone = next((place for place in places if place in str(error)), places[0])
            name = self._name(gone) or ""
            raise FlipsError(
                f"'{self._path(name)}' disappeared while it was read; compare again"
            ) from None


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def _stamps(told: Mapping[str, Any]) -> str:
    known = {name: f"{told[name]}" for name in STAMPS if told.get(name) not in (None, "")}
    return f"{known}" if known else ""


def _callback(progress: Progress | None, total: int) -> dict[str, Any]:
    """What fsspec tells how far it is; nothing where nobody asks."""
    if progress is None:
        return {}
    from fsspec.callbacks import Callback

    told = progress

    class Bytes(Callback):  # type: ignore[misc]  # (fsspec has no types)
        def relative_update(self, inc: int = 1) -> None:
            told(inc, total)

    class Files(Callback):  # type: ignore[misc]
        def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Callback:
            return Bytes()

    return {"callback": Files()}
