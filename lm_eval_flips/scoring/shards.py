"""A folder of tensors that only grows: safetensors shards and a JSON manifest with their checksums.

A shard is written beside its place and moved there whole; then the manifest, which names it, is
replaced in one step. What was interrupted is therefore a shorter folder, never a broken one.
Loading executes nothing.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from lm_eval_flips.errors import FlipsError

MANIFEST = "manifest.json"
FORMAT = 1
SHARD_BYTES = 64_000_000
SHARD_SECONDS = 60.0  # no more work than this is lost when a run is interrupted


class File(msgspec.Struct, frozen=True):
    """A file of the folder, as it was written."""

    name: str
    bytes: int
    sha256: str


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What all shards of a folder have in common; subclasses say what that is."""


H = TypeVar("H", bound=Header)


class Manifest(msgspec.Struct, Generic[H], kw_only=True):
    """The folder's table of contents."""

    format: int
    header: H
    shards: list[File]


def tensor_file(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> File:
    """Write tensors to a file that appears whole or not at all.

    Raises:
        FlipsError: it cannot be written, as on a full disk.
    """
    file, content = tensor_content(name, tensors)
    write_file(folder, file, content)
    return file


def tensor_content(name: str, tensors: Mapping[str, Tensor]) -> tuple[File, bytes]:
    """Tensors as a file that is yet to be written, and what it will hold."""
    content = save_tensors({key: value.contiguous().cpu() for key, value in tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    return File(name=name, bytes=len(content), sha256=digest), content


def write_file(folder: Path, file: File, content: bytes) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        FlipsError: it cannot be written, as on a full disk.
    """
    _replace(folder / file.name, content)


def read_tensor_file(folder: Path, file: File) -> dict[str, Tensor]:
    """Read a file and hold it against its checksum.

    Raises:
        FlipsError: it is missing, cut off, or was changed.
    """
    path = folder / file.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FlipsError(f"'{path}' cannot be read: {error.strerror}; record it again") from None
    if len(content) != file.bytes or hashlib.sha256(content).hexdigest() != file.sha256:
        raise FlipsError(f"'{path}' is not what was written: cut off or changed; record it again")
    try:
        tensors: dict[str, Tensor] = load_tensors(content)
    except SafetensorError as error:
        raise FlipsError(f"'{path}' holds no tensors: {error}; record it again") from None
    return tensors


def read_manifest(folder: Path, header: type[H]) -> Manifest[H]:
    """The table of contents of a folder.

    Raises:
        FlipsError: there is none, or one of another kind or version.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        version = msgspec.json.decode(content, type=_Version).format
    except FileNotFoundError:
        raise FlipsError(f"'{folder}' has no {MANIFEST}; record it first") from None
    except (OSError, msgspec.DecodeError) as error:
        raise FlipsError(f"'{path}' cannot be read: {error}") from None
    if version != FORMAT:
        raise FlipsError(
            f"'{path}' has format {version}, this version of lm-eval-flips reads {FORMAT}; record "
            "it again"
        )
    try:
        return msgspec.json.decode(content, type=Manifest[header])  # type: ignore[valid-type]
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise FlipsError(f"'{path}' is no manifest of this kind: {error}") from None


class _Version(msgspec.Struct):
    format: int


class ShardWriter(Generic[H]):
    """Appends tensors to a folder, which it makes or continues.

    Args:
        folder: the folder.
        header: what all its shards have in common.
        writes: False where another process, which has all the same, writes it.

    Raises:
        FlipsError: the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path, header: H, *, writes: bool = True) -> None:
        self.folder, self._writes = folder, writes
        if (folder / MANIFEST).exists():
            self.manifest = read_manifest(folder, type(header))
            if (found := difference(self.manifest.header, header)) is not None:
                raise FlipsError(
                    f"'{folder}' was begun with {found}; give another folder, or remove this one"
                )
        else:
            self.manifest = Manifest(format=FORMAT, header=header, shards=[])
            self._write_manifest([])
        self._pending: dict[str, list[Tensor]] = {}
        self._bytes = 0
        self._since = time.monotonic()

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Append tensors, each along its first dimension; ``flush_if_due`` at a good moment."""
        for name, values in tensors.items():
            self._pending.setdefault(name, []).append(values.cpu())
            self._bytes += values.nbytes

    def flush_if_due(self) -> bool:
        """Write a shard if enough is waiting; whether it was."""
        due = self._bytes >= SHARD_BYTES or time.monotonic() - self._since >= SHARD_SECONDS
        if due:
            self.flush()
        return due

    def flush(self) -> None:
        """Write what is waiting as a shard.

        Raises:
            FlipsError: it cannot be written; what was written before is kept.
        """
        if not self._pending:
            return
        if self._writes:
            name = f"{len(self.manifest.shards):05}.safetensors"
            whole = {name: torch.cat(parts) for name, parts in self._pending.items()}
            written = tensor_file(self.folder, name, whole)
            self._write_manifest([*self.manifest.shards, written])
        self._pending, self._bytes, self._since = {}, 0, time.monotonic()

    def _write_manifest(self, shards: list[File]) -> None:
        if not self._writes:
            return
        manifest = msgspec.structs.replace(self.manifest, shards=shards)
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        _replace(self.folder / MANIFEST, content)
        self.manifest = manifest


def difference(old: Header, new: Header) -> str | None:
    """The first field in which two headers differ, in words; None if they are the same."""
    before: dict[str, Any] = msgspec.to_builtins(old)
    after: dict[str, Any] = msgspec.to_builtins(new)
    for name in before:
        if before[name] != after.get(name):
            return f"{name} {before[name]}, not {after.get(name)}"
    return None


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise FlipsError(
            f"'{path}' cannot be written: {error.strerror}; what was finished is kept: make room "
            "and rerun to go on"
        ) from None
