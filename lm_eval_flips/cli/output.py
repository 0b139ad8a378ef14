"""Where output goes: the console and files, which are never replaced unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_flips.errors import FlipsError

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Give the console, as wide as its terminal or without an end."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no width: one line a row, to be searched
    return console


def refuse_existing(file: Path | None, *, overwrite: bool) -> None:
    """Refuse a file that exists, unless it may be replaced."""
    if file is not None and file.exists() and not overwrite:
        raise FlipsError(f"'{file}' exists; name another file, or replace it with --overwrite")


def write(file: Path, content: bytes) -> None:
    """Write a file, and the folders above it."""
    with writing(file):
        file.write_bytes(content)


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Make the folders above a file; what cannot be written is one line."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise FlipsError(f"'{file}' cannot be written: {error.strerror or error}") from None
