"""A chart with its name, title and the sentence that says what to see in it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import altair as alt

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.report.charts.theme import NARROW, TELEPHONE, drawn_config, vega_config

Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart
FILE_WIDTH = 640  # pixels, where there is no page to fill


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedChart:
    """One picture of a comparison.

    ``chart`` is as wide as what holds it; ``narrow`` is what to show below 600 pixels where the
    same specification does not fit, None where it does.
    """

    slug: str
    title: str
    caption: str
    chart: Chart = field(repr=False)
    narrow: Chart | None = field(default=None, repr=False)

    def page_spec(self, *, narrow: bool = False) -> dict[str, Any]:
        """The Vega-Lite specification without title and theme, for a page that has its own.

        Give it ``vega_config("light")`` or ``vega_config("dark")`` as its ``config``.
        """
        chart = self.narrow if narrow and self.narrow is not None else self.chart
        spec: dict[str, Any] = chart.to_dict(validate=False)
        for key in ("config", "title"):
            spec.pop(key, None)
        return spec

    def file_spec(self, *, width: int = FILE_WIDTH) -> dict[str, Any]:
        """The whole specification on white, for a file."""
        spec: dict[str, Any] = copy.deepcopy(self.chart.to_dict(validate=False))
        spec["config"] = drawn_config("light") | {"background": "white", "padding": 12}
        if spec.get("width") == "container":
            spec["width"] = width
        return spec


def finished(
    chart: Chart, *, slug: str, title: str, caption: str, narrow: Chart | None = None
) -> NamedChart:
    """Name a chart, and give it its title, a description for screen readers and the theme."""
    return NamedChart(
        slug=slug,
        title=title,
        caption=caption,
        chart=_dressed(chart, title, caption),
        narrow=None if narrow is None else _dressed(narrow, title, caption),
    )


def _dressed(chart: Chart, title: str, caption: str) -> Chart:
    dressed = chart.properties(title=title, description=caption)
    if not isinstance(dressed, alt.FacetChart):
        # a label is drawn where the container's size is not known
        dressed = dressed.add_params(alt.param(name=TELEPHONE, expr=NARROW))
    dressed.config = vega_config("light")
    return dressed


def chart_of(named: NamedChart | None, *, needs: str) -> Chart:
    """The chart, or the reason why there is none.

    Raises:
        FlipsError: the comparison holds nothing to draw.
    """
    if named is None:
        raise FlipsError(f"nothing to draw: this chart needs {needs}")
    return named.chart
