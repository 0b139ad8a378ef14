"""How a model was compressed, by what its folder says: our record, or its config's own words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_flips.compression import families
from lm_eval_flips.compression.naming import scheme
from lm_eval_flips.compression.record import Record, read_record
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import RECORD

Config = Mapping[str, Any]

RECIPE = "recipe.yaml"  # of compressed-tensors: which modifiers made it
MODIFIERS = {
    "AWQModifier": ("awq", families.AWQ),
    "GPTQModifier": ("gptq", families.GPTQ),
    "SmoothQuantModifier": ("smoothquant", families.SMOOTHQUANT),
    "SparseGPTModifier": ("sparsegpt", families.PRUNED),
    "WandaPruningModifier": ("wanda", families.PRUNED),
}
TORCHAO_BITS = re.compile(r"int(\d)|float(8)")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownScheme:
    """How a model was compressed, as its own files say, or else what evaluated it.

    Args:
        name: of the scheme, as this package or the field calls it.
        family: of ``compression/families.py``, or the library's or method's own word; "" where
            nothing tells it.
        bits: of a compressed weight, without scales; None where that is not said.
        bits_on_disk: of its files, for each of the baseline's weights; None without our record.
        bytes: of its weight files, as our record or the engine says; None without.
        source: what says so.
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
                family=_family(record),
                bits=None if record.bits is None else float(record.bits),
                bits_on_disk=record.proof.bits_on_disk,
                bytes=record.proof.bytes,
                source=RECORD,
            )
        if (known := _of_config(folder)) is not None:
            return known
    return None


def _family(record: Record) -> str:
    """The family of its scheme, as it is called today; the record's of a scheme that has gone."""
    try:
        return scheme(record.scheme).recipe.family
    except FlipsError:
        return record.family


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
        return "bnb-int8", families.BITSANDBYTES, 8
    double = "-double" if config.get("bnb_4bit_use_double_quant") else ""
    return f"bnb-{config.get('bnb_4bit_quant_type', 'fp4')}{double}", families.BITSANDBYTES, 4


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
        return f"w{bits}a8" if bits != 8 else "int8-dynamic", families.TORCHAO, bits
    return what if bits else kind, families.TORCHAO, bits


def _compressed_tensors(config: Config, recipe: str) -> _Named | None:
    made = [known for name, known in MODIFIERS.items() if name in recipe]
    prefix = "-".join(name for name, _ in made) or "ct"
    family = made[0][1] if made else families.COMPRESSED_TENSORS  # what rounds goes first
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
    "gptq": _weights_only("gptq", families.GPTQ),
    "awq": _weights_only("awq", families.AWQ),
    "auto-round": _weights_only("autoround", "AutoRound"),
    "bitsandbytes": _bitsandbytes,
    "torchao": _torchao,
    "compressed-tensors": _compressed_tensors,
}
