"""What a scheme is: a name with parameters in it, the library that makes it, and what it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import nan

from lm_eval_flips.compression.libraries import OWN, Library

PARAMETER = re.compile(r"\{(\w+)\}")
COUNT = r"[1-9]\d*"
PARAMETERS = {  # what each may be, as a regular expression
    "bits": "[2-8]",
    "group": COUNT,
    "percent": r"[1-9]\d?",
    "count": COUNT,
    "kept": COUNT,
    "of": COUNT,
    "sigma": r"\d*\.?\d+",
}


def bits(fixed: int | None = None) -> Callable[[Mapping[str, str]], float]:
    """Bits that are the same for all of a recipe, or its parameter."""
    return lambda given: float(given["bits"] if fixed is None else fixed)


def bits_of_type(given: Mapping[str, str]) -> float:
    """The first number in the name of a type.

    Example:
        >>> bits_of_type({"type": "q4_k_m"}), bits_of_type({"type": "bf16"})
        (4.0, 16.0)
    """
    return float(re.sub(r"\D*(\d+).*", r"\1", given["type"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to compress, with the parameters that its name may carry.

    Args:
        pattern: the name, with parameters in braces and what may be left out in brackets, as in
            ``int{bits}[-g{group}]``.
        family: what it is known as, such as "GPTQ" or "layers dropped".
        does: what it does, in one line; parameters in braces are filled in.
        make: the function that makes it, as ``module.function`` of this room.
        library: what makes it; by default this package, which stores an ordinary model.
        examples: names to list; by default the pattern, where it has no parameters.
        bits: bits that a compressed weight takes, without scales, by the parameters; nan where
            weights stay as they are.
        parameters: what they may be where that is not as in ``PARAMETERS``.
        defaults: parameters that the name leaves out.
        calibrated: looks at texts.
        dtype: what it is made and loaded in; by default as its source.
    """

    pattern: str
    family: str
    does: str
    make: str
    library: Library = OWN
    examples: tuple[str, ...] = ()
    bits: Callable[[Mapping[str, str]], float] = lambda _: nan
    parameters: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    calibrated: bool = False
    dtype: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names to list; each stands for what it says."""
        return self.examples or (self.pattern,)

    @property
    def packed(self) -> bool:
        """Whether it stores weights in fewer bytes."""
        return self.library is not OWN

    def read(self, name: str) -> Scheme | None:
        """The scheme of a name; None if it is not of this recipe.

        A shorter name is the scheme with the default in it: both are the same.
        """
        match = re.fullmatch(self._expression(), name)
        if match is None:
            return None
        given = {key: value for key, value in match.groupdict().items() if value is not None}
        return Scheme(name=name, recipe=self, parameters={**self.defaults, **given})

    def _expression(self) -> str:
        """The pattern as a regular expression."""
        words = {"[": "(?:", "]": ")?"}
        allowed = {**PARAMETERS, **self.parameters}
        parts = re.split(r"([\[\]]|\{\w+\})", self.pattern)
        for place, part in enumerate(parts):
            if part.startswith("{"):
                name = part[1:-1]
                parts[place] = f"(?P<{name}>{allowed[name]})"
            else:
                parts[place] = words.get(part) or re.escape(part)
        return "".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """A recipe with its parameters, as a name says them.

    Example:
        >>> from lm_eval_flips.compression.naming import scheme
        >>> scheme("int4-g32").parameters["group"]
        '32'
    """

    name: str
    recipe: Recipe
    parameters: Mapping[str, str]

    @property
    def file_name(self) -> str:
        """The name as part of a folder's name."""
        return self.name.replace(":", "of")

    @property
    def bits(self) -> float:
        """Bits that a compressed weight takes, without scales; nan where weights stay."""
        return self.recipe.bits(self.parameters)

    @property
    def does(self) -> str:
        """What it does, in one line."""
        return PARAMETER.sub(lambda match: self.parameters[match[1]], self.recipe.does)
