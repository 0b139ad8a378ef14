"""What stands first where several models are shown: which is closest, and what is worth its bytes.

The same for a comparison's page and for a leaderboard's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lm_eval_flips.comparison.spec import Number
from lm_eval_flips.comparison.standing import Standing
from lm_eval_flips.report.columns import COLUMN
from lm_eval_flips.report.looks import UNKNOWN, WIDE, Look, family_key, glyph, shape_key
from lm_eval_flips.report.text.judgement import Code, Judgement

# How each verdict is headed; scores that are higher or lower by chance are in the first.
HEADS: dict[Code, str] = {
    "open": "Score not told apart from the baseline's",
    "same": "Score the same within the margin",
    "worse": "Score worse",
    "better": "Score better",
}
FRONTS = {"flips": "size against flips", "choice_kl": "size against choice KL"}
SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownModel:
    """A compressed model with what is said of it beside others."""

    name: str
    look: Look
    standing: Standing
    verdict: Judgement
    distance: Number | None

    @property
    def bits(self) -> str:
        """Bits of a compressed weight; – where weights stay, or where that is not known."""
        bits = self.standing.bits
        return "–" if bits is None else f"{bits:g}"

    @property
    def size(self) -> str:
        """Size of its weights; – where that is not known."""
        size = self.standing.size
        return "–" if size is None else size_text(size.bytes)

    @property
    def front(self) -> str:
        """By what it is on the front of size and distance; – where another model is better."""
        on = [COLUMN[key].label for key, found in self.standing.pareto.items() if found]
        return ", ".join(on) or "–"

    @property
    def near(self) -> str:
        """Its distance with unit and interval; "" where it is not known."""
        if self.distance is None or not self.distance.known:
            return ""
        column = COLUMN[self.distance.key]
        unit = " nats" if self.distance.unit == "nats" else ""
        interval = column.shown_interval(self.distance)
        return f"{column.shown(self.distance)}{unit} {interval}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Models under a head: a verdict of their scores, or a front."""

    head: str
    names: tuple[str, ...]
    sign: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything that stands above the models.

    ``closest`` is None where no distance is known; ``label`` is that of the distance.
    """

    label: str
    closest: ShownModel | None
    verdicts: tuple[Told, ...]
    best: tuple[tuple[Markup, str, str], ...]
    fronts: tuple[Told, ...]
    colours: tuple[tuple[Markup, str], ...]
    shapes: tuple[tuple[Markup, str], ...]


def overview(models: Sequence[ShownModel], distance: str) -> Overview:
    """What stands above models.

    Args:
        models: all of them, the closest to the baseline first.
        distance: the key of the number that they are ordered by; "" for none.
    """
    looks = [own.look for own in models]
    known = any(own.standing.family for own in models)
    return Overview(
        label=COLUMN[distance].label if distance else "",
        closest=models[0] if models and models[0].near else None,
        verdicts=tuple(_verdicts(models)),
        best=tuple(
            (own.look.glyph, own.look.family, own.name)
            for own in models
            if own.standing.best_of_family
        ),
        fronts=tuple(_fronts(models)),
        colours=tuple((glyph(colour, WIDE), words) for words, colour in family_key(looks) if known),
        shapes=tuple(
            (glyph("currentColor", shape), shape.label) for shape in shape_key(looks) if known
        ),
    )


def _verdicts(models: Sequence[ShownModel]) -> list[Told]:
    found = []
    for code, head in HEADS.items():
        own = [one for one in models if one.verdict.code == code]
        if own:
            names = tuple(one.name for one in own)
            found.append(Told(head=head, names=names, sign=own[0].verdict.sign))
    return found


def _fronts(models: Sequence[ShownModel]) -> list[Told]:
    found = []
    for key, words in FRONTS.items():
        on = [own for own in models if own.standing.pareto[key]]
        on.sort(key=lambda own: own.standing.size.bytes if own.standing.size else 0)
        if on:
            found.append(Told(head=words, names=tuple(own.name for own in on)))
    return found


def size_text(size: int) -> str:
    """Bytes as people read them.

    Example:
        >>> size_text(163_800_000), size_text(3_900_000_000), size_text(12)
        ('164 MB', '3.9 GB', '12 B')
    """
    for scale, unit in SIZES:
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"


def family_words(look: Look) -> str:
    """A family in a cell; – where nothing tells it."""
    return "–" if look.family == UNKNOWN else look.family
