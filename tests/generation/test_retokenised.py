"""Tokens told from texts: where they are proven, and where they are not."""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval_flips.generation.retokenised import LOST, Retokenised, retokenised

PIECES = ("a", "b", "ab", " ", "c ", "c", LOST)


def encode(text: str) -> list[int]:
    """The longest piece first; what is no piece is left out, as some tokenizers do."""
    ids = []
    while text:
        piece = max((own for own in PIECES if text.startswith(own)), key=len, default=None)
        if piece is not None:
            ids.append(PIECES.index(piece))
        text = text[len(piece or "x") :]
    return ids


def decode(ids: Sequence[int]) -> str:
    """The pieces, one after the other."""
    return "".join(PIECES[token] for token in ids)


def told(context: str, text: str) -> Retokenised | None:
    """An answer's tokens behind a prompt."""
    return retokenised(context, encode(context), text, encode=encode, decode=decode)


def test_tokens_that_make_the_text_are_taken() -> None:
    """As they stand behind the prompt."""
    assert told("b ", "abc") == Retokenised(ids=[2, 5], merges=False)


def test_a_border_within_a_token_is_said() -> None:
    """The model read the prompt's last token before it wrote: it is not joined to the answer's."""
    assert told("a", "b") == Retokenised(ids=[1], merges=True)
    assert told("c", " a") == Retokenised(ids=[3, 0], merges=True)


def test_a_text_that_its_tokens_do_not_make_has_none() -> None:
    """A character without a token; one that was lost before; no text."""
    assert told("a", "b?") is None
    assert told("a", f"b{LOST}") is None
    assert told("a", "") is None
