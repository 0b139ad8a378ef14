"""Schemes seen in a model's own files: configs as each library writes them, and our record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips.compression.recognised import of_quantization_config, recognised

INT4 = {"num_bits": 4, "type": "int"}
INT8 = {"num_bits": 8, "type": "int"}
FP8 = {"num_bits": 8, "type": "float"}


def tensors(weights: dict[str, Any], inputs: dict[str, Any] | None) -> dict[str, Any]:
    """As llmcompressor writes it."""
    groups = {"group_0": {"weights": weights, "input_activations": inputs}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


def torchao(kind: str, **data: Any) -> dict[str, Any]:
    """As transformers writes it."""
    return {"quant_method": "torchao", "quant_type": {"default": {"_type": kind, "_data": data}}}


@pytest.mark.parametrize(
    ("config", "recipe", "name", "family", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "", "gptq-w4a16-g128", "GPTQ", 4),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "", "gptq-w8a16", "GPTQ", 8),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "", "awq-w4a16-g64", "AWQ", 4),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 128, "autoround_version": "0.5"},
            *("", "autoround-w4a16-g128", "AutoRound", 4),
        ),
        (
            {"quant_method": "bitsandbytes", "load_in_8bit": True},
            *("", "bnb-int8", "bitsandbytes", 8),
        ),
        (
            {
                "quant_method": "bitsandbytes",
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": True,
            },
            *("", "bnb-nf4-double", "bitsandbytes", 4),
        ),
        (torchao("Int8WeightOnlyConfig"), "", "int8", "torchao", 8),
        (torchao("Float8WeightOnlyConfig"), "", "fp8", "torchao", 8),
        (
            torchao("IntxWeightOnlyConfig", weight_dtype={"_data": "int4"}),
            *("", "int4", "torchao", 4),
        ),
        (
            torchao("Int8DynamicActivationInt8WeightConfig"),
            *("", "int8-dynamic", "torchao", 8),
        ),
        (tensors(INT4, None), "", "ct-w4a16", "compressed-tensors", 4),
        (tensors(INT4, None), "AWQModifier: {}", "awq-w4a16", "AWQ", 4),
        (tensors(INT8, INT8), "SmoothQuantModifier:", "smoothquant-w8a8", "SmoothQuant", 8),
        (tensors(FP8, FP8), "QuantizationModifier:", "ct-fp8", "compressed-tensors", 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {},
                "sparsity_config": {"sparsity_structure": "2:4"},
            },
            *("", "ct-2:4", "compressed-tensors", None),
        ),
        ({"quant_method": "hqq"}, "", "hqq", "hqq", None),
    ],
)
def test_each_library_s_config_is_named(
    config: dict[str, Any], recipe: str, name: str, family: str, bits: float | None
) -> None:
    """Method and bits, as the field writes them."""
    known = of_quantization_config(config, recipe)
    assert known is not None
    assert (known.name, known.family, known.bits) == (name, family, bits)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"quantization_config": 4}', '{"quantization_config": {}}']
)
def test_files_that_say_nothing_are_no_scheme(tmp_path: Path, content: str) -> None:
    """Damaged, of another kind, or of a model that is not compressed; nor a folder without any."""
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "compression.json").write_text("{}")
    assert recognised([tmp_path / "none", tmp_path]) is None


def test_a_folder_s_config_is_read(tmp_path: Path) -> None:
    """With the recipe beside it."""
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": tensors(INT8, INT8)}))
    (tmp_path / "recipe.yaml").write_text("default_stage: {SmoothQuantModifier: {}}\n")
    known = recognised([tmp_path / "none", tmp_path])
    assert known is not None
    assert (known.name, known.source) == ("smoothquant-w8a8", "config.json")
