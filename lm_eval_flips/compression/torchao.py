"""Weights, and activations, rounded by torchao; saved and loaded by transformers."""

from __future__ import annotations

from typing import Any

import torch

from lm_eval_flips.compression.making import Making


def int8(making: Making) -> Any:
    """8-bit weights, a scale a row."""
    from torchao.quantization import Int8WeightOnlyConfig

    return _rounded(making, Int8WeightOnlyConfig())


def int8_dynamic(making: Making) -> Any:
    """8-bit weights a row, and 8-bit activations a token."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return _rounded(making, Int8DynamicActivationInt8WeightConfig())


def weights_by_row(making: Making) -> Any:
    """Weights of some bits, a scale a row."""
    from torchao.quantization import IntxWeightOnlyConfig, PerAxis

    return _rounded(
        making, IntxWeightOnlyConfig(weight_dtype=_dtype(making), granularity=PerAxis(0))
    )


def weights_by_group(making: Making) -> Any:
    """Weights of some bits, a scale a group of columns."""
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup

    granularity = PerGroup(making.group())
    return _rounded(
        making, IntxWeightOnlyConfig(weight_dtype=_dtype(making), granularity=granularity)
    )


def fp8(making: Making) -> Any:
    """8-bit floating-point weights, a scale a row."""
    from torchao.quantization import Float8WeightOnlyConfig

    return _rounded(making, Float8WeightOnlyConfig())


def w4a8(making: Making) -> Any:
    """4-bit weights a group, and 8-bit activations a token."""
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, PerGroup

    int4 = torch.int4  # type: ignore[attr-defined]  # torch does not declare it
    granularity = PerGroup(making.group())
    return _rounded(
        making,
        Int8DynamicActivationIntxWeightConfig(weight_dtype=int4, weight_granularity=granularity),
    )


def _dtype(making: Making) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, f"int{making['bits']}")
    return dtype


def _rounded(making: Making, config: Any) -> Any:
    from transformers import TorchAoConfig

    return making.load(quantization_config=TorchAoConfig(config))
