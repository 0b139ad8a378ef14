"""Weights rounded by bitsandbytes: LLM.int8(), nf4 and fp4; saved and loaded by transformers."""

from __future__ import annotations

from typing import Any

from lm_eval_flips.compression.making import Made, Making


def int8(making: Making) -> Any:
    """LLM.int8(): 8-bit weights and activations, outlying columns apart."""
    return _rounded(making, load_in_8bit=True)


def four_bits(making: Making) -> Any:
    """4-bit weights in blocks of 64, the scales of which may be rounded too."""
    return _rounded(
        making,
        load_in_4bit=True,
        bnb_4bit_quant_type=making["kind"],
        bnb_4bit_use_double_quant="double" in making.parameters,
    )


def _rounded(making: Making, **given: Any) -> Any:
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    # on a CPU the first forward pass in bfloat16 packs the weights anew, for its kernel; saved
    # then, they come back as noise
    return Made(model=making.load(quantization_config=config(**given)), save_first=True)
