"""The structs of llama.cpp's C interface that are handed over by value, and whether they fit.

A binary tells nothing of its structs. What it fills in by default does: each field of a layout has
to hold its known default at its place. One that was put in, taken out or moved shows.
"""

from __future__ import annotations

import ctypes
from ctypes import c_bool, c_float, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from typing import Any

ROOM = 512  # bytes that hold any version's struct


class Room(ctypes.Structure):
    """Bytes that a library may fill with more than is known of."""

    _fields_ = [("content", ctypes.c_uint8 * ROOM)]


class ModelParams(ctypes.Structure):
    """How a model is loaded (``struct llama_model_params``)."""

    _fields_ = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    ]


_CONTEXT: list[tuple[str, Any]] = [
    ("n_ctx", c_uint32),
    ("n_batch", c_uint32),
    ("n_ubatch", c_uint32),
    ("n_seq_max", c_uint32),
    ("n_rs_seq", c_uint32),
    ("n_outputs_max", c_uint32),
    ("n_outputs_max_per_seq", c_uint32),
    ("n_threads", c_int32),
    ("n_threads_batch", c_int32),
    ("ctx_type", c_int32),
    ("rope_scaling_type", c_int32),
    ("pooling_type", c_int32),
    ("attention_type", c_int32),
    ("flash_attn_type", c_int32),
    ("rope_freq_base", c_float),
    ("rope_freq_scale", c_float),
    ("yarn_ext_factor", c_float),
    ("yarn_attn_factor", c_float),
    ("yarn_beta_fast", c_float),
    ("yarn_beta_slow", c_float),
    ("yarn_orig_ctx", c_uint32),
    ("defrag_thold", c_float),
    ("cb_eval", c_void_p),
    ("cb_eval_user_data", c_void_p),
    ("type_k", c_int32),
    ("type_v", c_int32),
    ("abort_callback", c_void_p),
    ("abort_callback_data", c_void_p),
    ("embeddings", c_bool),
    ("offload_kqv", c_bool),
    ("no_perf", c_bool),
    ("op_offload", c_bool),
    ("swa_full", c_bool),
    ("kv_unified", c_bool),
    ("samplers", c_void_p),
    ("n_samplers", c_size_t),
    ("ctx_other", c_void_p),
]
_BEHIND_TYPES = [name for name, _ in _CONTEXT].index("type_v") + 1


class ContextParams(ctypes.Structure):
    """How a model is run (``struct llama_context_params``), without what came in since August 2026.

    The attributes that are set here are those of every layout.
    """

    _fields_ = _CONTEXT


class LaterContextParams(ctypes.Structure):
    """The same of October 2026: eight bytes more behind the types of the cache, which stay 0."""

    _fields_ = [
        *_CONTEXT[:_BEHIND_TYPES],
        ("later", c_void_p),
        *_CONTEXT[_BEHIND_TYPES:],
    ]


class Batch(ctypes.Structure):
    """Tokens to compute (``struct llama_batch``)."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", ctypes.POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", ctypes.POINTER(c_int32)),
        ("n_seq_id", ctypes.POINTER(c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(c_int32))),
        ("logits", ctypes.POINTER(c_int8)),
    ]


# What a library fills in where it is not 0 or null. Where a version may choose, all that are known.
_MODEL_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "n_gpu_layers": (-1, 0, 999),
    "split_mode": (1,),
    "load_mode": (-1, 0, 1),
    "lazy_mode": (0, 1),
    "use_extra_bufts": (True,),
    "load_mtp": (False, True),
}
_CONTEXT_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "n_ctx": (512,),
    "n_batch": (2048,),
    "n_ubatch": (512,),
    "n_seq_max": (1,),
    "n_outputs_max_per_seq": (1,),
    "n_threads": (4,),
    "n_threads_batch": (4,),
    "rope_scaling_type": (-1,),
    "pooling_type": (-1,),
    "attention_type": (-1,),
    "flash_attn_type": (-1,),
    "yarn_ext_factor": (-1.0,),
    "yarn_attn_factor": (-1.0,),
    "yarn_beta_fast": (-1.0,),
    "yarn_beta_slow": (-1.0,),
    "defrag_thold": (-1.0,),
    "type_k": (1,),
    "type_v": (1,),
    "offload_kqv": (True,),
    "no_perf": (True,),
    "op_offload": (True,),
    "swa_full": (True,),
}
DEFAULTS = {
    ModelParams: _MODEL_DEFAULTS,
    ContextParams: _CONTEXT_DEFAULTS,
    LaterContextParams: _CONTEXT_DEFAULTS,
}


def misfit(struct: type[ctypes.Structure], content: bytes) -> str | None:
    """The first field whose place does not hold its default; None if the layout fits.

    Args:
        struct: one of ``DEFAULTS``.
        content: what a library fills in by default, at least as many bytes as the struct has.

    Example:
        >>> misfit(ContextParams, bytes(ROOM))
        'n_ctx is 0'
    """
    filled = struct.from_buffer_copy(content[: ctypes.sizeof(struct)])
    flags = [name for name, kind in _fields(struct) if kind is c_bool]
    for name, _ in _fields(struct):
        value = getattr(filled, name)
        place = getattr(struct, name).offset
        # a bool reads as true whatever its byte holds
        if name in flags and content[place] > 1:
            return f"{name} is {content[place]}"
        if value not in DEFAULTS[struct].get(name, (0, None)):
            return f"{name} is {value}"
    return None


def _fields(struct: type[ctypes.Structure]) -> list[tuple[str, Any]]:
    return [(field[0], field[1]) for field in struct._fields_]
