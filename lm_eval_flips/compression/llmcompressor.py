"""AWQ, SmoothQuant and plain rounding by llmcompressor, saved as compressed-tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lm_eval_flips.compression.making import Made, Making

IGNORED = ["lm_head"]  # the output layer stays, as in the library's own recipes
SMOOTHING = 0.8  # of the activations' range moved into the weights, as in the paper's LLaMA models
LONGEST = 512  # tokens of a text


def awq(making: Making) -> Made:
    """AWQ: weights scaled by what their inputs look like, then rounded to 4 bits."""
    from llmcompressor.modifiers.transform.awq import AWQModifier

    _stay_unpinned()
    return _made(making, [AWQModifier(), _rounding(making, weights=_groups(making))])


def smoothquant(making: Making) -> Made:
    """SmoothQuant: the activations' outliers moved into the weights, then both in 8 bits."""
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    _stay_unpinned()
    smooth = SmoothQuantModifier(smoothing_strength=SMOOTHING)
    return _made(making, [smooth, _rounding(making, scheme="W8A8")])


def w4a16(making: Making) -> Made:
    """4-bit weights, a scale a group, rounded to the nearest."""
    return _made(making, [_rounding(making, weights=_groups(making))], looks=False)


def w8a8(making: Making) -> Made:
    """8-bit weights a row and 8-bit activations a token, rounded to the nearest."""
    return _made(making, [_rounding(making, scheme="W8A8")], looks=False)


def fp8(making: Making) -> Made:
    """8-bit floating-point weights a row and activations a token."""
    return _made(making, [_rounding(making, scheme="FP8_DYNAMIC")], looks=False)


def _groups(making: Making) -> dict[str, Any]:
    return {
        "num_bits": int(making.parameters.get("bits", "4")),
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": making.group(),
    }


def _rounding(
    making: Making, *, scheme: str | None = None, weights: dict[str, Any] | None = None
) -> Any:
    """The modifier that rounds every linear layer but the output layer."""
    from llmcompressor.modifiers.quantization import QuantizationModifier

    if scheme is not None:
        return QuantizationModifier(targets=["Linear"], ignore=IGNORED, scheme=scheme)
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return QuantizationModifier(ignore=IGNORED, config_groups=groups)


def _made(making: Making, recipe: Sequence[Any], *, looks: bool = True) -> Made:
    """The model that a recipe makes, and how it is saved.

    ``looks``: at the texts.
    """
    from llmcompressor import oneshot

    model = making.load()
    given: dict[str, Any] = {}
    if looks:
        from datasets import Dataset

        rows = [
            dict(making.tokenizer(text, truncation=True, max_length=LONGEST))
            for text in making.texts
        ]
        given = {
            "dataset": Dataset.from_list(rows),
            "num_calibration_samples": len(rows),
            "shuffle_calibration_samples": False,
            "max_seq_length": LONGEST,
            "sequential_offload_device": "cpu",
        }
    oneshot(model=model, recipe=list(recipe), tokenizer=making.tokenizer, **given)

    def save(folder: Path) -> None:
        model.save_pretrained(folder, save_compressed=True)

    return Made(model=model, save=save)


def _stay_unpinned() -> None:
    """Leave tensors where they are: the library pins memory, which needs an accelerator."""
    if not torch.accelerator.is_available():
        torch.Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign]
        print("no accelerator: tensors are not pinned")  # noqa: T201  (the maker's own log)
