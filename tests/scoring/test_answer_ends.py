"""Where answers end, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lm_eval_flips.scoring.answer_ends import answer_end
from lm_eval_flips.scoring.answers import End

LETTERS = dict(enumerate("abc.\n", start=10))


def decode(ids: Sequence[int]) -> str:
    """Letters; special tokens have no text."""
    return "".join(LETTERS.get(token, "") for token in ids)


@pytest.mark.parametrize(
    ("ids", "stops", "expected"),
    [
        ([10, 11, 2, 0, 0], ["\n"], (3, End.TOKEN)),  # padded behind its end
        ([2, 0], ["\n"], (1, End.TOKEN)),  # an empty answer
        ([10, 14, 14, 11], ["\n\n"], (3, End.STRING)),  # a stop string of two tokens
        ([14, 14, 2], ["\n\n"], (2, End.STRING)),  # before the token that would have ended it
        ([10, 13, 11, 14], ["\n", "."], (2, End.STRING)),  # the first of several
        ([10, 11, 12], ["\n"], (3, End.LIMIT)),
        ([10, 14], [""], (2, End.LIMIT)),  # an empty stop string stops nothing
        ([10, 14], [], (2, End.LIMIT)),
    ],
)
def test_an_answer_ends_where_the_harness_cuts_it(
    ids: list[int], stops: list[str], expected: tuple[int, End]
) -> None:
    """With what ended it, and nothing behind."""
    assert answer_end(ids, ending={2}, stops=stops, decode=decode) == expected


def test_few_texts_are_made_of_a_long_answer() -> None:
    """Halving: a thousand tokens take about ten texts, not a thousand."""
    made = 0

    def counted(ids: Sequence[int]) -> str:
        nonlocal made
        made += 1
        return decode(ids)

    ids = [10] * 700 + [14] + [10] * 300
    assert answer_end(ids, ending={2}, stops=["\n"], decode=counted) == (701, End.STRING)
    assert made <= 12
