"""Which of several things can be told apart, in letters: a compact letter display.

Two things share a letter where, and only where, they are not told apart. Insert and absorb (Piepho
2004, J. Comput. Graph. Stat. 13, 456-466).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def letters(order: Sequence[int], different: Collection[tuple[int, int]]) -> dict[int, str]:
    """The letters of each thing.

    Args:
        order: the things by number, the best first; the first gets "a".
        different: pairs of things that are told apart, in either order.

    Example:
        >>> letters([0, 1, 2], {(0, 2)})
        {0: 'a', 1: 'ab', 2: 'b'}
    """
    columns = [frozenset(order)]
    place = {thing: i for i, thing in enumerate(order)}
    for first, second in sorted(different, key=lambda pair: sorted(map(place.__getitem__, pair))):
        divided = []
        for column in columns:
            if first in column and second in column:
                divided += [column - {first}, column - {second}]
            else:
                divided.append(column)
        columns = _largest(divided)
    columns.sort(key=lambda column: sorted(place[thing] for thing in column))
    return {
        thing: "".join(_letter(i) for i, column in enumerate(columns) if thing in column)
        for thing in order
    }


def _largest(columns: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """Those that no other one holds."""
    different = list(dict.fromkeys(columns))
    return [own for own in different if not any(own < other for other in different)]


def _letter(number: int) -> str:
    """A to z, then a1, b1, ..."""
    again, place = divmod(number, len(ALPHABET))
    return ALPHABET[place] + (str(again) if again else "")
