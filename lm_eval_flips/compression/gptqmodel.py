"""GPTQ by gptqmodel: weights rounded column by column, the error given to those that follow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lm_eval_flips.compression.making import Made, Making
from lm_eval_flips.errors import FlipsError

WORKERS = "GPTQMODEL_CPU_WORKERS"  # without it the library asks a CPU for more than it has


def gptq(making: Making) -> Made:
    """Weights of some bits, a scale a group.

    Raises:
        FlipsError: the library does not know the architecture.
    """
    os.environ.setdefault(WORKERS, "2")
    from gptqmodel import GPTQModel, QuantizeConfig

    # in memory, so that what is saved can be held against it
    config = QuantizeConfig(
        bits=int(making["bits"]), group_size=making.group(), offload_to_disk=False
    )
    try:
        quantised = GPTQModel.load(str(making.source), config)
    except TypeError as error:
        raise FlipsError(f"gptqmodel does not know this architecture: {error}") from None
    quantised.quantize(
        [dict(making.tokenizer(text)) for text in making.texts],
        batch_size=1,
        tokenizer=making.tokenizer,
    )

    def save(folder: Path) -> Any:
        quantised.save(str(folder))
        # what lies packed in memory does not compute as it will: the library's own loading does
        return GPTQModel.load(str(folder), device="cpu").model

    return Made(model=quantised.model, save=save, save_first=True)
