"""Bars are as long as their values, in the places of their tasks."""

from __future__ import annotations

import re
from math import nan

import pytest

from lm_eval_flips.report.board.sparkline import HEIGHT, bars


def drawn(svg: str, name: str) -> list[tuple[float, float, float]]:
    """Place, start and end of the bars of one kind."""
    found = re.search(rf'class="{name}" d="([^"]*)"', svg)
    bars = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)", found[1] if found else "")
    return [(float(x), float(start), float(end)) for x, start, end in bars]


def test_bars_go_up_and_down_from_the_middle() -> None:
    """The largest fills its half; nothing is drawn for 0; what is not known is no bar."""
    svg = bars([0.02, -0.04, 0.0, nan, 0.04], largest=0.04, signed=True, label="x")
    middle = HEIGHT / 2
    assert drawn(svg, "up") == [(0, middle, middle / 2), (16, middle, 0)]
    assert drawn(svg, "down") == [(4, middle, HEIGHT)]
    assert "M12 9v-1" in svg


def test_bars_of_one_sign_stand_on_the_bottom() -> None:
    """Half the largest is half as high."""
    svg = bars([0.5, 1.0], largest=1.0, signed=False, label="x")
    assert [start - end for _, start, end in drawn(svg, "up")] == [8.5, 17.0]


@pytest.mark.parametrize("count", [1, 35, 57, 300])
def test_many_tasks_are_no_wider(count: int) -> None:
    """Bars become thinner."""
    svg = bars([0.1] * count, largest=0.1, signed=True, label="x")
    width = float(re.findall(r' width="([\d.]+)"', svg)[0])
    assert width <= 140
    assert len(drawn(svg, "up")) == count


def test_no_change_at_all_is_a_line() -> None:
    """Nothing to scale by."""
    svg = bars([0.0, 0.0], largest=0.0, signed=True, label="x")
    assert not drawn(svg, "up")
    assert 'class="zero"' in svg


def test_a_label_is_text() -> None:
    """Tasks' names are not ours."""
    assert "<title>&lt;b&gt;</title>" in bars([1.0], largest=1.0, signed=True, label="<b>")
