"""Registers the models with the harness; lm_eval 0.4.14 finds them by entry point."""

from __future__ import annotations

# Registering before the built-ins are there would keep lm_eval from ever loading them.
import lm_eval.models  # noqa: F401
from lm_eval.api.registry import model_registry

from lm_eval_flips.harness.models import flips_gguf, flips_hf

__all__ = ["flips_gguf", "flips_hf"]

# importing vLLM takes seconds, and it may not be there
if "flips-vllm" not in model_registry:
    model_registry.register(
        "flips-vllm", target="lm_eval_flips.harness.models.flips_vllm:FlipsVLLM"
    )
