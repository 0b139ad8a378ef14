"""What came of a scheme: a model on disk, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lm_eval_flips.compression.maker import GGUF
from lm_eval_flips.compression.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedModel:
    """A compressed model on disk.

    ``kept``: it was there already; ``note`` says what is odd about that.
    """

    folder: Path
    record: Record
    kept: bool
    note: str | None = None

    @property
    def model(self) -> Path:
        """What model arguments name: the folder, or the GGUF file in it."""
        return next(self.folder.glob(f"*{GGUF}"), self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A scheme that could not be made, and why."""

    scheme: str
    reason: str
