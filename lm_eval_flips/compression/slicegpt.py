"""SliceGPT: the residual stream rotated to its principal components, the least of them cut off.

Ashkboos et al., ICLR 2024. The norms' weights go into the matrices behind them, after which a
rotation of the stream changes nothing (their theorem 1); what is then cut off is the variance of
the last components. The paper rotates every layer on its own and adds a matrix to each skip
connection for that. Here one rotation serves all layers, so what results is an ordinary, narrower
model of the same architecture.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from lm_eval_flips.compression.blockwise import token_ids
from lm_eval_flips.compression.making import Making
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.shapes import Float

KNOWN = ("llama", "mistral", "qwen2", "qwen3")  # pre-norm, RMSNorm, gated MLP
AHEAD = {  # each norm of a block, and the matrices that read what it gives
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
BEHIND = ("self_attn.o_proj", "mlp.down_proj")  # matrices that write into the stream


@torch.no_grad()
def sliced(making: Making) -> Any:
    """The model with a narrower residual stream.

    Raises:
        FlipsError: an architecture whose norms are others, or no component would be left.
    """
    model = making.load()
    if model.config.model_type not in KNOWN:
        raise FlipsError(
            f"{making.name} does not know the architecture {model.config.model_type}; it knows "
            f"{', '.join(KNOWN)}"
        )
    width = model.config.hidden_size
    # a width that the heads do not divide is refused when the model is loaded
    heads = model.config.num_attention_heads
    left = round(width * (1 - int(making["percent"]) / 100) / heads) * heads
    if not 0 < left <= width:
        raise FlipsError(f"{making.name} leaves none of {width} components")
    kept = principal_components(_covariance(model, making))[:, :left]
    dtype = model.dtype
    model = model.float()
    _fold_norms(model)
    return _narrowed(model, kept).to(dtype)


def principal_components(
    covariance: Float[Tensor, "width width"],
) -> Float[Tensor, "width width"]:
    """Eigenvectors as columns, those of the largest eigenvalues first.

    Example:
        >>> principal_components(torch.diag(torch.tensor([1.0, 3.0]))).abs()
        tensor([[0., 1.],
                [1., 0.]])
    """
    components: Tensor = torch.linalg.eigh(covariance).eigenvectors.flip(1)
    return components


def _covariance(model: Any, making: Making) -> Tensor:
    """Of what the norms of all layers give before their weights, over all tokens, float64."""
    total = torch.zeros(model.config.hidden_size, model.config.hidden_size, dtype=torch.float64)

    def add(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        signal = given[0].flatten(0, -2).double()
        signal = signal / signal.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        total.add_(signal.T @ signal)

    norms = [getattr(block, name) for block in model.model.layers for name in AHEAD]
    hooks = [norm.register_forward_pre_hook(add) for norm in (*norms, model.model.norm)]
    for ids in token_ids(making):
        model(ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return total


def _fold_norms(model: Any) -> None:
    """Move each norm's weights into the matrices that read it; the output layer is untied."""
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight * model.model.norm.weight)
    model.model.norm.weight.fill_(1)
    for block in model.model.layers:
        for name, readers in AHEAD.items():
            norm = getattr(block, name)
            for reader in map(block.get_submodule, readers):
                reader.weight.mul_(norm.weight)
            norm.weight.fill_(1)


def _narrowed(model: Any, kept: Tensor) -> Any:
    """The same model in the kept components of its stream."""
    width, left = kept.shape
    config = deepcopy(model.config)
    config.head_dim = _head_dim(model.config)
    config.hidden_size = left
    config.tie_word_embeddings = False
    # the norm of a token stays what it was, over fewer components
    config.rms_norm_eps = model.config.rms_norm_eps * width / left
    narrow = type(model)(config).eval()
    rotation = kept.float()
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    readers = [reader for names in AHEAD.values() for reader in names]
    for i in range(len(model.model.layers)):
        for name in readers:
            key = f"model.layers.{i}.{name}.weight"
            weights[key] = weights[key] @ rotation
        for name in BEHIND:
            key = f"model.layers.{i}.{name}.weight"
            weights[key] = rotation.T @ weights[key]
            if (bias := f"model.layers.{i}.{name}.bias") in weights:
                weights[bias] = weights[bias] @ rotation
        for name in AHEAD:
            weights[f"model.layers.{i}.{name}.weight"] = torch.full((left,), (width / left) ** 0.5)
    weights["model.norm.weight"] = torch.full((left,), (width / left) ** 0.5)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name] @ rotation
    narrow.load_state_dict(weights)
    narrow.generation_config = model.generation_config
    return narrow


def _head_dim(config: Any) -> int:
    given = getattr(config, "head_dim", None)
    return int(given or config.hidden_size // config.num_attention_heads)
