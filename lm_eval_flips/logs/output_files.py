"""Files that are written whole or not at all: beside, flushed to the disk, then renamed.

Whatever ends the writing (a kill, a full disk, an error) leaves the file that was there as it was.
A kill that nothing can catch leaves a hidden file beside it, `.lm-eval-flips-….new`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.addresses import refuse_address


def write_whole(file: Path, content: bytes, *, way_out: str = "") -> None:
    """Write a file, and the folders above it.

    Args:
        file: what a link points to is replaced, not the link.
        content: all of it.
        way_out: what to do if it cannot be written, for the error.

    Raises:
        FlipsError: it cannot be written; what was there is as it was.
    """
    with replacing(file, way_out=way_out) as beside:
        beside.write_bytes(content)


@contextmanager
def replacing(file: Path, *, way_out: str = "") -> Iterator[Path]:
    """A path beside a file, which takes the file's place when all is written to it.

    A device or a pipe, which holds nothing that could be lost, is written to itself.

    Raises:
        FlipsError: it cannot be written; what was there is as it was.

    Example:
        >>> with replacing(Path("table.parquet")) as beside:  # doctest: +SKIP
        ...     pyarrow.parquet.write_table(table, beside)
    """
    refuse_address(file)
    try:
        target = file.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            yield target
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".lm-eval-flips-{os.urandom(8).hex()}.new")
        try:
            yield beside
            if target.exists():
                beside.chmod(target.stat().st_mode & 0o7777)
            _flush(beside)
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
        with suppress(OSError):  # a file system whose folders cannot be flushed
            _flush(target.parent)
    except (OSError, RuntimeError) as error:  # a RuntimeError: links in a circle, up to Python 3.12
        why = getattr(error, "strerror", None) or error
        hint = f"; {way_out}" if way_out else ""
        raise FlipsError(f"'{file}' cannot be written: {why}{hint}") from None


def _flush(path: Path) -> None:
    """Wait until what was written is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
