"""Two models from their folders, for what each block of the compressed one costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm_eval_flips.compression.block_costs import BlockCosts, block_costs
from lm_eval_flips.compression.texts import texts_of
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.transformers.loading import refuse_unloadable

DTYPES = ("auto", "float32", "bfloat16", "float16")


def costs_of(
    baseline: str, compressed: str, *, dtype: str = "auto", tokens: int = 500
) -> BlockCosts:
    """What each block of a compressed model costs, on texts that no benchmark holds.

    Args:
        baseline: the model that was compressed, as transformers loads it.
        compressed: the compressed one.
        dtype: to load both in; "auto" for each one's own.
        tokens: the most tokens to read.

    Raises:
        FlipsError: one of them cannot be loaded here, or their blocks do not fit each other.
    """
    if dtype not in DTYPES:
        raise FlipsError(f"--dtype {dtype} is none of {', '.join(DTYPES)}")
    if tokens < 2:
        raise FlipsError(f"--tokens {tokens} leaves nothing to predict; give at least 2")
    for model in (baseline, compressed):
        _refuse(model)
    from transformers import AutoTokenizer

    tokenizer = _loaded(AutoTokenizer, baseline)
    return block_costs(
        _model(baseline, dtype), _model(compressed, dtype), _texts(tokenizer, tokens)
    )


def _refuse(model: str) -> None:
    if model.endswith(".gguf") or any(Path(model).glob("*.gguf")):
        raise FlipsError(
            f"'{model}' is a GGUF file, whose blocks llama.cpp does not let be swapped; give "
            "models of transformers"
        )
    refuse_unloadable(Path(model))


def _model(name: str, dtype: str) -> Any:
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return _loaded(AutoModelForCausalLM, name, dtype=dtype).to(device)


def _loaded(loader: Any, name: str, **given: Any) -> Any:
    try:
        return loader.from_pretrained(name, **given)
    except (OSError, ValueError, ImportError) as error:
        first = str(error).strip().splitlines()[0]
        raise FlipsError(f"'{name}' cannot be loaded: {first}") from None


def _texts(tokenizer: Any, tokens: int) -> list[Tensor]:
    """The proof's texts, then those that schemes are calibrated with, up to so many tokens."""
    read: list[Tensor] = []
    for text in (*texts_of("proof"), *texts_of("calibration")):
        ids: Tensor = tokenizer(text, return_tensors="pt").input_ids[:, :tokens]
        if ids.shape[1] > 1:
            read.append(ids)
            tokens -= ids.shape[1]
        if tokens <= 1:
            break
    return read
