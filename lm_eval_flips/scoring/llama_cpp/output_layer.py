"""The output layer of a GGUF file as plain numbers, for a reference of hidden states.

llama.cpp rounds a hidden state to what the layer's weights are stored in before it multiplies:
with weights of 16 bits the state loses nothing by being stored in 16 bits too. What quantised
weights do to it is not done again here; of such a file the most likely tokens can be recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.scoring.llama_cpp.context import Context, Decoded, Tokens
from lm_eval_flips.scoring.llama_cpp.files import parts_of
from lm_eval_flips.scoring.llama_cpp.model import LlamaModel
from lm_eval_flips.scoring.lm_head import StoredHead, UnreadableHeadError
from lm_eval_flips.scoring.vocabulary import vocabulary_distances

NAMES = ("output.weight", "token_embd.weight")  # the second where the first is missing: tied
BIAS = "output.bias"
PROBED = 48  # tokens
SAME = 1e-6  # nats; rounding of float32 gives about 1e-9
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def stored_head_of(model: LlamaModel) -> StoredHead:
    """The output layer of a model.

    Raises:
        UnreadableHeadError: it does not make llama.cpp's logits.
    """
    tensors = _tensors(model)
    found = next((tensors[name] for name in NAMES if name in tensors), None)
    if found is None:
        raise UnreadableHeadError("the file has no output layer")
    weight, kind = found
    if kind not in DTYPES:
        raise UnreadableHeadError(f"its output layer is quantised ({kind})")
    probe = _probed(model)
    bias = tensors[BIAS][0] if BIAS in tensors else None
    for scale, cap in product(_scales(model), _caps(model)):
        stored = StoredHead(weight=weight, bias=bias, scale=scale, cap=cap, widened=kind != "F32")
        if _apart(stored, probe) < SAME:
            return stored
    raise UnreadableHeadError("its output layer does not make llama.cpp's logits")


def _tensors(model: LlamaModel) -> dict[str, tuple[Tensor, str]]:
    """The tensors of the output layer, in the numbers in which they are stored, and their kinds."""
    from gguf import GGUFReader, dequantize

    wanted: dict[str, tuple[Tensor, str]] = {}
    for part in parts_of(model.path):
        for tensor in GGUFReader(part).tensors:
            if tensor.name in (*NAMES, BIAS):
                kind = tensor.tensor_type.name
                plain = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
                wanted[tensor.name] = (plain.to(DTYPES.get(kind, torch.float32)), kind)
    return wanted


def _probed(model: LlamaModel) -> Decoded:
    """What llama.cpp itself says behind some tokens, and the hidden states that made it."""
    context = Context(model, cells=PROBED, batch=PROBED, sequences=1, hidden=True)
    count = min(PROBED, model.longest)
    drawn = np.random.default_rng(0).integers(0, model.vocabulary.size, count)
    decoded = context.decode(
        Tokens(
            ids=drawn,
            positions=np.arange(count),
            first=np.zeros(count, np.int64),
            last=np.ones(count, np.int64),
            wanted=np.ones(count, bool),
        )
    )
    kept = Decoded(logits=decoded.logits.clone(), hidden=decoded.hidden)
    context.close()
    return kept


def _apart(stored: StoredHead, probe: Decoded) -> float:
    if probe.hidden is None:
        raise UnreadableHeadError("llama.cpp gives no hidden states")
    rebuilt = stored.head.logits(probe.hidden.to(stored.weight.dtype))
    return float(vocabulary_distances(baseline=probe.logits, compressed=rebuilt).kl.max())


def _scales(model: LlamaModel) -> Iterator[float]:
    architecture = model.metadata("general.architecture")
    factor = float(model.metadata(f"{architecture}.logit_scale") or 0)
    yield from (1.0,) if not factor else (factor, 1 / factor, 1.0)


def _caps(model: LlamaModel) -> Iterator[float]:
    architecture = model.metadata("general.architecture")
    cap = float(model.metadata(f"{architecture}.final_logit_softcapping") or 0)
    yield from (0.0,) if not cap else (cap, 0.0)
