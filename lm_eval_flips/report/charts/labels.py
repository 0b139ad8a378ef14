"""Names beside axes: cut in the middle so that they stay apart, whole in tooltips.

Vega cuts what has no room at its end, where names of one family are alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import altair as alt

from lm_eval_flips.report.charts.theme import TELEPHONE
from lm_eval_flips.report.names import shortened

WIDE, NARROW_WIDTH = 36, 17  # characters that the theme's limits of pixels leave room for


def axis_label(
    names: Sequence[str], *, wide: int = WIDE, narrow: int = NARROW_WIDTH
) -> str | alt.UndefinedType:
    r"""A Vega expression that shortens an axis' labels, for a page and for a telephone.

    Args:
        names: every label of the axis.
        wide: characters of room beside an axis of a page.
        narrow: the same of a telephone.

    Returns:
        Nothing where all have room. Where both have their own cuts, it reads the parameter that
        ``finished`` gives a chart.

    Example:
        >>> axis_label(["arc_easy", "arc_challenge"])
        Undefined
        >>> axis_label(["law", "psychology"], wide=9, narrow=9)
        '({"=psychology": "psyc\\u2026logy"})["=" + datum.value] || datum.label'
    """
    short = {width: _cut(names, width) for width in (wide, narrow)}
    if not short[narrow]:
        return alt.Undefined
    if short[wide] == short[narrow]:
        return f"{_looked_up(short[wide])} || datum.label"
    looked_up = f"{TELEPHONE} ? {_looked_up(short[narrow])} : {_looked_up(short[wide])}"
    return f"({looked_up}) || datum.label"


def _cut(names: Sequence[str], width: int) -> dict[str, str]:
    return {
        name: cut for name, cut in zip(names, shortened(names, width), strict=True) if cut != name
    }


def _looked_up(names: dict[str, str]) -> str:
    # JSON's escapes keep any text a literal; "=" keeps a name from being one that objects have
    marked = {f"={name}": cut for name, cut in names.items()}
    return f'({json.dumps(marked)})["=" + datum.value]'
