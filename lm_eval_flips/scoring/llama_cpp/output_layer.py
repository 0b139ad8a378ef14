"""The output layer of a GGUF file as plain numbers, for a reference of hidden states."""

from __future__ import annotations

from lm_eval_flips.scoring.llama_cpp.model import LlamaModel
from lm_eval_flips.scoring.lm_head import StoredHead, UnreadableHeadError


def stored_head_of(model: LlamaModel, *, width: int) -> StoredHead:
    """The output layer of a model.

    Raises:
        UnreadableHeadError: it does not make llama.cpp's logits.
    """
    raise UnreadableHeadError(f"{model.path} {width}")
