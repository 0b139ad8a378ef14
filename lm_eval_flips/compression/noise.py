"""Gaussian noise on weights: the paper's control, which is no compression at all."""

from __future__ import annotations

from typing import Any

import torch

from lm_eval_flips.compression.making import Making
from lm_eval_flips.compression.modules import matrices


def gaussian(making: Making) -> Any:
    """Every matrix of the blocks plus seeded noise, relative to its standard deviation."""
    model, generator = making.load(), making.generator()
    for matrix in matrices(model).values():
        weight = matrix.read()
        noise = torch.randn(weight.shape, generator=generator)
        matrix.write(weight + float(making["sigma"]) * weight.std() * noise)
    return model
