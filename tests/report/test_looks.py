"""Colours of families and shapes of bits: seen on both pages, told apart by every colour vision."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from lm_eval_flips.compression import families
from lm_eval_flips.compression.schemes import RECIPES
from lm_eval_flips.report.looks import (
    COLOURS,
    EVERY_SHAPE,
    OTHER,
    UNTOLD,
    WIDE,
    family_key,
    look,
    shape_key,
)
from tests.report.charts.test_theme import PAGES, VISIONS, contrast, lab, linear

# Machado, Oliveira, Fernandes 2009, severity 1
TRITANOPIA = [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.303900],
]
SEEN = VISIONS | {"tritanopia": np.array(TRITANOPIA)}
ALL = (*COLOURS.values(), OTHER)


@pytest.mark.parametrize("page", PAGES)
def test_they_stand_out_on_both_pages(page: str) -> None:
    """3 : 1, as the WCAG asks of marks, so that one colour does for light and dark."""
    assert min(contrast(colour, PAGES[page]) for colour in ALL) >= 3


@pytest.mark.parametrize("vision", SEEN)
def test_families_are_told_apart(vision: str) -> None:
    """At least 18 units of CIE 1976 between any two; control: 0 to itself."""

    def distance(one: str, other: str) -> float:
        seen = [lab(SEEN[vision] @ linear(colour)) for colour in (one, other)]
        return float(np.linalg.norm(seen[0] - seen[1]))

    assert min(distance(*pair) for pair in combinations(ALL, 2)) > 18
    assert distance(OTHER, OTHER) == 0


def test_every_family_of_our_schemes_has_a_colour_or_is_other() -> None:
    """No two families share one, but for those without their own."""
    own = {recipe.family for recipe in RECIPES}
    assert own <= set(families.FAMILIES)
    assert own - set(COLOURS) == {families.SMOOTHQUANT}
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize(
    ("bits", "label"),
    [
        (1.58, "up to 2 bits"),
        (2.0, "up to 2 bits"),
        (3.0, "3 bits"),
        (4.0, "4 bits"),
        (5.0, "5 to 7 bits"),
        (6.0, "5 to 7 bits"),
        (8.0, "8 bits"),
        (16.0, "not fewer bits"),
        (None, "not fewer bits"),
    ],
)
def test_bits_have_a_shape(bits: float | None, label: str) -> None:
    """Each class one; no two shapes are the same path."""
    assert look("GGUF", bits).shape.label == label
    assert len({shape.path for shape in EVERY_SHAPE}) == len(EVERY_SHAPE)


def test_what_is_unknown_looks_unknown() -> None:
    """Grey; a cross without bits, which is not the mark of whole weights."""
    assert (look("", None).colour, look("", None).shape) == (OTHER, UNTOLD)
    assert look("noise", None).shape == WIDE
    assert look("", 4.0).shape.label == "4 bits"


def test_a_legend_names_each_once() -> None:
    """In the list's order; greys together, the unknown last; the fewest bits last."""
    looks = [look("noise", None), look("hqq", 4.0), look("", None), look("GPTQ", 4.0)]
    looks += [look("GPTQ", 8.0), look("aqlm", 2.0)]
    assert family_key(looks) == [
        ("GPTQ", COLOURS["GPTQ"]),
        ("noise", COLOURS["noise"]),
        ("aqlm, hqq, unknown", OTHER),
    ]
    labels = [shape.label for shape in shape_key(looks)]
    assert labels == ["8 bits", "4 bits", "up to 2 bits", "not fewer bits", "bits unknown"]
