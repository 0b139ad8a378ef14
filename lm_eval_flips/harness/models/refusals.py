"""Requests that cannot be scored or measured, named as the harness's users know them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lm_eval.api.instance import Instance

from lm_eval_flips.errors import FlipsError, HarnessError, named


def names_of(asked: Sequence[Instance], places: Sequence[int]) -> str:
    """Task and document of some of the requests that the harness asked."""
    chosen = [asked[place] for place in places if place < len(asked)]
    return named(list(dict.fromkeys(f"{one.task_name} doc {one.doc_id}" for one in chosen)))


def refuse_lengths(lengths: Sequence[int], asked: Sequence[Instance], *, most: int) -> None:
    """Refuse continuations without a token, or longer than the model reads.

    Raises:
        HarnessError: naming their documents.
    """
    unfit = [place for place, size in enumerate(lengths) if not 0 < size <= most]
    if unfit:
        raise HarnessError(
            f"{len(unfit)} of {len(lengths)} continuations have no token, or more than "
            f"max_length={most} ({names_of(asked, unfit)}): they cannot be scored"
        )


def refuse_missing(
    places: Sequence[int],
    asked: Sequence[Instance],
    reference: Path,
    *,
    splits_otherwise: bool = False,
) -> None:
    """Refuse to measure requests that a baseline's reference does not hold.

    Args:
        places: which of those asked.
        asked: the harness's requests.
        reference: the reference's folder.
        splits_otherwise: the baseline's tokenizer splits some texts otherwise, which makes them
            other requests.

    Raises:
        FlipsError: naming their documents.
    """
    if places and splits_otherwise:
        raise FlipsError(
            f"{len(places)} of the {len(asked)} requests ({names_of(asked, places)}) are not in "
            f"the reference '{reference}', as the baseline's tokenizer splits them into other "
            "tokens (or other tasks, prompts or max_length were recorded): two tokenisations are "
            "two prompts; leave out reference, and compare choices"
        )
    if places:
        raise FlipsError(
            f"the reference '{reference}' lacks {len(places)} of the {len(asked)} requests "
            f"({names_of(asked, places)}): it was recorded of other tasks, prompts or max_length, "
            "or was interrupted; rerun the baseline with the same --tasks, --num_fewshot, --limit "
            "and --apply_chat_template"
        )
