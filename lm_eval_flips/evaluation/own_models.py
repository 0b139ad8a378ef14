"""The models of this package by the names that the harness knows, and what each is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lm_eval_flips.evaluation.evaluations import Recording

TRANSFORMERS, LLAMA_CPP, VLLM = "flips-hf", "flips-gguf", "flips-vllm"
OWN_MODELS = (TRANSFORMERS, LLAMA_CPP, VLLM)
TOP = 100  # likeliest tokens that are kept of an engine that gives no hidden states
# What makes the batches of a noise floor others than they are by default.
OTHER_BATCHES: dict[str, dict[str, Any]] = {VLLM: {"max_num_seqs": 24}}
OTHER_PACK = {"pack_tokens": 384}


def recording_of(model: str, asked: Recording) -> Recording:
    """What is kept of a baseline, by the model that runs it.

    Example:
        >>> recording_of("flips-vllm", Recording()).top, recording_of("flips-hf", Recording()).top
        (100, None)
    """
    return replace(asked, top=TOP) if model == VLLM and asked.top is None else asked


def other_batches(model: str) -> dict[str, Any]:
    """Model arguments by which a model rounds otherwise."""
    return OTHER_BATCHES.get(model, OTHER_PACK)
