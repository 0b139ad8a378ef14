"""A log's bytes, however they lie on disk: plain, packed, or inside of ``simple_evaluate``'s dump.

What cannot be a log (a folder, a pipe, a link to nothing, a pointer of git-lfs) is refused before
it is opened, with the way out.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from lm_eval_flips.errors import FlipsError

BOM = b"\xef\xbb\xbf"
LFS = b"version https://git-lfs.github.com/spec/"
ZSTD_LIBRARIES = ("compression.zstd", "zstandard")
PIECE = 1 << 17  # bytes that are unpacked at once


@runtime_checkable
class Stream(Protocol):
    """Bytes that are read in order."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer with the next bytes, and tell how many they were."""

    def readline(self) -> bytes:
        """The rest of the line."""

    def __iter__(self) -> Iterator[bytes]:
        """Line by line."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """An open log: its lines as a stream of bytes, and the file on disk that they come from."""

    stream: Stream
    on_disk: BinaryIO


def size_on_disk(path: Path) -> int:
    """Bytes of a file; 0 where it is not to be had, which is told when it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def refuse_irregular(path: Path) -> None:
    """Refuse what is no file of bytes.

    Raises:
        FlipsError: a folder, a pipe or another device, a link to nothing, a pointer of git-lfs,
            or a file that cannot be opened.
    """
    try:
        regular = path.is_file()
        if regular:
            with path.open("rb") as file:
                start = file.read(len(LFS))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if not regular:
        what = "a folder" if path.is_dir() else "no file"
        if path.is_symlink() and not path.exists():
            what = "a link to nothing"
        raise FlipsError(f"'{path}' is {what}, though named like a log; remove it or rename it")
    if start == LFS:
        raise FlipsError(
            f"'{path}' is a pointer of git-lfs, not the file itself: fetch it with `git lfs pull` "
            "in that repository"
        )


def unreadable(path: Path, error: Exception) -> FlipsError:
    """What to raise for a file that cannot be read."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FlipsError(f"'{path}' cannot be read: {why}; check the file and its permissions")


def read_bytes(path: Path) -> bytes:
    """A whole file, without the mark that some editors put at its start.

    Raises:
        FlipsError: as ``refuse_irregular``.
    """
    refuse_irregular(path)
    try:
        return path.read_bytes().removeprefix(BOM)
    except OSError as error:
        raise unreadable(path, error) from None


@contextmanager
def open_log(path: Path, task: str) -> Iterator[LogFile]:
    """Open a samples file to read its lines.

    Args:
        path: a samples file, packed or not, or a dump that holds the samples of several tasks.
        task: the task whose samples are wanted.

    Raises:
        FlipsError: as ``refuse_irregular``; or it is cut off, damaged, or packed by what no
            library here can unpack.
    """
    refuse_irregular(path)
    broken: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
    try:
        with path.open("rb") as on_disk:
            if path.suffix == ".gz":
                stream: Stream = gzip.GzipFile(fileobj=on_disk)
            elif path.suffix == ".zst":
                unpack, error_kind = _zstd(path)
                broken = (*broken, error_kind)
                stream = io.BufferedReader(_Unpacked(on_disk, unpack), buffer_size=PIECE)
            elif path.suffix == ".json":
                stream = io.BytesIO(_dumped(path, on_disk.read(), task))
            else:
                stream = on_disk
            yield LogFile(stream, on_disk)
    except broken as error:
        if path.suffix in (".gz", ".zst"):
            raise FlipsError(
                f"'{path}' cannot be unpacked ({error}): it was cut off or damaged; fetch it again"
            ) from None
        raise unreadable(path, error) from None


class _Unpacked(io.RawIOBase):
    """The bytes of a file packed by zstd, frame by frame; one that breaks off is an error.

    (The libraries' own streams end where the file does, as if the frame did.)
    """

    def __init__(self, on_disk: BinaryIO, start: Callable[[], Any]) -> None:
        self._on_disk, self._start = on_disk, start
        self._frame: Any = None
        self._packed, self._ready = b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and self._fill():
            pass
        given = self._ready[: len(buffer)]
        buffer[: len(given)] = given
        self._ready = self._ready[len(given) :]
        return len(given)

    def _fill(self) -> bool:
        """Unpack a piece; False at the end of the file."""
        self._packed = self._packed or self._on_disk.read(PIECE)
        if not self._packed:
            if self._frame is not None:
                raise EOFError("the file ends within a frame")
            return False
        self._frame = self._frame or self._start()
        self._ready = self._frame.decompress(self._packed)
        self._packed = b""
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None
        return True


def _zstd(path: Path) -> tuple[Callable[[], Any], type[Exception]]:
    """What starts to unpack a frame packed by zstd, and the error that it raises."""
    for name in ZSTD_LIBRARIES:
        try:
            library = importlib.import_module(name)
        except ImportError:
            continue
        if name == "zstandard":
            return library.ZstdDecompressor().decompressobj, library.ZstdError
        return library.ZstdDecompressor, library.ZstdError
    raise FlipsError(
        f"'{path}' is packed by zstd, for which no library is installed: `pip install zstandard`, "
        f"or unpack it with `zstd -d '{path}'`"
    )


def _dumped(path: Path, content: bytes, task: str) -> bytes:
    """The samples of a task in a dump of what ``simple_evaluate`` returns, as lines of a log."""
    try:
        samples = json.loads(content.removeprefix(BOM))["samples"][task]
        lines = [json.dumps(_as_logged(sample)) for sample in samples]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FlipsError(
            f"'{path}' holds no samples of task '{task}' as simple_evaluate returns them "
            f"({error!r:.80}); dump its whole result, or run lm_eval with --log_samples"
        ) from None
    return "".join(line + "\n" for line in lines).encode()


def _as_logged(sample: Any) -> dict[str, Any]:
    """A sample as the harness would have written it: its requests' arguments by name."""
    if not isinstance(sample, dict):
        raise TypeError(f"{sample!r:.40} is no sample")
    arguments = sample.get("arguments")
    if isinstance(arguments, list):
        named = {
            f"gen_args_{i}": {f"arg_{j}": value for j, value in enumerate(request)}
            for i, request in enumerate(arguments)
        }
        return {**sample, "arguments": named}
    return sample
