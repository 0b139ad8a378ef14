"""Where output goes: the console, and files that are seen to before the work begins."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.addresses import refuse_address
from lm_eval_flips.report.printable import visible

if TYPE_CHECKING:
    from rich.console import Console

    from lm_eval_flips.logs.runs import Run


def say(line: str, *, error: bool = False) -> None:
    """Print one line: what runs are called can neither begin another one nor move the cursor."""
    typer.echo(visible(line), err=error)


def console() -> Console:
    """Give the console, as wide as its terminal or without an end."""
    from lm_eval_flips.cli.console import PlainConsole

    console = PlainConsole(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no width: one line a row, to be searched
    return console


class Outputs:
    """The files that a verb will write, refused before the work where they cannot be written.

    Args:
        files: each file by the option that names it; None where none was given.
        overwrite: replace files that exist.
        kept: options whose file may exist: only a part of it is replaced, or put at its end.
        folders: as ``files``, for folders of many files.

    Raises:
        FlipsError: a file exists, is a folder or lies where nothing can be written, is an address
            such as s3://bucket/file, or two options name the same one.
    """

    def __init__(
        self,
        files: Mapping[str, Path | None],
        *,
        overwrite: bool = False,
        kept: Collection[str] = (),
        folders: Mapping[str, Path | None] | None = None,
    ) -> None:
        self._files = _given(files)
        options: dict[Path, str] = {}
        for option, file in {**self._files, **_given(folders or {})}.items():
            refuse_address(file, what=option)
            other = options.setdefault(_resolved(file), option)
            if other != option:
                raise FlipsError(f"{other} and {option} name the same file '{file}'; name two")
        for option, file in self._files.items():
            _refuse_unwritable(file)
            if not overwrite and option not in kept and file.is_file():
                raise FlipsError(
                    f"'{file}' exists; name another file, or replace it with --overwrite"
                )

    def refuse_inputs(
        self,
        runs: Iterable[Run] = (),
        others: Iterable[Path | None] = (),
        *,
        folders: Iterable[Path] = (),
    ) -> None:
        """Refuse to write over what is read.

        Args:
            runs: all runs that are read.
            others: other files that are read.
            folders: folders in which nothing but their own files belongs.

        Raises:
            FlipsError: an output is one of the inputs, or lies in a folder of recorded numbers.
        """
        read, recorded = _read_of(runs)
        inputs = read | {_resolved(file) for file in others if file is not None}
        closed = recorded | {_resolved(folder) for folder in folders}
        for option, file in self._files.items():
            target = _resolved(file)
            within = any(folder in (target, *target.parents) for folder in closed)
            if target in inputs or within or _same_file(target, inputs):
                raise FlipsError(f"{option} '{file}' is one of the files to be read; name another")


def _given(files: Mapping[str, Path | None]) -> dict[str, Path]:
    return {option: file for option, file in files.items() if file is not None}


def _resolved(file: Path) -> Path:
    try:
        return file.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, a name that is too long
        raise _not_writable(file, getattr(error, "strerror", None) or str(error)) from None


def _read_of(runs: Iterable[Run]) -> tuple[set[Path], set[Path]]:
    """The files that are read of runs, and their folders of recorded numbers."""
    from lm_eval_flips.logs.runs import OWN_FOLDERS

    files: set[Path] = set()
    folders: set[Path] = set()
    for run in runs:
        files |= {_resolved(file) for file in (run.path, *run.sample_paths.values())}
        for above in (run.path.parent, run.path.parent.parent):
            folders |= {_resolved(above / name) for name in OWN_FOLDERS}
    return files, folders


def _same_file(target: Path, inputs: Iterable[Path]) -> bool:
    """Whether a file is one of the inputs under another name, as by a hard link."""
    if not target.exists() or target.stat().st_nlink < 2:
        return False
    return any(file.exists() and target.samefile(file) for file in inputs)


def _refuse_unwritable(file: Path) -> None:
    try:
        if file.is_dir():
            raise FlipsError(f"'{file}' is a folder; name a file")
        special = file.exists() and not file.is_file()  # a device or a pipe, written to itself
        folder = next(above for above in _resolved(file).parents if above.exists())
        if not folder.is_dir():
            raise _not_writable(file, "Not a directory")
        if not os.access(file if special else folder, os.W_OK):
            raise _not_writable(file, "Permission denied")
    except OSError as error:
        raise _not_writable(file, error.strerror or str(error)) from None


def _not_writable(file: Path, why: str) -> FlipsError:
    return FlipsError(f"'{file}' cannot be written: {why}")
