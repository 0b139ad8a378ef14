"""Tiny random causal language models, built from seeded configs, and what each says by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from lm_eval_flips.scoring.requests import TokenRequest

TOKENS = 97
WINDOW = 12  # tokens that a sliding layer sees
LONGEST = 128  # positions that a model has
FEW_SHOT = 40  # tokens before the questions of `few_shot`

_SIZES: dict[str, Any] = {
    "vocab_size": TOKENS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": LONGEST,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
_GPT: dict[str, Any] = {"n_positions": LONGEST, "n_embd": 32, "n_layer": 2, "n_head": 4}
_WIDE: dict[str, Any] = {"head_dim": 8}
_SLIDING: dict[str, Any] = {"sliding_window": WINDOW}
_MIXED: dict[str, Any] = {**_SLIDING, "layer_types": ["sliding_attention", "full_attention"]}
_MIXTURE: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ROUTED: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}
_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e4}
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 24,
}
_LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}

# What each config says beyond the sizes. Up to a space, a key is transformers' name of the model.
PACKED: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama tied": {"tie_word_embeddings": True},
    "qwen2": {},
    "qwen2 sliding": {**_SLIDING, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": _WIDE,
    "qwen3 sliding": {**_MIXED, **_WIDE, "use_sliding_window": True},
    "mistral": _SLIDING,
    "mistral full": {"sliding_window": None},
    "ministral": {**_MIXED, **_WIDE},
    "gemma": _WIDE,
    "gemma2": {
        **_MIXED,
        **_WIDE,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {**_MIXED, **_WIDE},
    "phi": {},
    "phi3": {},
    "phi3 sliding": _SLIDING,
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gptj": {**_GPT, "rotary_dim": 4},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "falcon": {"new_decoder_architecture": False, "alibi": False},
    "stablelm": {},
    "starcoder2": _SLIDING,
    "granite": {"logits_scaling": 4.0, "residual_multiplier": 0.5},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {**_MIXED, "logit_scale": 0.25},
    "olmo": {},
    "olmo2": {},
    "olmo3": _MIXED,
    "smollm3": {},
    "exaone4": _MIXED,
    "glm4": _WIDE,
    "gpt_oss": {**_MIXED, **_MIXTURE, **_WIDE, "rope_parameters": _ROPE},
    "mixtral": {**_MIXTURE, "sliding_window": None},
    "mixtral sliding": {**_MIXTURE, **_SLIDING},
    "phimoe": _MIXTURE,
    "granitemoe": {**_MIXTURE, "logits_scaling": 4.0},
    "qwen2_moe": _ROUTED,
    "qwen3_moe": {**_ROUTED, **_WIDE},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": _LATENT,
}
RECURRENT: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 4},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 16},
    "falcon_mamba": {"state_size": 4},
    "rwkv": {"context_length": LONGEST, "attention_hidden_size": 32},
    "jamba": {
        "num_experts": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
    },
    "qwen3_next": {**_ROUTED, **_WIDE, **_LINEAR},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "minimax": {**_MIXTURE, **_WIDE, "layer_types": ["linear_attention", "full_attention"]},
}
COUNTING: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "mpt": {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": LONGEST,
        "expansion_ratio": 2,
    },
    "falcon alibi": {"new_decoder_architecture": False, "alibi": True},
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1]],
        "window_size": WINDOW,
        "num_layers": 2,
        "num_heads": 4,
    },
    "llama4_text": {
        **_WIDE,
        "layer_types": ["chunked_attention", "full_attention"],
        "attention_chunk_size": WINDOW,
        "num_local_experts": 4,
        "intermediate_size_mlp": 48,
        "no_rope_layers": [1, 0],
        "interleave_moe_layer_step": 1,
    },
}
# Of each query's tokens an indexer chooses a few; CHOSEN are fewer than the tests' requests have.
CHOSEN = 8
_CHOOSING: dict[str, Any] = {
    **_LATENT,
    "index_topk": CHOSEN,
    "index_n_heads": 2,
    "index_head_dim": 8,
}
CHOOSING: dict[str, dict[str, Any]] = {
    "deepseek_v32": _CHOOSING,
    "axk2": {**_CHOOSING, "n_group": None, "topk_group": None},
    "glm_moe_dsa": _CHOOSING,
}
EAGER_ONLY = {
    *("bloom", "falcon_mamba", "gemma2", "gpt_neo", "gpt_oss", "mamba", "mamba2", "mpt", "rwkv")
}


def kinds(names: Sequence[str]) -> list[tuple[str, str]]:
    """Each name with each attention implementation that its model has."""
    return [
        (name, attention)
        for name in names
        for attention in ("eager", "sdpa")
        if attention == "eager" or name not in EAGER_ONLY
    ]


def build(
    name: str, *, attention: str = "eager", dtype: torch.dtype = torch.float32, **more: Any
) -> Any:
    """A model with the same weights each time, large enough that every token it sees matters."""
    own = {**PACKED, **RECURRENT, **COUNTING, **CHOOSING}[name]
    config = AutoConfig.for_model(name.split()[0], **{**_SIZES, **own, **more})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind: Any = AutoModelForCausalLM
        model = kind.from_config(config, attn_implementation=attention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                weight.copy_(noise / 4)
            else:
                weight.add_(noise / 20)
    return model.to(dtype).eval()


def logprobs(model: Any, request: TokenRequest) -> Tensor:
    """Log-probabilities after each scored position, from the model alone, ``[scored, tokens]``."""
    with torch.no_grad():
        read = model(input_ids=torch.from_numpy(request.fed)[None], use_cache=False)
    logits: Tensor = read.logits[0]
    return logits[request.first_scored :].float().log_softmax(-1)


def tokens(count: int, seed: int) -> list[int]:
    """Random tokens, none of them special."""
    return [int(token) for token in np.random.default_rng(seed).integers(3, TOKENS, count)]


def few_shot(*, questions: int = 5, choices: int = 3, shots: int = FEW_SHOT) -> list[TokenRequest]:
    """Questions behind the same examples, each with choices of one token, two, three, ..."""
    examples = tokens(shots, 0)
    return [
        TokenRequest.of(
            [*examples, *tokens(5, 1 + question)],
            tokens(1 + choice, 100 + 10 * question + choice),
            max_length=LONGEST,
        )
        for question in range(questions)
        for choice in range(choices)
    ]


@contextmanager
def forward(model: Any, changed: Callable[..., Any]) -> Iterator[None]:
    """The model with ``changed(own_forward, **arguments)`` in the place of its forward."""
    own = model.forward

    @wraps(own)
    def wrapper(**arguments: Any) -> Any:
        return changed(own, **arguments)

    model.forward = wrapper
    try:
        yield
    finally:
        del model.forward
