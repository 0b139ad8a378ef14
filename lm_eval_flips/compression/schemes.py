"""THE list of schemes, and a scheme by its name.

A line here and a function in the file of its library make a scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from lm_eval_flips.compression.libraries import BITSANDBYTES, OWN, TORCHAO
from lm_eval_flips.compression.recipe import Recipe, Scheme
from lm_eval_flips.errors import FlipsError, named

NEAREST = 3


def _bits(fixed: int | None = None) -> Callable[[Mapping[str, str]], float]:
    """Bits that are the same for all of a recipe, or its parameter."""
    return lambda given: float(given["bits"] if fixed is None else fixed)


GROUP = {"group": r"[1-9]\d*"}
PERCENT = {"percent": r"[1-9]\d?"}
COUNT = {"count": r"[1-9]\d*"}
STRUCTURE = {"kept": r"[1-9]\d*", "of": r"[1-9]\d*"}
SIGMA = {"sigma": r"\d*\.?\d+"}

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        pattern="int8",
        family="weights rounded",
        does="8-bit weights, a scale a row",
        library=TORCHAO,
        make="torchao.int8",
        examples=("int8",),
        bits=_bits(8),
    ),
    Recipe(
        pattern="int{bits}-row",
        family="weights rounded",
        does="{bits}-bit weights, a scale a row",
        library=TORCHAO,
        make="torchao.weights_by_row",
        examples=("int4-row",),
        bits=_bits(),
        parameters={"bits": "[2-7]"},
    ),
    Recipe(
        pattern="int{bits}[-g{group}]",
        family="weights rounded",
        does="{bits}-bit weights, a scale for {group} of them",
        library=TORCHAO,
        make="torchao.weights_by_group",
        examples=("int6", "int5", "int4", "int4-g32", "int4-g128", "int3", "int2"),
        bits=_bits(),
        parameters={"bits": "[2-7]", **GROUP},
        defaults={"group": "64"},
    ),
    Recipe(
        pattern="fp8",
        family="weights rounded",
        does="8-bit floating-point weights (e4m3), a scale a row",
        library=TORCHAO,
        make="torchao.fp8",
        examples=("fp8",),
        bits=_bits(8),
    ),
    Recipe(
        pattern="int8-dynamic",
        family="activations rounded too",
        does="W8A8: 8-bit weights a row, and 8-bit activations a token",
        library=TORCHAO,
        make="torchao.int8_dynamic",
        examples=("int8-dynamic",),
        bits=_bits(8),
    ),
    Recipe(
        pattern="w4a8[-g{group}]",
        family="activations rounded too",
        does="W4A8: 4-bit weights, a scale for {group} of them, and 8-bit activations a token",
        library=TORCHAO,
        make="torchao.w4a8",
        examples=("w4a8",),
        bits=_bits(4),
        parameters=GROUP,
        defaults={"group": "32"},
    ),
    Recipe(
        pattern="bnb-int8",
        family="bitsandbytes",
        does="LLM.int8(): 8-bit weights and activations, outlying columns apart",
        library=BITSANDBYTES,
        make="bitsandbytes.int8",
        examples=("bnb-int8",),
        bits=_bits(8),
    ),
    Recipe(
        pattern="bnb-{kind}[-{double}]",
        family="bitsandbytes",
        does="4-bit weights ({kind}), a scale for 64 of them",
        library=BITSANDBYTES,
        make="bitsandbytes.four_bits",
        examples=("bnb-nf4", "bnb-nf4-double", "bnb-fp4"),
        bits=_bits(4),
        parameters={"kind": "nf4|fp4", "double": "double"},
    ),
    Recipe(
        pattern="rtn-w{bits}[-g{group}]",
        family="round to nearest",
        does="weights rounded to {bits} bits, a scale and a zero for {group} of them, stored dense",
        library=OWN,
        make="rounding.to_nearest",
        examples=("rtn-w8", "rtn-w4", "rtn-w3"),
        bits=_bits(),
        parameters={"bits": "[2-8]", **GROUP},
        defaults={"group": "64"},
        dense=True,
    ),
    Recipe(
        pattern="drop-{count}",
        family="layers dropped",
        does="the last layers dropped ({count})",
        library=OWN,
        make="layers.drop_last",
        examples=("drop-1", "drop-2", "drop-4"),
        parameters=COUNT,
        dense=True,
    ),
    Recipe(
        pattern="magnitude-{percent}",
        family="magnitude pruning",
        does="the smallest {percent} % of each matrix's weights set to 0",
        library=OWN,
        make="magnitude.unstructured",
        examples=("magnitude-10", "magnitude-30", "magnitude-50"),
        parameters=PERCENT,
        dense=True,
    ),
    Recipe(
        pattern="magnitude-{kept}:{of}",
        family="magnitude pruning",
        does="the {kept} largest of every {of} weights of a row left",
        library=OWN,
        make="magnitude.structured",
        examples=("magnitude-2:4",),
        parameters=STRUCTURE,
        dense=True,
    ),
    Recipe(
        pattern="wanda-{percent}",
        family="WANDA",
        does="{percent} % of each row's weights set to 0, by size times norm of their inputs",
        library=OWN,
        make="wanda.unstructured",
        examples=("wanda-30", "wanda-50"),
        parameters=PERCENT,
        dense=True,
        calibrated=True,
    ),
    Recipe(
        pattern="wanda-{kept}:{of}",
        family="WANDA",
        does="{kept} of every {of} weights of a row left, by size times norm of their inputs",
        library=OWN,
        make="wanda.structured",
        examples=("wanda-2:4",),
        parameters=STRUCTURE,
        dense=True,
        calibrated=True,
    ),
    Recipe(
        pattern="sparsegpt-{percent}",
        family="SparseGPT",
        does="{percent} % of the weights set to 0 and the rest moved to make up for it",
        library=OWN,
        make="sparsegpt.unstructured",
        examples=("sparsegpt-50",),
        parameters=PERCENT,
        dense=True,
        calibrated=True,
    ),
    Recipe(
        pattern="sparsegpt-{kept}:{of}",
        family="SparseGPT",
        does="{kept} of every {of} weights of a row left and moved to make up for the others",
        library=OWN,
        make="sparsegpt.structured",
        examples=("sparsegpt-2:4",),
        parameters=STRUCTURE,
        dense=True,
        calibrated=True,
    ),
    Recipe(
        pattern="slicegpt-{percent}",
        family="SliceGPT",
        does="the least {percent} % of the residual stream's components cut off, one rotation",
        library=OWN,
        make="slicegpt.sliced",
        examples=("slicegpt-10", "slicegpt-25"),
        parameters=PERCENT,
        dense=True,
        calibrated=True,
    ),
    Recipe(
        pattern="noise-{sigma}",
        family="noise on weights",
        does="Gaussian noise of {sigma} of each matrix's standard deviation added to it",
        library=OWN,
        make="noise.gaussian",
        examples=("noise-0.02", "noise-0.05", "noise-0.1"),
        parameters=SIGMA,
        dense=True,
    ),
)


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
    examples = [example for recipe in recipes for example in recipe.examples]
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
    return [scheme(example) for recipe in RECIPES for example in recipe.examples]
