"""``compression.json``: what a compressed model's folder says of itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lm_eval_flips.compression.proof import Proof
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import RECORD

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The texts that a maker looked at: a name for them, how many, and the hash of all."""

    name: str
    texts: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How a model was compressed, and the proof that it was.

    Args:
        scheme: its name.
        family: of the scheme.
        does: the scheme in words.
        bits: of a compressed weight, without scales; None where weights stay as they are.
        library: that made it.
        versions: of Python, torch, transformers and the library.
        source: the baseline's folder.
        source_sha256: of its config and weights, by the names of the files.
        asked_dtype: what it was asked to be made in; "auto" for the source's own.
        dtype: to load it in; None for its own.
        seed: of what was drawn.
        calibration: None where no texts were looked at.
        seconds: that making it took.
        proof: what it is, against the baseline.
    """

    scheme: str
    family: str
    does: str
    bits: float | None
    library: str
    versions: dict[str, str]
    source: str
    source_sha256: dict[str, str]
    asked_dtype: str
    dtype: str | None
    seed: int
    calibration: Calibration | None
    seconds: float
    proof: Proof

    def write(self, folder: Path) -> None:
        """Write it into the model's folder."""
        content = {"version": VERSION, **asdict(self)}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / RECORD).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> Record | None:
    """What a model's folder says of itself; None where it says nothing.

    Raises:
        FlipsError: it cannot be read.
    """
    file = folder / RECORD
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise FlipsError(f"'{file}' cannot be read: {error}") from None
    try:
        return _record(content)
    except (KeyError, TypeError, AttributeError):
        raise FlipsError(f"'{file}' is not what lm-eval-flips compress writes") from None


def _record(content: dict[str, Any]) -> Record:
    known = {field.name: content[field.name] for field in fields(Record)}
    calibration = known["calibration"]
    known["calibration"] = None if calibration is None else Calibration(**calibration)
    proof = {**known["proof"], "faults": tuple(known["proof"]["faults"])}
    return Record(**{**known, "proof": Proof(**proof)})
