"""Names beside marks lie over nothing: held against every pair of boxes."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_flips.report.name_places import Box, Room, Side, name_places

ROOM = Room(edges=(0.0, 0.0, 400.0, 300.0), mark=5.0, letter=7.0, line=12.0)
SIDES: tuple[Side, ...] = ("right", "left", "above", "below")


def apart(one: Box, other: Box) -> bool:
    """Whether two boxes share no inner point."""
    return bool(
        one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    )


@pytest.mark.parametrize("seed", range(10))
def test_no_name_lies_over_a_mark_or_a_name_or_an_edge(seed: int) -> None:
    """Twenty marks, in a corner even; some names are left out, most are not."""
    generator = np.random.default_rng(seed)
    points = [
        (float(a), float(b)) for a, b in generator.random((20, 2)) * (400, 300 if seed % 2 else 60)
    ]
    names = [f"scheme-{i}" for i in range(20)]
    found = name_places(points, names, room=ROOM, sides=SIDES)
    assert 4 < len(found) <= 20
    boxes = [box for _, box in found.values()]
    for place, box in enumerate(boxes):
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= 400
        assert box[3] <= 300
        assert all(apart(box, other) for other in boxes[:place])
        assert all(apart(box, (x - 5, y - 5, x + 5, y + 5)) for x, y in points)


def test_the_check_can_fail() -> None:
    """Control: two boxes that share a point are not apart."""
    assert not apart((0.0, 0.0, 10.0, 10.0), (9.0, 9.0, 20.0, 20.0))


def test_the_first_side_with_room_is_taken() -> None:
    """To the right; at the right edge to the left; between two marks above."""
    (right,) = name_places([(50.0, 50.0)], ["abc"], room=ROOM, sides=SIDES).values()
    assert right == ("right", (58.0, 44.0, 79.0, 56.0))
    (left,) = name_places([(390.0, 50.0)], ["abc"], room=ROOM, sides=SIDES).values()
    assert left[0] == "left"
    three = name_places(
        [(200.0, 50.0), (180.0, 50.0), (220.0, 50.0)], ["abc", "b", "c"], room=ROOM, sides=SIDES
    )
    assert three[0][0] == "above"
    assert 0 not in name_places(
        [(200.0, 50.0), (180.0, 50.0), (220.0, 50.0)], ["abc", "b", "c"], room=ROOM, sides=SIDES[:2]
    )
