"""The model that is to be compressed: its folder, what it is, and the hashes of its files."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import RECORD

WEIGHTS = (".safetensors", ".bin", ".pth", ".gguf")
CONFIG = "config.json"
SPARE = 1.2  # of the source's weights that must be free, for the scratch files beside a model


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model in a local folder."""

    folder: Path
    config: dict[str, Any]

    @property
    def weight_files(self) -> list[Path]:
        """The files that hold its weights."""
        return sorted(file for file in self.folder.iterdir() if file.suffix in WEIGHTS)

    @property
    def bytes(self) -> int:
        """Of its weights."""
        return sum(file.stat().st_size for file in self.weight_files)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of its config and weights, by the names of the files."""
        found = {}
        for file in (self.folder / CONFIG, *self.weight_files):
            with file.open("rb") as content:
                found[file.name] = _digest(content)
        return found


def source_of(model: str) -> Source:
    """The folder of a model, local or of the hub's cache.

    Raises:
        FlipsError: there is none, it holds no weights, or they are compressed already.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = _of_hub(model)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        raise FlipsError(
            f"'{model}' has no {CONFIG} that can be read; give a folder that transformers loads"
        ) from None
    found = Source(folder=folder, config=config)
    if (folder / RECORD).exists() or config.get("quantization_config"):
        how = (config.get("quantization_config") or {}).get("quant_method", "lm-eval-flips")
        raise FlipsError(f"'{model}' is compressed already ({how}); give the model it was made of")
    if not found.weight_files:
        raise FlipsError(f"'{model}' holds no weights ({', '.join(WEIGHTS)})")
    return found


def refuse_full_disk(source: Source, output: Path, *, models: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        source: what is compressed; a pruned model takes as much as it.
        output: where to.
        models: that are to be made.

    Raises:
        FlipsError: too little is free.
    """
    there = output
    while not there.exists():
        there = there.parent
    free, asked = shutil.disk_usage(there).free, int(source.bytes * SPARE * models)
    if free < asked:
        raise FlipsError(
            f"'{output}' has {free / 1e9:.1f} GB free, and {models} models of "
            f"'{source.folder}' may take {asked / 1e9:.1f} GB; free some, make fewer at once, or "
            "choose another --output"
        )


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
