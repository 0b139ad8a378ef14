"""GGUF files on disk: which file to load, and what is wrong with one before llama.cpp sees it."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from lm_eval_flips.errors import FlipsError, named

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # of the format; 1 is older than llama.cpp reads
PART = re.compile(r"(?P<name>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf")


def model_file(given: str | Path) -> Path:
    """The file to load of what a user gave: a file, any part of a split one, or their folder.

    Raises:
        FlipsError: there is no such file, it is no GGUF file, or parts of it are missing.
    """
    path = Path(given)
    if path.is_dir():
        path = _only_file(path)
    if not path.is_file():
        raise FlipsError(f"'{path}' is no file")
    parts = parts_of(path)
    if missing := [part.name for part in parts if not part.is_file()]:
        raise FlipsError(
            f"'{path}' is one of {len(parts)} parts, of which {named(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing"
        )
    for part in parts:
        _refuse_other_formats(part)
    return parts[0]


def parts_of(path: Path) -> list[Path]:
    """All parts of the file that a part belongs to, in order; the file itself if it is whole.

    Example:
        >>> [part.name for part in parts_of(Path("model-00002-of-00002.gguf"))]
        ['model-00001-of-00002.gguf', 'model-00002-of-00002.gguf']
    """
    match = PART.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["parts"])
    return [
        path.with_name(f"{match['name']}-{number:05d}-of-{count:05d}.gguf")
        for number in range(1, count + 1)
    ]


def model_files(folder: Path) -> list[Path]:
    """The models in a folder, of a split one the first part."""
    files = sorted(folder.glob("*.gguf"))
    return list(dict.fromkeys(parts_of(file)[0] for file in files))


def _only_file(folder: Path) -> Path:
    files = model_files(folder)
    if len(files) != 1:
        names = named([file.name for file in files]) if files else "none"
        raise FlipsError(f"'{folder}' holds {len(files)} GGUF models ({names}); name one")
    return files[0]


def _refuse_other_formats(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] != MAGIC or len(head) < 8:
        raise FlipsError(f"'{path}' is no GGUF file: it begins with {head[:4]!r}, not {MAGIC!r}")
    (version,) = struct.unpack("<I", head[4:])
    if version not in VERSIONS:
        raise FlipsError(
            f"'{path}' is of version {version} of the GGUF format; versions "
            f"{', '.join(map(str, VERSIONS))} can be read"
        )
