"""Which of several things can be told apart, in letters: a compact letter display.

Two things share a letter where, and only where, they are not told apart. Insert and absorb (Piepho
2004, J. Comput. Graph. Stat. 13, 456-466).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def alike(order: Sequence[int], different: Collection[tuple[int, int]]) -> list[tuple[int, ...]]:
    """The largest groups of things of which no two are told apart, each and all in order.

    Args:
        order: the things by number, the best first.
        different: pairs of things that are told apart, in either order.

    Example:
        >>> alike([0, 1, 2], {(0, 2)})
        [(0, 1), (1, 2)]
    """
    groups = [frozenset(order)] if order else []
    place = {thing: i for i, thing in enumerate(order)}
    for first, second in sorted(different, key=lambda pair: sorted(map(place.__getitem__, pair))):
        divided = []
        for group in groups:
            if first in group and second in group:
                divided += [group - {first}, group - {second}]
            else:
                divided.append(group)
        groups = _largest(divided)
    ordered = [tuple(sorted(group, key=place.__getitem__)) for group in groups]
    return sorted(ordered, key=lambda group: [place[thing] for thing in group])


def letters(order: Sequence[int], different: Collection[tuple[int, int]]) -> dict[int, str]:
    """The letters of each thing, one a group that it is in; the first gets "a".

    Args:
        order: the things by number, the best first.
        different: pairs of things that are told apart, in either order.

    Example:
        >>> letters([0, 1, 2], {(0, 2)})
        {0: 'a', 1: 'ab', 2: 'b'}
    """
    groups = alike(order, different)
    return {
        thing: "".join(_letter(i) for i, group in enumerate(groups) if thing in group)
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
