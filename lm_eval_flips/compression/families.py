"""Families of compressed models: one word for those that were made alike, by which they are shown.

A family is a library where that is what a model is known by (torchao, bitsandbytes), a method
(GPTQ, AWQ), a format (GGUF), or what was done to the weights (pruned, layers dropped, noise).
"""

from __future__ import annotations

from collections.abc import Iterable

TORCHAO = "torchao"
BITSANDBYTES = "bitsandbytes"
GPTQ = "GPTQ"
AWQ = "AWQ"
GGUF = "GGUF"
COMPRESSED_TENSORS = "compressed-tensors"
SMOOTHQUANT = "SmoothQuant"
ROUNDED = "round to nearest"
PRUNED = "pruned"
DROPPED = "layers dropped"
NOISE = "noise"
LOG_NOISE = "noise on log-probabilities"

# In the order in which a legend has them; any other word may be a family too.
FAMILIES = (
    *(TORCHAO, BITSANDBYTES, GPTQ, AWQ, GGUF, COMPRESSED_TENSORS, SMOOTHQUANT, ROUNDED),
    *(PRUNED, DROPPED, NOISE, LOG_NOISE),
)


def in_order(found: Iterable[str]) -> tuple[str, ...]:
    """Families in the order of the list, others behind them by name.

    Example:
        >>> in_order(["noise", "hqq", "GPTQ", "AutoRound"])
        ('GPTQ', 'noise', 'AutoRound', 'hqq')
    """
    known = {family: place for place, family in enumerate(FAMILIES)}
    return tuple(sorted(found, key=lambda own: (known.get(own, len(known)), own.lower())))
