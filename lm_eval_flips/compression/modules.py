"""A model's blocks and their matrices, whatever its architecture calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lm_eval_flips.errors import FlipsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A linear layer's weight in a block.

    ``turned``: the weight lies as inputs x outputs, as GPT-2's do, and not as outputs x inputs.
    """

    module: Any
    turned: bool

    @property
    def columns(self) -> int:
        """Number of its inputs."""
        return int(self.module.weight.shape[0 if self.turned else 1])

    def read(self) -> Tensor:
        """Its weights, outputs x inputs, float32."""
        weight: Tensor = self.module.weight.detach().float()
        return weight.T if self.turned else weight

    def write(self, weight: Tensor) -> None:
        """Replace its weights, in their own dtype.

        Args:
            weight: outputs x inputs.
        """
        self.module.weight.data.copy_(weight.T if self.turned else weight)


class StandIn(nn.Module):
    """Stands in a block's place, and has its attributes."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # what a model asks its blocks, such as their attention's kind
            return getattr(super().__getattr__("block"), name)


def blocks(model: Any) -> tuple[str, nn.ModuleList]:
    """The list of a model's blocks, and its name.

    Raises:
        FlipsError: there is no list with as many members as the config has layers.
    """
    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise FlipsError(
        f"{type(model).__name__} has no list of {count} blocks: this scheme does not know the "
        "architecture"
    )


def matrices(model: Any) -> dict[str, Matrix]:
    """Every linear layer in the blocks by name; embeddings and the output layer are none.

    Raises:
        FlipsError: the model has no blocks, or no linear layer in them.
    """
    name, of_model = blocks(model)
    found = {}
    for place, block in enumerate(of_model):
        for below, matrix in block_matrices(block).items():
            found[f"{name}.{place}.{below}"] = matrix
    if not found:
        raise FlipsError(
            f"{type(model).__name__} has no linear layers in its blocks: this scheme does not know "
            "the architecture"
        )
    return found


def block_matrices(block: nn.Module) -> dict[str, Matrix]:
    """The linear layers of one block by name."""
    found = {}
    for name, module in block.named_modules():
        turned = type(module).__name__ == "Conv1D"
        if isinstance(module, nn.Linear) or turned:
            found[name] = Matrix(module=module, turned=turned)
    return found
