"""GGUF files of small models: written from transformers models, or from other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType as Type

# What a token is, as the format numbers it.
NORMAL, CONTROL = 1, 3
ALWAYS_F32 = 1  # tensors of one dimension stay as they are
FILE_TYPES = {
    Type.F32: gguf.LlamaFileType.ALL_F32,
    **{
        kind: gguf.LlamaFileType[f"MOSTLY_{kind.name}"]
        for kind in (Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0)
    },
}


def write_gguf(folder: Path, target: Path, kind: Type = Type.F32, **metadata: Any) -> Path:
    """A transformers Llama as a GGUF file, its matrices in the type asked for.

    Args:
        folder: the model and its byte-level BPE tokenizer, as transformers saves them.
        target: the file to write.
        kind: type of all tensors of two dimensions.
        metadata: strings and flags that take the place of what is written by default, by their
            key, in which ``__`` stands for a dot.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    writer = gguf.GGUFWriter(target, "llama")
    config = model.config
    heads, kept = config.num_attention_heads, config.num_key_value_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kept)
    writer.add_rope_dimension_count(config.hidden_size // heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(int(FILE_TYPES[kind]))
    _write_tokenizer(writer, AutoTokenizer.from_pretrained(folder), folder, config.vocab_size)
    for key, value in metadata.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_string
        add(key.replace("__", "."), value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    weights = model.state_dict()
    if config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    for name, weight in weights.items():
        array = weight.numpy()
        if name.endswith("q_proj.weight"):
            array = _interleaved(array, heads)
        elif name.endswith("k_proj.weight"):
            array = _interleaved(array, kept)
        named = names.get_name(name, try_suffixes=(".weight", ".bias"))
        _add(writer, str(named), array, kind)
    return _finished(writer, target)


def _add(writer: Any, name: str, array: Any, kind: Type) -> None:
    array = np.ascontiguousarray(array, np.float32)
    if array.ndim <= ALWAYS_F32 or kind == Type.F32:
        writer.add_tensor(name, array)
    elif kind == Type.F16:
        writer.add_tensor(name, array.astype(np.float16))
    else:
        writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)


def _finished(writer: Any, target: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _interleaved(weight: Any, heads: int) -> Any:
    """Rows of a query or key matrix in the order in which llama.cpp rotates them."""
    rows, columns = weight.shape
    return (
        weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


def _write_tokenizer(writer: Any, tokenizer: Any, folder: Path, size: int) -> None:
    saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    special = set(tokenizer.all_special_tokens)
    by_id = {index: text for text, index in tokenizer.get_vocab().items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([by_id.get(index, f"[PAD{index}]") for index in range(size)])
    kinds = [CONTROL if by_id.get(index) in special else NORMAL for index in range(size)]
    writer.add_token_types([kind if index in by_id else 5 for index, kind in enumerate(kinds)])
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in saved["merges"]]
    # a format without an empty list: two control bytes, which no text holds side by side
    writer.add_token_merges(merges or ["Ā ā"])
    for name in ("bos", "eos", "pad"):
        token = getattr(tokenizer, f"{name}_token_id")
        if token is not None:
            getattr(writer, f"add_{name}_token_id")(token)
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
