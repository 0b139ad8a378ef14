"""Schemes as people name them; and what must stay unknown."""

from __future__ import annotations

from typing import Any

import pytest

from lm_eval_flips.compression.guessed import UNKNOWN, scheme_of


@pytest.mark.parametrize(
    ("model", "folder", "arguments", "scheme"),
    [
        ("org/Llama-3-8B-GPTQ-Int4", "runs", {}, "gptq int4"),
        ("org/Qwen2.5-7B-Instruct-AWQ", "run", {}, "awq"),
        ("RedHatAI/Llama-3.1-8B-quantized.w8a8", "a", {}, "w8a8"),
        ("Mistral-7B-v0.3.Q4_K_M.gguf", "m", {}, "gguf q4_k_m"),
        ("llama-IQ3_XXS", "m", {}, "gguf iq3_xxs"),
        ("/models/SmolLM2-135M-int8/", "x", {}, "int8"),
        ("org/model-bnb-4bit", "x", {}, "bitsandbytes 4-bit"),
        ("org/llama-wanda-pruned", "x", {}, "wanda"),
        ("org/llama-pruned50", "pruned", {}, "pruned"),
        ("org/llama", "gptq-w4a16-10", {}, "gptq w4a16"),
        ("org/llama-gptq", "gptq-w4a16", {}, "gptq w4a16"),
        ("org/llama", "x", {"load_in_8bit": True}, "bitsandbytes int8"),
        (
            "org/llama",
            "x",
            {"load_in_4bit": "True", "bnb_4bit_quant_type": "nf4"},
            "bitsandbytes nf4",
        ),
        ("org/llama", "x", {"quantization": "gptq_marlin"}, "gptq"),
        ("org/llama", "x", {"quantization": "fp8"}, "fp8"),
        ("org/llama", "x", {"autogptq": "model.safetensors"}, "gptq"),
        ("org/llama", "x", {"gguf_file": "llama.Q8_0.gguf"}, "gguf q8_0"),
        (
            "org/llama",
            "x",
            {"quantization_config": {"quant_method": "awq", "bits": 4}},
            "awq 4-bit",
        ),
    ],
)
def test_a_scheme_is_told_by_arguments_or_names(
    model: str, folder: str, arguments: dict[str, Any], scheme: str
) -> None:
    """A method, a format, or both."""
    assert scheme_of(model, folder, arguments) == scheme


@pytest.mark.parametrize(
    ("model", "folder", "arguments"),
    [
        ("org/Llama-3-8B", "run-7", {}),
        ("microsoft/phi-4", "v4", {}),
        ("org/bitnet-1.58bit", "x", {}),
        ("org/sprint8-awqward", "x", {}),
        ("org/llama-int4", "int8", {}),
        ("org/llama-awq-gptq", "x", {}),
        ("org/llama", "x", {"load_in_4bit": False, "quantization": None}),
        ("org/llama", "x", {"load_in_8bit": True, "quantization": "awq"}),
    ],
)
def test_what_is_not_told_or_contradicts_itself_is_unknown(
    model: str, folder: str, arguments: dict[str, Any]
) -> None:
    """Never wrong rather than unknown."""
    assert scheme_of(model, folder, arguments) == UNKNOWN


def test_arguments_count_before_names() -> None:
    """The name may be that of the model it was made of."""
    assert scheme_of("org/llama-int4", "int4", {"load_in_8bit": True}) == "bitsandbytes int8"
