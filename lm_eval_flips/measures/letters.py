"""Which of several things can be told apart, in letters: a compact letter display.

Two things share a letter where, and only where, they are not told apart (Piepho 2004, J. Comput.
Graph. Stat. 13, 456-466).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

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
    place = {thing: i for i, thing in enumerate(order)}
    # neighbours of each place as the bits of a number: those that it is not told apart from
    everyone = (1 << len(order)) - 1
    near = [everyone ^ (1 << i) for i in range(len(order))]
    for first, second in different:
        one, other = place[first], place[second]
        near[one] &= ~(1 << other)
        near[other] &= ~(1 << one)
    groups = sorted(_bits(group) for group in _largest(near, everyone)) if order else []
    return [tuple(order[i] for i in group) for group in groups]


def letters(groups: Sequence[Sequence[int]]) -> dict[int, str]:
    """The letters of each thing, one a group of ``alike`` that it is in; the first gets "a".

    Example:
        >>> letters([(0, 1), (1, 2)])
        {0: 'a', 1: 'ab', 2: 'b'}
    """
    of_thing: dict[int, list[str]] = {}
    for number, group in enumerate(groups):
        for thing in group:
            of_thing.setdefault(thing, []).append(_letter(number))
    return {thing: "".join(own) for thing, own in of_thing.items()}


def _largest(near: Sequence[int], everyone: int) -> Iterator[int]:
    """The largest groups (maximal cliques: Bron and Kerbosch 1973, Commun. ACM 16; with pivots)."""
    waiting = [(0, everyone, 0)]
    while waiting:
        group, candidates, done = waiting.pop()
        if not candidates and not done:
            yield group
            continue
        pivot = max(_bits(candidates | done), key=lambda i: (candidates & near[i]).bit_count())
        for i in _bits(candidates & ~near[pivot]):
            own = 1 << i
            waiting.append((group | own, candidates & near[i], done & near[i]))
            candidates, done = candidates ^ own, done | own


def _bits(number: int) -> tuple[int, ...]:
    """The places of a number's bits, the lowest first."""
    places = []
    while number:
        lowest = number & -number
        places.append(lowest.bit_length() - 1)
        number ^= lowest
    return tuple(places)


def _letter(number: int) -> str:
    """A to z, then a1, b1, ..."""
    again, place = divmod(number, len(ALPHABET))
    return ALPHABET[place] + (str(again) if again else "")
