"""What a page and a file get of a chart."""

from __future__ import annotations

from lm_eval_flips import Comparison
from lm_eval_flips.report.charts import charts_of, plot_flips, vega_config


def test_a_page_gets_no_title_and_no_theme(single: Comparison) -> None:
    """It has its own heading and mode; the caption stays as the description."""
    named = charts_of(single)["flips-score-change"]
    spec = named.page_spec()
    assert "title" not in spec
    assert "config" not in spec
    assert spec["width"] == "container"
    assert spec["description"] == named.caption


def test_a_file_is_whole_and_white(single: Comparison) -> None:
    """Title, theme, a background and a width in pixels; the chart itself stays as it is."""
    named = charts_of(single)["losses-gains"]
    spec = named.file_spec(width=500)
    assert (spec["title"], spec["width"]) == (named.title, 500)
    assert spec["config"]["background"] == "white"
    assert named.chart.to_dict()["width"] == "container"


def test_a_notebook_gets_a_themed_chart_with_its_title(single: Comparison) -> None:
    """plot_flips is what charts_of holds."""
    chart = plot_flips(single).to_dict()
    assert chart == charts_of(single)["flips-score-change"].chart.to_dict()
    assert chart["title"] == "Flips against score change"
    assert chart["config"] == vega_config("light")


def test_only_small_multiples_need_a_narrow_chart(several: Comparison) -> None:
    """The same specification fits a telephone elsewhere."""
    found = charts_of(several)
    assert [slug for slug, named in found.items() if named.narrow is not None] == ["tasks"]
    named = found["tasks"]
    assert named.page_spec(narrow=True)["columns"] < named.page_spec()["columns"]
    flips = found["flips-score-change"]
    assert flips.page_spec(narrow=True) == flips.page_spec()
