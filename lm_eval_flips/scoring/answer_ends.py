"""Where an answer ends: at a token that ends texts, at a stop string of the task, or at the limit.

A model that writes several answers at once goes on with those that have met a stop string until all
have; the harness cuts their texts. The tokens behind that are nobody's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from lm_eval_flips.scoring.answers import End

Decode = Callable[[Sequence[int]], str]


def answer_end(
    ids: Sequence[int], *, ending: Container[int], stops: Sequence[str], decode: Decode
) -> tuple[int, End]:
    """How many tokens an answer has, with what ended it, and what that was.

    Args:
        ids: what was written, and whatever stands behind the answer.
        ending: the tokens that end a text.
        stops: the task's stop strings, of which an empty one stops nothing.
        decode: tokens -> their text.

    Example:
        >>> answer_end([5, 6, 2, 0, 0], ending={2}, stops=["."], decode=lambda ids: "ab"[:len(ids)])
        (3, <End.TOKEN: 0>)
        >>> answer_end([5, 6, 7], ending={2}, stops=["."], decode=lambda ids: "a.b"[:len(ids)])
        (2, <End.STRING: 1>)
    """
    whole = next((place + 1 for place, token in enumerate(ids) if token in ending), None)
    written = ids[:whole]
    length = _with_stop(written, [stop for stop in stops if stop], decode)
    if length is not None:
        return length, End.STRING
    return len(written), End.LIMIT if whole is None else End.TOKEN


def _with_stop(ids: Sequence[int], stops: Sequence[str], decode: Decode) -> int | None:
    """The fewest first tokens whose text holds a stop string; None where no text does."""

    def stopped(count: int) -> bool:
        text = decode(ids[:count])
        return any(stop in text for stop in stops)

    if not stops or not stopped(len(ids)):
        return None
    low, high = 0, len(ids)  # a text that holds a stop string holds it with more behind it
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if stopped(middle) else (middle, high)
    return high
