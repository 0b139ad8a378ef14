"""A model card on disk: only the block between the marks is replaced."""

from __future__ import annotations

from pathlib import Path

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import write_whole


def renew(file: Path, block: str) -> None:
    """Put a block into a model card, which is made if it is not there.

    Raises:
        FlipsError: the card cannot be read or written, or its marks are not a pair.
    """
    from lm_eval_flips.report.files.model_card import with_block

    try:
        text = file.read_bytes().decode() if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise FlipsError(f"'{file}' cannot be read as text: {error}") from None
    try:
        renewed = with_block(text, block)
    except FlipsError as error:
        raise FlipsError(f"'{file}': {error}") from None
    write_whole(file, renewed.encode(errors="replace"))
