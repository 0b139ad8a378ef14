"""What a recording is asked for, and of which model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation.model_files import files_fingerprint

PROBES = ("Hello world", "  12,345 € — naïve", "def f(x):\n\treturn x", "你好 世界")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the model arguments of flips-hf ask for; folders are runs, None where nothing is."""

    record: Path | None = None
    reference: Path | None = None
    distances: Path | None = None
    positions: str = "all"
    top: int | None = None

    @classmethod
    def of(
        cls,
        *,
        record: str | None,
        reference: str | None,
        distances: str | None,
        positions: str,
        top: int | None,
    ) -> Options:
        """What model arguments ask for, folders as they are given there."""
        folders = (
            None if given is None else Path(str(given)) for given in (record, reference, distances)
        )
        record_to, measure_from, distances_to = folders
        return cls(
            record=record_to,
            reference=measure_from,
            distances=distances_to,
            positions=positions,
            top=top,
        )

    def __post_init__(self) -> None:
        if self.positions not in ("all", "last"):
            raise FlipsError(f"positions={self.positions} is neither 'all' nor 'last'")
        if self.top is not None and self.top < 1:
            raise FlipsError(f"top={self.top} keeps no token; give at least 1")
        if self.distances is not None and self.reference is None:
            raise FlipsError(
                f"distances={self.distances} needs reference=RUN, the baseline to measure from"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """What tells one model from another, and one tokenizer from another.

    ``tokenizer`` is a hash of the vocabulary and of how it splits some strings, ``vocabulary`` of
    the vocabulary alone.
    """

    name: str
    revision: str
    dtype: str
    tokenizer: str
    entries: int
    max_length: int
    files: str = ""
    vocabulary: str = ""

    @classmethod
    def of(cls, lm: Any, *, name: str) -> ModelIdentity:
        """Which model one of the harness's `hf` models holds."""
        return cls(
            name=name,
            revision=str(lm.revision),
            dtype=str(lm.model.dtype).removeprefix("torch."),
            tokenizer=tokenizer_fingerprint(lm.tokenizer),
            entries=len(lm.tokenizer),
            max_length=int(lm.max_length),
            files=files_fingerprint(name),
            vocabulary=vocabulary_fingerprint(lm.tokenizer),
        )


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of a tokenizer's vocabulary and of how it splits some strings."""
    encoded = [tokenizer.encode(probe, add_special_tokens=False) for probe in PROBES]
    content = json.dumps([sorted(tokenizer.get_vocab().items()), encoded])
    return hashlib.sha256(content.encode()).hexdigest()


def vocabulary_fingerprint(tokenizer: Any) -> str:
    """A hash of a tokenizer's vocabulary alone, however it splits strings into its entries."""
    content = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(content.encode()).hexdigest()
