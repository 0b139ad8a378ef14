"""How a compressed model looks wherever it is drawn: its family's colour, its bits' shape.

Colours have a contrast of at least 3 on white and on the dark page, so that a family has one colour
on both, and are told apart by every colour vision. Shapes are paths in a square from -1 to 1, as
Vega and SVG both take them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from lm_eval_flips.compression import families

UNKNOWN = "unknown"
OTHER = "#7d8590"  # families without a colour of their own, and models whose family is unknown
COLOURS = {
    families.TORCHAO: "#0061c2",
    families.BITSANDBYTES: "#c28800",
    families.GPTQ: "#0f8532",
    families.AWQ: "#d83dff",
    families.GGUF: "#189ed8",
    families.COMPRESSED_TENSORS: "#6d2eff",
    families.ROUNDED: "#924f55",
    families.PRUNED: "#c21300",
    families.DROPPED: "#ed6d5e",
    families.NOISE: "#844f92",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A mark and what it stands for: weights of up to so many bits."""

    most: float
    label: str
    path: str


SHAPES = (
    Shape(
        most=2.0,
        label="up to 2 bits",
        path="M-.35,-1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z",
    ),
    Shape(most=3.0, label="3 bits", path="M-.95,-.75H.95L0,.95Z"),
    Shape(most=4.0, label="4 bits", path="M0,-1L1,0L0,1L-1,0Z"),
    Shape(most=7.0, label="5 to 7 bits", path="M-.95,.75H.95L0,-.95Z"),
    Shape(most=15.0, label="8 bits", path="M-.8,-.8H.8V.8H-.8Z"),
)
WIDE = Shape(
    most=float("inf"),
    label="not fewer bits",
    path="M.9,0A.9,.9,0,1,1,-.9,0A.9,.9,0,1,1,.9,0Z",
)
UNTOLD = Shape(
    most=float("nan"),
    label="bits unknown",
    path="M-1,-.55L-.55,-1L0,-.45L.55,-1L1,-.55L.45,0L1,.55L.55,1L0,.45L-.55,1L-1,.55L-.45,0Z",
)
EVERY_SHAPE = (*SHAPES, WIDE, UNTOLD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A model's family in words and colour, and its shape."""

    family: str
    colour: str
    shape: Shape

    @property
    def glyph(self) -> Markup:
        """The mark for a page; what it says stands in words beside it."""
        return glyph(self.colour, self.shape)


def look(family: str, bits: float | None) -> Look:
    """How a model of a family ("" where that is unknown) with so many bits a weight looks.

    Args:
        family: as in ``compression/families.py``, or another word.
        bits: of a compressed weight; None where weights stay as wide as they were.

    Example:
        >>> look("torchao", 4.0).shape.label, look("noise", None).shape.label
        ('4 bits', 'not fewer bits')
        >>> look("", 8.0).family, look("", None).shape.label
        ('unknown', 'bits unknown')
    """
    if bits is None:
        shape = WIDE if family else UNTOLD
    else:
        shape = next((own for own in SHAPES if bits <= own.most), WIDE)
    return Look(family=family or UNKNOWN, colour=COLOURS.get(family, OTHER), shape=shape)


def glyph(colour: str, shape: Shape) -> Markup:
    """A mark as inline SVG, which a screen reader passes over."""
    return Markup(
        '<svg class="glyph" viewBox="-1.1 -1.1 2.2 2.2" aria-hidden="true" focusable="false">'
        '<path fill="{colour}" d="{path}"/></svg>'
    ).format(colour=colour, path=shape.path)


def family_key(looks: Iterable[Look]) -> list[tuple[str, str]]:
    """The legend of colours: each family once with its colour, the unknown last.

    Families without a colour of their own are one entry.
    """
    found: dict[str, list[str]] = {}
    for family in families.in_order({own.family for own in looks}):
        found.setdefault(COLOURS.get(family, OTHER), []).append(family)
    grey = found.pop(OTHER, [])
    entries = [(", ".join(names), colour) for colour, names in found.items()]
    grey.sort(key=lambda name: name == UNKNOWN)
    return entries + ([(", ".join(grey), OTHER)] if grey else [])


def shape_key(looks: Iterable[Look]) -> list[Shape]:
    """The legend of shapes: those that are there, the fewest bits last."""
    present = {own.shape.label for own in looks}
    bits = [own for own in SHAPES[::-1] if own.label in present]
    return bits + [own for own in (WIDE, UNTOLD) if own.label in present]
