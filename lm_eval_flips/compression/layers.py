"""The last layers of a model dropped, as in the paper's section on layer dropping."""

from __future__ import annotations

from typing import Any

from torch import nn

from lm_eval_flips.compression.making import Making
from lm_eval_flips.compression.modules import blocks
from lm_eval_flips.errors import FlipsError


def drop_last(making: Making) -> Any:
    """The model without its last blocks.

    Raises:
        FlipsError: it has no more blocks than that.
    """
    model = making.load()
    name, of_model = blocks(model)
    count, left = len(of_model), len(of_model) - int(making["count"])
    if left < 1:
        raise FlipsError(f"the model has {count} layers; drop {count - 1} at most")
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.ModuleList(list(of_model)[:left]))
    config = model.config.get_text_config()
    for key, value in vars(config).copy().items():
        if isinstance(value, (list, tuple)) and len(value) == count:  # one entry a layer
            setattr(config, key, type(value)(value[:left]))
    config.num_hidden_layers = left
    return model
