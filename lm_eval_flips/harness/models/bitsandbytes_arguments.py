"""bitsandbytes' model arguments, which transformers 5 takes as a config only."""

from __future__ import annotations

from typing import Any

from lm_eval_flips.scoring.transformers.loading import refuse_missing

PREFIXES = ("load_in_4bit", "load_in_8bit", "bnb_4bit_", "llm_int8_")


def as_config(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a model with those of bitsandbytes in a ``quantization_config``.

    Args:
        given: what the harness gives ``from_pretrained``, such as ``load_in_4bit=True``.

    Raises:
        FlipsError: bitsandbytes is not installed.

    Example:
        >>> as_config({"revision": "main", "load_in_4bit": False})
        {'revision': 'main'}
    """
    asked = {name: value for name, value in given.items() if name.startswith(PREFIXES)}
    others = {name: value for name, value in given.items() if name not in asked}
    if not (asked.get("load_in_4bit") or asked.get("load_in_8bit")):
        return others
    refuse_missing("bitsandbytes", what=f"{', '.join(asked)} is bitsandbytes'")
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    return {**others, "quantization_config": config(**asked)}
