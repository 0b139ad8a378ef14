"""What a model makes of fixed texts: the loss of every token, and its logits at some of them.

Two readings tell whether a model came back from the disk as it was saved, and how far it is from
its baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, nan
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lm_eval_flips.compression.texts import texts_of

KEPT = 16  # positions of a text whose logits are kept: the last ones, which know most
LEAST = 2  # tokens of a text, to predict one


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a model makes of the fixed texts.

    Args:
        losses: -log p of every token after its text's first, nats.
        logits: at the last positions of each text, float32.
        parameters: of the model, as it was loaded.
    """

    losses: Tensor
    logits: Tensor
    parameters: int

    @property
    def loss(self) -> float:
        """Mean loss of a token, nats."""
        return float(self.losses.mean())

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss; inf where that is too large to be written."""
        try:
            return exp(self.loss)
        except OverflowError:
            return float("inf")

    @property
    def guess(self) -> float:
        """The loss of a guess among all tokens, nats."""
        return log(self.logits.shape[1])

    def kl_to(self, other: Reading) -> float:
        """Mean KL(this ‖ other) over the vocabulary at the kept positions, nats.

        nan where the vocabularies differ, or a logit is no number.
        """
        if self.logits.shape != other.logits.shape:
            return nan
        p, q = (side.logits.double().log_softmax(-1) for side in (self, other))
        return max(float((p.exp() * (p - q)).sum(-1).mean()), 0.0)

    def difference(self, other: Reading) -> float:
        """The largest difference of a logit; nan where the vocabularies differ."""
        if self.logits.shape != other.logits.shape:
            return nan
        return float((self.logits - other.logits).abs().max())

    def save(self, file: Path) -> None:
        """Write it, for another process."""
        count = torch.tensor(self.parameters)
        tensors = {"losses": self.losses, "logits": self.logits, "parameters": count}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)

    @classmethod
    def load(cls, file: Path) -> Reading:
        """The reading that ``save`` wrote."""
        tensors = load_file(file)
        return cls(
            losses=tensors["losses"],
            logits=tensors["logits"],
            parameters=int(tensors["parameters"]),
        )


@torch.inference_mode()
def read(model: Any, tokenizer: Any) -> Reading:
    """Read the fixed texts, one at a time.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
    """
    model.eval()
    longest = _longest(model)
    return reading_by(
        lambda ids: _logits(model, ids),
        lambda text: tokenizer(text, return_tensors="pt").input_ids[:, :longest],
        parameters=int(model.num_parameters()),
    )


def reading_by(
    logits_of: Callable[[Tensor], Tensor],
    tokens_of: Callable[[str], Tensor],
    *,
    parameters: int,
) -> Reading:
    """Read the fixed texts, one at a time, by whatever runs a model.

    Args:
        logits_of: token ids ``[1, tokens]`` -> logits ``[tokens, vocabulary]``, float32.
        tokens_of: a text -> its token ids ``[1, tokens]``.
        parameters: of the model.
    """
    losses, kept = [], []
    for text in texts_of("proof"):
        ids = tokens_of(text)
        if ids.shape[1] < LEAST:
            continue
        logits = logits_of(ids)
        losses.append(_losses(logits, ids))
        kept.append(logits[-KEPT:])
    return Reading(losses=torch.cat(losses), logits=torch.cat(kept), parameters=parameters)


def _longest(model: Any) -> int:
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return most if isinstance(most, int) and most > LEAST else 1 << 20


def _logits(model: Any, ids: Tensor) -> Tensor:
    logits: Tensor = model(ids.to(model.device), use_cache=False).logits[0].float().cpu()
    return logits


def _losses(logits: Tensor, ids: Tensor) -> Tensor:
    """-log p of each token but the first."""
    return torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:].cpu(), reduction="none")
