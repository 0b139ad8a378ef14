"""The texts that a maker looks at: our own, or a file of the user's, in a drawn order."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

from lm_eval_flips.compression.record import Calibration
from lm_eval_flips.compression.texts import texts_of
from lm_eval_flips.errors import FlipsError

BUILT_IN = "lm-eval-flips"
PARAGRAPHS = 2  # of ours in one text, which is then about 170 tokens long


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Texts to calibrate with, and what they are called."""

    name: str
    texts: tuple[str, ...]

    @property
    def identity(self) -> Calibration:
        """Their name, number and hash."""
        content = json.dumps(self.texts, ensure_ascii=False).encode()
        return Calibration(
            name=self.name, texts=len(self.texts), sha256=hashlib.sha256(content).hexdigest()
        )


def calibration_texts(file: Path | None = None, *, seed: int = 0) -> Texts:
    """The texts in the order that the seed draws.

    Args:
        file: a text a line, as JSON with a field "text" where its name ends in .jsonl; by default
            the texts that come with this package, which no benchmark holds.
        seed: of the order.

    Raises:
        FlipsError: the file cannot be read, or holds no text.

    Example:
        >>> calibration_texts(seed=1).name
        'lm-eval-flips'
    """
    drawn = random.Random(seed)  # noqa: S311  (no secret depends on it)
    if file is None:
        paragraphs = texts_of("calibration")
        drawn.shuffle(paragraphs)
        pairs = range(0, len(paragraphs), PARAGRAPHS)
        texts = ["\n\n".join(paragraphs[i : i + PARAGRAPHS]) for i in pairs]
        return Texts(name=BUILT_IN, texts=tuple(texts))
    texts = _lines(file)
    if not texts:
        raise FlipsError(f"'{file}' holds no text to calibrate with; give a text a line")
    drawn.shuffle(texts)
    return Texts(name=file.name, texts=tuple(texts))


def _lines(file: Path) -> list[str]:
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        if file.suffix == ".jsonl":
            lines = [str(json.loads(line)["text"]) for line in lines]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise FlipsError(f"the calibration texts '{file}' cannot be read: {error}") from None
    return lines
