"""The list of schemes: names are read as they are listed, and everything in it is there."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from math import isnan

import pytest

from lm_eval_flips import FlipsError
from lm_eval_flips.compression.naming import listed, scheme, schemes
from lm_eval_flips.compression.recipe import PARAMETER
from lm_eval_flips.compression.schemes import RECIPES


def test_every_example_is_of_one_recipe() -> None:
    """And of its own; twenty of seven families at least."""
    for recipe in RECIPES:
        for name in recipe.names:
            assert [other.pattern for other in RECIPES if other.read(name)] == [recipe.pattern]
    assert len(listed()) >= 20
    assert len({one.recipe.family for one in listed()}) >= 7


def test_every_maker_is_there() -> None:
    """A function of its library's file, which takes a Making."""
    for recipe in RECIPES:
        module, _, function = recipe.make.rpartition(".")
        maker = getattr(import_module(f"lm_eval_flips.compression.{module}"), function)
        assert list(maker.__annotations__) == ["making", "return"], recipe.make


def test_a_maker_s_process_needs_its_library_alone() -> None:
    """Whatever interpreter makes a model has torch and transformers, and none of our packages."""
    modules = sorted({recipe.make.rpartition(".")[0] for recipe in RECIPES})
    names = [f"lm_eval_flips.compression.{name}" for name in ("maker", "reading", *modules)]
    ours = "msgspec typer rich pyarrow scipy lm_eval jaxtyping".split()
    code = f"""
import importlib, sys
sys.modules["jaxtyping"] = None  # as where the tests' packages are not installed
for name in {names}:
    importlib.import_module(name)
print([name for name in {ours} if sys.modules.get(name)])
"""
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines()[-1] == "[]"


def test_parameters_are_read_from_the_name() -> None:
    """What is left out is the default; bits are the parameter or the recipe's."""
    assert scheme("int4").parameters == {"bits": "4", "group": "64"}
    assert scheme("int4-g32").parameters == {"bits": "4", "group": "32"}
    assert scheme("int4-row").recipe is not scheme("int4").recipe
    assert scheme("wanda-2:4").parameters == {"kept": "2", "of": "4"}
    assert scheme("bnb-nf4").parameters == {"kind": "nf4"}
    assert scheme("bnb-nf4-double").parameters == {"kind": "nf4", "double": "double"}
    assert [scheme(name).bits for name in ("int3", "int8", "w4a8")] == [3, 8, 4]
    assert isnan(scheme("drop-2").bits)
    assert scheme("wanda-2:4").file_name == "wanda-2of4"


def test_every_description_is_filled_in() -> None:
    """No brace is left in what a scheme does."""
    for one in listed():
        assert not PARAMETER.search(one.does), one.name


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("int44", "there is no scheme 'int44'; did you mean int4"),
        ("wand-50", "there is no scheme 'wand-50'; did you mean wanda-50"),
        ("int9", "there is no scheme 'int9'; did you mean int8"),
        ("magnitude-0", "there is no scheme 'magnitude-0'"),
        ("zzzzzz", "there is no scheme 'zzzzzz'; lm-eval-flips schemes lists them"),
        ("int4,int8,int4", "named twice: int4"),
        (" , ", "no scheme is named"),
    ],
)
def test_unknown_names_are_refused(names: str, said: str) -> None:
    """With the nearest ones, if any is near."""
    with pytest.raises(FlipsError, match=said):
        schemes(names)
