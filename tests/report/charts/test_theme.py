"""Colours: visible on both pages, told apart by every colour vision."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lm_eval_flips.report.charts import theme, vega_config

Floats = NDArray[np.float64]
PAGES = {"light": "#ffffff", "dark": "#0d1117"}
COLOURS = (*theme.RUNS, theme.LOSS, theme.GAIN, theme.CORRECT, theme.INCORRECT)
# Machado, Oliveira, Fernandes 2009, severity 1
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> Floats:
    """Linear RGB of a colour."""
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: Floats) -> Floats:
    """CIE L*a*b* of a linear RGB colour."""
    scaled = XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """The contrast ratio of the WCAG."""
    light = sorted(float(linear(colour) @ XYZ[1]) + 0.05 for colour in (one, other))
    return light[1] / light[0]


@pytest.mark.parametrize("page", PAGES)
def test_marks_and_text_stand_out_on_both_pages(page: Any) -> None:
    """3 : 1 for marks and 4.5 : 1 for text, as the WCAG asks."""
    assert min(contrast(colour, PAGES[page]) for colour in COLOURS) >= 3
    config = vega_config(page)
    texts = [config["axis"]["labelColor"], config["axis"]["titleColor"], config["text"]["color"]]
    texts += [config["legend"]["labelColor"], config["title"]["color"]]
    texts += [config["style"]["note"]["color"], config["header"]["labelColor"]]
    assert min(contrast(text, PAGES[page]) for text in texts) >= 4.5
    assert contrast(config["style"]["reference"]["color"], PAGES[page]) >= 3


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_of_one_chart_are_told_apart(vision: str) -> None:
    """At least 10 units of CIE 1976 between runs, losses and gains; a control: 0 to itself."""

    def distance(one: str, other: str) -> float:
        seen = [lab(VISIONS[vision] @ linear(colour)) for colour in (one, other)]
        return float(np.linalg.norm(seen[0] - seen[1]))

    together = [*combinations(theme.RUNS, 2), (theme.LOSS, theme.GAIN)]
    together.append((theme.CORRECT, theme.INCORRECT))
    assert min(distance(*pair) for pair in together) > 10
    assert distance(theme.LOSS, theme.LOSS) == 0


def test_the_two_modes_differ_in_ink_alone() -> None:
    """The same layout, so that a page changes its mode without moving anything."""

    def shape(config: Any) -> Any:
        if isinstance(config, dict):
            return {name: shape(value) for name, value in config.items()}
        return "colour" if isinstance(config, str) and config.startswith("#") else config

    light, dark = vega_config("light"), vega_config("dark")
    assert light != dark
    light["range"], dark["range"] = {}, {}
    assert shape(light) == shape(dark)
