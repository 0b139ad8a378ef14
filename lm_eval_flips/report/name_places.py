"""Where names stand beside marks: over no mark and no other name; those without room are left out.

In the units of a picture of known size; y goes downwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["right", "left", "above", "below"]
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom
GAP = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A picture: its edges, half a mark's width, a letter's width and a line's height."""

    edges: Box
    mark: float
    letter: float
    line: float


def name_places(
    points: Sequence[Point], names: Sequence[str], *, room: Room, sides: Sequence[Side]
) -> dict[int, tuple[Side, Box]]:
    """The side and the box of each name that has room, by its number; the first go first.

    Args:
        points: the middle of each mark.
        names: beside them.
        room: the picture.
        sides: where a name may stand, the best first.

    Example:
        >>> room = Room(edges=(0.0, 0.0, 100.0, 50.0), mark=4.0, letter=6.0, line=12.0)
        >>> list(name_places([(10.0, 20.0), (14.0, 20.0)], ["a", "b"], room=room, sides=["right"]))
        [1]
    """
    taken: list[Box] = [
        (x - room.mark, y - room.mark, x + room.mark, y + room.mark) for x, y in points
    ]
    found: dict[int, tuple[Side, Box]] = {}
    for number, (point, name) in enumerate(zip(points, names, strict=True)):
        for side, box in _boxes(point, len(name) * room.letter, room, sides):
            if _inside(box, room.edges) and not any(_over(box, other) for other in taken):
                taken.append(box)
                found[number] = side, box
                break
    return found


def _boxes(
    at: Point, width: float, room: Room, sides: Sequence[Side]
) -> Iterator[tuple[Side, Box]]:
    x, y = at
    away, half = room.mark + GAP, room.line / 2
    boxes: dict[Side, Box] = {
        "right": (x + away, y - half, x + away + width, y + half),
        "left": (x - away - width, y - half, x - away, y + half),
        "above": (x - width / 2, y - away - room.line, x + width / 2, y - away),
        "below": (x - width / 2, y + away, x + width / 2, y + away + room.line),
    }
    yield from ((side, boxes[side]) for side in sides)


def _inside(box: Box, edges: Box) -> bool:
    return box[0] >= edges[0] and box[1] >= edges[1] and box[2] <= edges[2] and box[3] <= edges[3]


def _over(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
