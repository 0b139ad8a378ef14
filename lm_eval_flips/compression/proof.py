"""Is this model the compressed one that it is said to be? What three readings and its files tell.

The baseline, the compressed model in memory and the same loaded from the disk have read the same
fixed texts. A model that came back as another one, that is the baseline still, or that has lost
its language is named, with numbers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lm_eval_flips.compression.reading import Reading

# Rounding of other kernels than those in memory moves a model; as another model it moves further.
ROUNDING = 1e-4  # nats
SHARE = 0.25  # of what compression itself moved
NOTHING = 1e-9  # nats: below it lies no quantiser, only the order of sums
SIZE_BITS = {"F64": 64, "F32": 32, "I32": 32, "U32": 32, "I64": 64, "U64": 64, "F16": 16}
SIZE_BITS |= {"BF16": 16, "I16": 16, "U16": 16, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found of a compressed model.

    Args:
        perplexity: on the fixed texts, as it was loaded from the disk.
        baseline_perplexity: the baseline's.
        kl: mean KL(baseline ‖ compressed) over the vocabulary there, nats.
        reload_kl: mean KL(in memory ‖ loaded), nats; None where it was not made here.
        reload_difference: the largest difference of a logit; None as well.
        bytes: of its weight files.
        baseline_bytes: of the baseline's.
        bits_on_disk: bits of its tensors for each of the baseline's weights; scales and what was
            not compressed count too.
        faults: what is wrong with it, in sentences; none for a model that can be judged.
    """

    perplexity: float
    baseline_perplexity: float
    kl: float
    reload_kl: float | None
    reload_difference: float | None
    bytes: int
    baseline_bytes: int
    bits_on_disk: float
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weight files of a model: bytes, and bits of all tensors in them."""

    bytes: int
    bits: int


def prove(
    *,
    baseline: Reading,
    memory: Reading | None,
    loaded: Reading,
    weights: Weights,
    baseline_weights: Weights,
    packed: bool,
) -> Proof:
    """Hold a compressed model against its baseline, and against itself before it was saved.

    Args:
        baseline: what the baseline made of the fixed texts.
        memory: what the compressed model made of them before it was saved; None if not known.
        loaded: what it made of them when it was loaded.
        weights: its files.
        baseline_weights: the baseline's.
        packed: its scheme stores weights in fewer bytes.
    """
    kl = baseline.kl_to(loaded)
    reload_kl = None if memory is None else memory.kl_to(loaded)
    difference = None if memory is None else memory.difference(loaded)
    return Proof(
        perplexity=loaded.perplexity,
        baseline_perplexity=baseline.perplexity,
        kl=kl,
        reload_kl=reload_kl,
        reload_difference=difference,
        bytes=weights.bytes,
        baseline_bytes=baseline_weights.bytes,
        bits_on_disk=weights.bits / baseline.parameters,
        faults=tuple(
            _faults(
                baseline=baseline,
                memory=memory,
                loaded=loaded,
                same_size=packed and weights.bits >= baseline_weights.bits,
            )
        ),
    )


def _faults(
    *, baseline: Reading, memory: Reading | None, loaded: Reading, same_size: bool
) -> Iterable[str]:
    kl = baseline.kl_to(loaded)
    if not isfinite(loaded.loss):
        yield "it gives no numbers (nan or inf)"
        return
    if memory is not None:
        moved = memory.kl_to(loaded)
        if not moved <= max(ROUNDING, SHARE * baseline.kl_to(memory)):
            yield (
                f"it came back from the disk as another model: perplexity {loaded.perplexity:.4g}, "
                f"in memory {memory.perplexity:.4g} (KL {moved:.3g})"
            )
    if kl <= NOTHING:
        yield "nothing changed: it answers as the baseline does"
    if same_size:
        yield "its files hold as many bits as the baseline's: nothing was packed"
    if baseline.loss < baseline.guess <= loaded.loss:
        yield (
            f"it is destroyed: perplexity {loaded.perplexity:.4g}, the baseline's "
            f"{baseline.perplexity:.4g}, and of a guess among all tokens {exp(baseline.guess):.4g}"
        )


def weights_of(files: Iterable[Path]) -> Weights:
    """Count a model's weight files.

    Of safetensors the tensors' own sizes are summed; of other files, their bytes.
    """
    files = list(files)
    total = sum(file.stat().st_size for file in files)
    bits = sum(
        _tensor_bits(file) if file.suffix == ".safetensors" else 8 * file.stat().st_size
        for file in files
    )
    return Weights(bytes=total, bits=bits)


def _tensor_bits(file: Path) -> int:
    """Bits of all tensors of a safetensors file, by its header."""
    with file.open("rb") as content:
        (length,) = struct.unpack("<Q", content.read(8))
        header = json.loads(content.read(length))
    return sum(
        SIZE_BITS.get(tensor["dtype"], 8) * prod(tensor["shape"])
        for name, tensor in header.items()
        if name != "__metadata__"
    )
