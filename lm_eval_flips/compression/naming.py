"""A scheme by its name, with the nearest names where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from lm_eval_flips.compression.recipe import Recipe, Scheme
from lm_eval_flips.compression.schemes import RECIPES
from lm_eval_flips.errors import FlipsError, named

NEAREST = 3


def scheme(name: str, recipes: Sequence[Recipe] = RECIPES) -> Scheme:
    """The scheme of a name, with the parameters that the name carries.

    Raises:
        FlipsError: there is none of that name; with the nearest ones.

    Example:
        >>> scheme("drop-4").does
        'the last layers dropped (4)'
    """
    for recipe in recipes:
        if (known := recipe.read(name)) is not None:
            return known
    examples = [example for recipe in recipes for example in recipe.names]
    near = get_close_matches(name, examples, n=NEAREST, cutoff=0.5)
    hint = f"did you mean {named(near)}?" if near else "lm-eval-flips schemes lists them"
    raise FlipsError(f"there is no scheme '{name}'; {hint}")


def schemes(names: str) -> list[Scheme]:
    """The schemes of a list of names, separated by commas.

    Raises:
        FlipsError: one of them is none, or is named twice.
    """
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if not asked:
        raise FlipsError("no scheme is named; lm-eval-flips schemes lists them")
    if twice := sorted({name for name in asked if asked.count(name) > 1}):
        raise FlipsError(f"named twice: {named(twice)}")
    return [scheme(name) for name in asked]


def listed() -> list[Scheme]:
    """Every example of the list, in its order."""
    return [scheme(example) for recipe in RECIPES for example in recipe.names]
