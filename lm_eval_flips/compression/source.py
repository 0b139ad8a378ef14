"""The model that is to be compressed: its folder or GGUF file, what it is, its files' hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_flips.compression.maker import GGUF
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import RECORD

WEIGHTS = (".safetensors", ".bin", ".pth", ".gguf")
CONFIG = "config.json"
MAGIC = b"GGUF"
CONVERTER = "llama.cpp's convert_hf_to_gguf.py --outtype f16 makes one of a model"
SPARE = 1.2  # of the source's weights that must be free, for the scratch files beside a model
WIDTHS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}  # bytes of a weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model in a local folder, or a GGUF file, whose ``config`` is empty."""

    place: Path
    config: dict[str, Any]

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file."""
        return self.place.suffix == GGUF

    @property
    def name(self) -> str:
        """Of its folder, or of its file without what says that it is one."""
        place = self.place.resolve()
        return place.stem if self.is_gguf else place.name

    @property
    def weight_files(self) -> list[Path]:
        """The files that hold its weights."""
        return weight_files(self.place)

    @property
    def bytes(self) -> int:
        """Of its weights."""
        return sum(file.stat().st_size for file in self.weight_files)

    def bytes_in(self, dtype: str) -> int:
        """Of its weights in a dtype; as they are where that is "auto", narrower or not known."""
        own = WIDTHS.get(str(self.config.get("dtype") or self.config.get("torch_dtype")))
        asked = WIDTHS.get(dtype)
        return self.bytes if own is None or asked is None else self.bytes * max(own, asked) // own

    def hashes(self) -> dict[str, str]:
        """SHA-256 of its config and weights, by the names of the files."""
        found = {}
        own = [] if self.is_gguf else [self.place / CONFIG]
        for file in (*own, *self.weight_files):
            with file.open("rb") as content:
                found[file.name] = _digest(content)
        return found


def weight_files(place: Path) -> list[Path]:
    """The files that hold the weights of a folder's model, or the one GGUF file."""
    if place.suffix == GGUF:
        return [place]
    return sorted(file for file in place.iterdir() if file.suffix in WEIGHTS)


def source_of(model: str) -> Source:
    """The folder of a model, local or of the hub's cache; or a GGUF file.

    Raises:
        FlipsError: there is none, it holds no weights, or they are compressed already.
    """
    folder = Path(model)
    if folder.suffix == GGUF and not folder.is_dir():
        return _gguf_source(folder)
    if not folder.is_dir():
        folder = _of_hub(model)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        raise FlipsError(
            f"'{model}' has no {CONFIG} that can be read; give a folder that transformers loads"
        ) from None
    found = Source(place=folder, config=config)
    if (folder / RECORD).exists() or config.get("quantization_config"):
        how = (config.get("quantization_config") or {}).get("quant_method", "lm-eval-flips")
        raise FlipsError(f"'{model}' is compressed already ({how}); give the model it was made of")
    if not found.weight_files:
        raise FlipsError(f"'{model}' holds no weights ({', '.join(WEIGHTS)})")
    return found


def _gguf_source(file: Path) -> Source:
    try:
        with file.open("rb") as content:
            magic = content.read(len(MAGIC))
    except OSError as error:
        raise FlipsError(f"'{file}' cannot be read: {error.strerror or error}") from None
    if magic != MAGIC:
        raise FlipsError(f"'{file}' is no GGUF file; {CONVERTER}")
    return Source(place=file, config={})


def refuse_full_disk(source: Source, output: Path, *, dtypes: Sequence[str]) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        source: what is compressed; a pruned model takes as much as it.
        output: where to.
        dtypes: of the models that are to be made, each made in one.

    Raises:
        FlipsError: too little is free.
    """
    there = output
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    asked = int(SPARE * sum(map(source.bytes_in, dtypes)))
    if free < asked:
        models = "a model" if len(dtypes) == 1 else f"{len(dtypes)} models"
        raise FlipsError(
            f"'{output}' has {_size(free)} free, and {models} of '{source.place}' may take "
            f"{_size(asked)}; free some, make fewer at once, or choose another --output"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _of_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError):
        raise FlipsError(
            f"'{model}' is no folder, and no model of the hub that can be had here"
        ) from None


def _digest(content: Any) -> str:
    hashed = hashlib.sha256()
    while chunk := content.read(1 << 24):
        hashed.update(chunk)
    return hashed.hexdigest()
