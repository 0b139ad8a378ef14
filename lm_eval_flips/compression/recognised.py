"""How a model was compressed, by what its folder says: our record, or its config's own words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_flips.compression.record import read_record
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import RECORD

Config = Mapping[str, Any]

RECIPE = "recipe.yaml"  # of compressed-tensors: which modifiers made it
MODIFIERS = {
    "AWQModifier": ("awq", "AWQ"),
    "GPTQModifier": ("gptq", "GPTQ"),
    "SmoothQuantModifier": ("smoothquant", "SmoothQuant"),
    "SparseGPTModifier": ("sparsegpt", "SparseGPT"),
    "WandaPruningModifier": ("wanda", "WANDA"),
}
TORCHAO_BITS = re.compile(r"int(\d)|float(8)")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownScheme:
    """How a model was compressed, as its own files say.

    Args:
        name: of the scheme, as this package or the field calls it.
        family: what it is known as.
        bits: of a compressed weight, without scales; None where that is not said.
        bits_on_disk: of its files, for each of the baseline's weights; None without our record.
        bytes: of its weight files; None as well.
        source: the file that says so.
    """

    name: str
    family: str
    bits: float | None = None
    bits_on_disk: float | None = None
    bytes: int | None = None
    source: str


def recognised(folders: Iterable[Path]) -> KnownScheme | None:
    """The scheme that the first of the folders knows; None where none does.

    Args:
        folders: of a run and of its model: a run's keeps our record where the model has gone.
    """
    for folder in folders:
        try:
            record = read_record(folder)
        except FlipsError:
            continue  # a file that is damaged says nothing
        if record is not None:
            return KnownScheme(
                name=record.scheme,
                family=record.family,
                bits=record.bits,
                bits_on_disk=record.proof.bits_on_disk,
                bytes=record.proof.bytes,
                source=RECORD,
            )
        if (known := _of_config(folder)) is not None:
            return known
    return None


def of_quantization_config(config: Config, recipe: str = "") -> KnownScheme | None:
    """The scheme of a model's ``quantization_config``.

    Args:
        config: it.
        recipe: the text of the recipe file beside it, which names what made a model.

    Example:
        >>> of_quantization_config({"quant_method": "gptq", "bits": 4, "group_size": 128}).name
        'gptq-w4a16-g128'
    """
    method = str(config.get("quant_method") or "").lower()
    if not method:
        return None
    named = _METHODS.get(method)
    if named is not None and (known := named(config, recipe)) is not None:
        name, family, bits = known
    else:
        name, family, bits = method, method, config.get("bits")
    bits = float(bits) if isinstance(bits, (int, float)) else None
    return KnownScheme(name=name, family=family, bits=bits, source="config.json")


def _of_config(folder: Path) -> KnownScheme | None:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        recipe = folder / RECIPE
        text = recipe.read_text(encoding="utf-8") if recipe.is_file() else ""
    except (OSError, ValueError):
        return None
    given = config.get("quantization_config") if isinstance(config, dict) else None
    return of_quantization_config(given, text) if isinstance(given, dict) else None


_Named = tuple[str, str, Any]


def _weights_only(name: str, family: str) -> Callable[[Config, str], _Named]:
    """GPTQ's and AWQ's, which AutoRound writes too."""

    def named(config: Config, _: str) -> _Named:
        bits = config.get("bits", config.get("w_bit"))
        size = config.get("group_size", config.get("q_group_size"))
        group = f"-g{size}" if isinstance(size, int) and size > 0 else ""
        if "autoround_version" in config or config.get("provider") == "auto-round":
            return f"autoround-w{bits}a16{group}", "AutoRound", bits
        return f"{name}-w{bits}a16{group}", family, bits

    return named


def _bitsandbytes(config: Config, _: str) -> _Named:
    if config.get("load_in_8bit"):
        return "bnb-int8", "bitsandbytes", 8
    double = "-double" if config.get("bnb_4bit_use_double_quant") else ""
    return f"bnb-{config.get('bnb_4bit_quant_type', 'fp4')}{double}", "bitsandbytes", 4


def _torchao(config: Config, _: str) -> _Named | None:
    """The class of its config, and the weights' dtype in it."""
    kinds = config.get("quant_type")
    given = kinds.get("default") if isinstance(kinds, dict) else None
    if not isinstance(given, dict):
        return None
    kind, data = str(given.get("_type", "")), given.get("_data") or {}
    dtype = (data.get("weight_dtype") or {}).get("_data") if isinstance(data, dict) else None
    match = TORCHAO_BITS.search(str(dtype or kind).lower())
    bits = int(match[1] or match[2]) if match else None
    what = f"fp{bits}" if match and match[2] else f"int{bits}"
    if "DynamicActivation" in kind:
        return f"w{bits}a8" if bits != 8 else "int8-dynamic", "activations rounded too", bits
    return what if bits else kind, "weights rounded", bits


def _compressed_tensors(config: Config, recipe: str) -> _Named | None:
    made = [known for name, known in MODIFIERS.items() if name in recipe]
    prefix = "-".join(name for name, _ in made) or "ct"
    family = " and ".join(family for _, family in made) or "compressed-tensors"
    groups = list((config.get("config_groups") or {}).values())
    if not groups:
        structure = (config.get("sparsity_config") or {}).get("sparsity_structure", "sparse")
        return f"{prefix}-{structure}", family, None
    weights = groups[0].get("weights") or {}
    inputs = groups[0].get("input_activations") or {}
    bits = weights.get("num_bits")
    if weights.get("type") == "float":
        return f"{prefix}-fp{bits}", family, bits
    return f"{prefix}-w{bits}a{inputs.get('num_bits', 16)}", family, bits


_METHODS: dict[str, Callable[[Config, str], _Named | None]] = {
    "gptq": _weights_only("gptq", "GPTQ"),
    "awq": _weights_only("awq", "AWQ"),
    "auto-round": _weights_only("autoround", "AutoRound"),
    "bitsandbytes": _bitsandbytes,
    "torchao": _torchao,
    "compressed-tensors": _compressed_tensors,
}
