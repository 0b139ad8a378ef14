"""A logged answer's tokens, told from its text: proven where they make the same text again.

A log holds texts. The model that wrote them read the prompt's tokens and wrote its own behind them;
a tokenizer may split the same text otherwise, above all across the border of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

LOST = (
    "\N{REPLACEMENT CHARACTER}"  # what a decoder writes for part of a character: its bytes are gone
)
Encode = Callable[[str], list[int]]
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retokenised:
    """An answer's tokens; ``merges`` says that the tokenizer would join its first to the prompt."""

    ids: list[int]
    merges: bool


def retokenised(
    context: str, prompt: Sequence[int], text: str, *, encode: Encode, decode: Decode
) -> Retokenised | None:
    """The tokens behind a prompt that make an answer's text; None where none do.

    Args:
        context: the prompt's text.
        prompt: its tokens, as the model read them.
        text: the answer's.
        encode: text -> tokens, without any that the text does not hold.
        decode: tokens -> text.

    Example:
        >>> pairs = {"ab": 1, "a": 2, "b": 3}
        >>> encode = lambda text: [1] if text == "ab" else [pairs[one] for one in text]
        >>> decode = lambda ids: "".join({1: "ab", 2: "a", 3: "b"}[one] for one in ids)
        >>> retokenised("a", [2], "b", encode=encode, decode=decode)
        Retokenised(ids=[3], merges=True)
    """
    if LOST in text:
        return None
    whole = encode(context + text)
    before = encode(context)
    kept = whole[: len(before)] == before
    candidates = [whole[len(before) :]] if kept else []
    own = encode(text)
    shown = decode(prompt)
    for ids in (*candidates, own):
        if ids and decode([*prompt, *ids]) == shown + text:
            return Retokenised(ids=ids, merges=not kept)
    return None
