"""GGUF files, by llama.cpp's quantiser or, for plain types, by the format's own library."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.compression.maker import GGUF
from lm_eval_flips.compression.making import Made, Making
from lm_eval_flips.compression.reading import Reading, reading_by
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.context import Context, Tokens
from lm_eval_flips.scoring.llama_cpp.model import Computing, LlamaModel
from lm_eval_flips.scoring.llama_cpp.quantising import file_type_of, quantise

WHOLE = ("F32", "F16", "BF16")  # types of files that nothing has compressed yet


def quantised(making: Making) -> Made:
    """A file of the type that the scheme's name ends in.

    Raises:
        FlipsError: the source is quantised already, or nothing here makes that type.
    """
    kind, source = making["type"].upper(), making.source
    if (own := file_type_of(source)) not in WHOLE:
        raise FlipsError(
            f"'{source}' is compressed already ({own}); give the file of 16 or 32 bits that it was "
            "made of"
        )
    making.folder.mkdir()
    target = making.folder / f"{source.stem}-{kind}{GGUF}"
    quantise(source, target, kind, threads=os.cpu_count() or 1)
    return Made(model=None)


def read_file(file: Path) -> Reading:
    """What a GGUF file's model makes of the fixed texts, by llama.cpp and the file's own tokenizer.

    Raises:
        FlipsError: llama.cpp is missing, or cannot load the file.
    """
    threads = os.cpu_count() or 1
    computing = Computing(threads=threads, cache_type="f32", flash_attention="off")
    model = LlamaModel(file, computing)

    def tokens(text: str) -> Tensor:
        ids = model.vocabulary.encode(text, add_special=True)[: model.longest]
        return torch.tensor([ids])

    def logits(ids: Tensor) -> Tensor:
        count = ids.shape[1]
        context = Context(model, cells=count, batch=count, sequences=1)
        one = np.zeros(count, np.int64)
        fed = Tokens(
            ids=ids[0].numpy(),
            positions=np.arange(count),
            first=one,
            last=one + 1,
            wanted=np.ones(count, np.bool_),
        )
        own = context.decode(fed).logits.clone()
        context.close()
        return own

    return reading_by(logits, tokens, parameters=model.parameters)
