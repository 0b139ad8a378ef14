"""What a maker is given, and what it gives back. One function a scheme, in its library's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lm_eval_flips.compression.modules import matrices
from lm_eval_flips.errors import FlipsError


@dataclass(frozen=True, kw_only=True)
class Making:
    """A model to compress.

    Args:
        source: folder of the model, or its GGUF file.
        name: of the scheme.
        parameters: that the scheme's name carries.
        dtype: to make it in, "auto" for the source's own.
        seed: of all that is drawn.
        texts: to calibrate with.
        folder: where the model is saved, for makers that save it themselves.
    """

    source: Path
    name: str
    parameters: Mapping[str, str]
    dtype: str
    seed: int
    texts: tuple[str, ...]
    folder: Path

    def __getitem__(self, parameter: str) -> str:
        return self.parameters[parameter]

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.source)

    def load(self, **given: Any) -> Any:
        """The source, or what a library makes of it while it is loaded.

        Args:
            given: more arguments of ``from_pretrained``.
        """
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(self.source, dtype=self.dtype, **given)
        return model.eval()

    def generator(self) -> torch.Generator:
        """What draws, from its seed."""
        return torch.Generator().manual_seed(self.seed)

    def group(self) -> int:
        """The group size that was asked for.

        Raises:
            FlipsError: it does not divide the columns of every matrix.
        """
        from transformers import AutoConfig, AutoModelForCausalLM

        size = int(self["group"])
        auto: Any = AutoModelForCausalLM
        with torch.device("meta"):
            skeleton = auto.from_config(AutoConfig.from_pretrained(self.source))
        columns = {matrix.columns: name for name, matrix in matrices(skeleton).items()}
        for count, name in sorted(columns.items()):
            if count % size:
                fit = [one for one in (128, 64, 32, 16) if not any(c % one for c in columns)]
                way_out = (
                    f"groups of {', '.join(map(str, fit))} do" if fit else "no usual group does"
                )
                raise FlipsError(
                    f"groups of {size} do not divide the {count} columns of {name}; {way_out}"
                )
        return size


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A compressed model in memory, and how it is saved.

    ``model`` is None where the maker wrote the file itself and holds nothing in memory.
    ``save`` is given the folder; by default the model's own ``save_pretrained`` is called.
    ``save_first``: before it reads anything, which changes how its weights lie in memory; what
    ``save`` gives back, if anything, is then read in its place.
    """

    model: Any
    save: Callable[[Path], Any] | None = None
    save_first: bool = False


Maker = Callable[[Making], Any]
