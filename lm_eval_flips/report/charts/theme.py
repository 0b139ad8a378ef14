"""How charts look: one theme, on light pages and dark ones, for every colour vision.

All colours have a contrast of at least 3 on white and on the dark page, so that a chart needs no
second set of them; only ink changes. Marks that are ink name a style (``REFERENCE``) or none.
"""

from __future__ import annotations

from typing import Any, Literal

Mode = Literal["light", "dark"]

LOSS, GAIN = "#d1495b", "#2f7fd1"
CORRECT, INCORRECT = "#5f7f95", "#c27c0e"
# Runs go round these, and round SHAPES, in the order of the comparison.
RUNS = ("#0f8f7a", "#c27c0e", "#8b5fd3", "#2c9cc4", "#d05fa8", "#75893a", "#96694c")
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-right")
REFERENCE = "reference"  # lines to compare with, and their labels
FAINT = "faint"

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_INK: dict[Mode, dict[str, str]] = {
    "light": {"text": "#1f2328", "quiet": "#59636e", "grid": "#e4e7eb", "rule": "#8b949e"},
    "dark": {"text": "#e6edf3", "quiet": "#9ba5b0", "grid": "#30363d", "rule": "#7d8590"},
}
# Pixels of a name beside an axis; fewer on a telephone. The page's width is unknown in a file.
NARROW = "containerSize()[0] < 560"
TELEPHONE = "on_a_telephone"  # the same as a parameter, for the expressions of labels


def vega_config(mode: Mode = "light") -> dict[str, Any]:
    """The ``config`` of a Vega-Lite specification, for a light or a dark page.

    Example:
        >>> vega_config("dark")["background"]
        'transparent'
    """
    ink = _INK[mode]
    return {
        "background": "transparent",
        "font": FONT,
        "padding": 4,
        "view": {"stroke": None, "continuousWidth": 640, "continuousHeight": 320},
        "title": {
            "anchor": "start",
            "color": ink["text"],
            "fontSize": 15,
            "fontWeight": 600,
            "subtitleColor": ink["quiet"],
            "subtitleFontSize": 12,
            "subtitlePadding": 5,
            "offset": 12,
        },
        "axis": _axis(ink),
        "axisY": {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": 0}
        | {"titleY": -12, "titleBaseline": "bottom", "titleLimit": 0},
        "header": {
            "labelColor": ink["text"],
            "labelFontSize": 11,
            "labelFontWeight": 400,
            "labelLimit": 150,
            "titleColor": ink["quiet"],
        },
        "legend": _legend(ink),
        "text": {"color": ink["text"], "fontSize": 11},
        "range": {"category": list(RUNS)},
        "style": {
            REFERENCE: {"color": ink["rule"], "strokeDash": [4, 3], "strokeWidth": 1},
            FAINT: {"color": ink["rule"], "opacity": 0.18},
            "ink": {"color": ink["text"], "strokeWidth": 1.5},
            "note": {"color": ink["quiet"], "fontSize": 11},
        },
    }


def drawn_config(mode: Mode = "light") -> dict[str, Any]:
    """The same for Vega itself, which can put one legend below the other, as Vega-Lite cannot say.

    Example:
        >>> drawn_config()["legend"]["layout"]["top"]["direction"]
        'vertical'
    """
    config = vega_config(mode)
    config["legend"]["layout"] = {"top": {"direction": "vertical", "margin": 4}}
    return config


def _axis(ink: dict[str, str]) -> dict[str, Any]:
    return {
        "labelColor": ink["quiet"],
        "labelFontSize": 11,
        "labelLimit": {"expr": f"{NARROW} ? 110 : 240"},
        "titleColor": ink["text"],
        "titleFontSize": 12,
        "titleFontWeight": 400,
        "titlePadding": 8,
        "gridColor": ink["grid"],
        "domainColor": ink["rule"],
        "tickColor": ink["rule"],
        "tickSize": 4,
        "labelOverlap": "greedy",
        "labelSeparation": 6,
    }


def _legend(ink: dict[str, str]) -> dict[str, Any]:
    return {
        "orient": "top",
        "direction": "horizontal",
        "columns": {"expr": f"{NARROW} ? 2 : 4"},
        "columnPadding": 16,
        "labelColor": ink["text"],
        "labelFontSize": 12,
        "labelLimit": {"expr": f"{NARROW} ? 130 : 240"},
        "title": None,
        "symbolSize": 90,
        "symbolOpacity": 1,
        "offset": 28,  # the axis has its title in between
    }
