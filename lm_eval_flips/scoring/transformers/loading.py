"""What loads a checkpoint that is compressed, by its config, and what of that this Python lacks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lm_eval_flips.errors import FlipsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """The modules that load a kind of checkpoint, and how to get them."""

    modules: tuple[str, ...]
    install: str


GPTQ = Loader(modules=("gptqmodel", "optimum"), install="pip install 'lm-eval-flips[gptq]'")
LOADERS = {  # by quant_method; auto-gptq's and autoawq's checkpoints load through gptqmodel
    "gptq": GPTQ,
    "awq": GPTQ,
    "bitsandbytes": Loader(
        modules=("bitsandbytes", "accelerate"),
        install="pip install 'lm-eval-flips[bitsandbytes]'",
    ),
    "torchao": Loader(modules=("torchao",), install="pip install 'lm-eval-flips[torchao]'"),
    "compressed-tensors": Loader(
        modules=("compressed_tensors",),
        install="pip install 'lm-eval-flips[compressed-tensors]'",
    ),
    "auto-round": Loader(modules=("auto_round",), install="pip install auto-round"),
    "hqq": Loader(modules=("hqq",), install="pip install hqq"),
    "quanto": Loader(modules=("optimum.quanto",), install="pip install optimum-quanto"),
    "aqlm": Loader(modules=("aqlm",), install="pip install aqlm"),
}


def refuse_unloadable(folder: Path) -> None:
    """Refuse a checkpoint whose library this Python lacks.

    Args:
        folder: of a model; one that is not here is left to what loads it.

    Raises:
        FlipsError: naming what is missing, and how to get it.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        method = str((config.get("quantization_config") or {}).get("quant_method", ""))
    except (OSError, ValueError, AttributeError):
        return
    refuse_missing(method, what=f"'{folder}' is a checkpoint of {method}")


def refuse_missing(method: str, *, what: str) -> None:
    """Refuse a method whose library this Python lacks.

    Args:
        method: as configs call it.
        what: that needs it, for the error.

    Raises:
        FlipsError: naming what is missing, and how to get it.
    """
    loader = LOADERS.get(method.lower())
    missing = [] if loader is None else [one for one in loader.modules if not _here(one)]
    if loader is not None and missing:
        raise FlipsError(
            f"{what}, which needs {' and '.join(missing)}, not installed here: {loader.install}"
        )


def _here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package above it
        return False
