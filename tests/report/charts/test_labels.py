"""Labels beside an axis stay apart in the picture, whatever the names are."""

from __future__ import annotations

import re

import altair as alt
import vl_convert

from lm_eval_flips.report.charts.labels import axis_label
from lm_eval_flips.report.charts.marks import layered
from lm_eval_flips.report.charts.named_chart import finished

NAMES = [
    f"arc_challenge_multilingual_german_2024, gemma-3-27b-it-{scheme}-w4a16-g128"
    for scheme in ("awq", "gptq", "rtn")
]
NAMES += ["it's <b>", "arc_easy"]


def labels(names: list[str], expression: str | alt.UndefinedType) -> list[str]:
    """The labels of an axis of these names as they are drawn, 240 pixels of room each."""
    axis = alt.Axis(title=None, labelExpr=expression, labelLimit=240)
    chart = alt.Chart(alt.InlineData(values=[{"name": name, "x": 1} for name in names]))
    drawn = chart.mark_bar().encode(x="x:Q", y=alt.Y("name:N", sort=names, axis=axis))
    named = finished(layered(drawn), slug="names", title="Names", caption="Names.")
    svg = vl_convert.vegalite_to_svg(named.file_spec())
    axes = svg[svg.index("role-axis-label") :]
    return [text for text in re.findall(r">([^<>]+)</text>", axes) if "arc" in text or "it" in text]


def test_long_labels_stay_apart() -> None:
    """Three alike for forty characters, and what would be code in a careless expression."""
    found = labels(NAMES, axis_label(NAMES))
    assert len(set(found)) == len(found)
    assert sum("arc" in text for text in found) == 4
    assert "it's &lt;b&gt;" in found


def test_the_check_can_fail() -> None:
    """Control: cut by Vega at their ends, the three are one."""
    found = labels(NAMES, alt.Undefined)
    assert len({text for text in found if "arc_c" in text}) == 1


def test_labels_with_room_are_left_alone() -> None:
    """No expression where there is nothing to cut."""
    assert axis_label(["arc_easy", "boolq"]) is alt.Undefined
