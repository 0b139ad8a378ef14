"""Texts that were written for this project, which no benchmark holds: read to calibrate and prove.

A text is a paragraph; an empty line ends it.
"""

from __future__ import annotations

from importlib.resources import files


def texts_of(name: str) -> list[str]:
    """The texts of that name: "calibration" or "proof".

    Example:
        >>> len(texts_of("proof"))
        6
    """
    content = (files(__package__) / f"{name}.txt").read_text(encoding="utf-8")
    return [text.strip() for text in content.split("\n\n") if text.strip()]
