"""Lengths beyond which a model reads a request in another way, as its config tells them."""

from __future__ import annotations

import re
from typing import Any

# What configs call a layer that chooses the tokens it sees: DeepSeek-V3.2's indexer ("DSA"), also
# of GLM, A.X-K2 and others; blocks of tokens in MiniMax-M3 and Qwen 4; InfLLM-V2 of MiniCPM 4.
CHOOSING = re.compile(r"index\w*_top_?k|^indexer_|sparse_top_?k|^sparse_(attention_)?config$")
# It chooses among means of some tokens: even short requests are then read otherwise in a pack.
POOLING = ("compress_rates", "indexer_compress_ratio", "index_kpool")


def rescaled_beyond(config: Any) -> int | None:
    """The length beyond which positions mean something else; None if they never do."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [rope] if "rope_type" in rope or "type" in rope else list(rope.values())
    names = {kind.get("rope_type") or kind.get("type") for kind in kinds if isinstance(kind, dict)}
    if not names & {"dynamic", "longrope"}:
        return None
    original = [kind.get("original_max_position_embeddings") for kind in kinds]
    original.append(getattr(config, "original_max_position_embeddings", None))
    original.append(config.max_position_embeddings)
    return int(next(length for length in original if length))


def chooses_beyond(config: Any) -> int | None:
    """The length beyond which a layer chooses the tokens it sees; None if no layer does.

    Equal scores are common there, and which of two equal ones is chosen goes by their places, which
    a pack changes. 0 where the config does not tell the number as tokens.

    Example:
        >>> from types import SimpleNamespace
        >>> chooses_beyond(SimpleNamespace(index_topk=2048, index_n_heads=64))
        2048
        >>> chooses_beyond(SimpleNamespace(index_topk_blocks=16))
        0
        >>> chooses_beyond(SimpleNamespace(topk_group=4))
    """
    said = {name: value for name, value in vars(config).items() if value}
    if not any(CHOOSING.search(name) for name in said):
        return None
    pooled = any(said.get(name, 1) != 1 for name in POOLING)
    return 0 if pooled else int(said.get("index_topk", 0))
