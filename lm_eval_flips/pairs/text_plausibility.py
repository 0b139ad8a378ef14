"""Generated texts that cannot be right, or that were drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.pairs.checked_run import ENOUGH, MANY, SOME, Checked
from lm_eval_flips.pairs.findings import Finding

LONG = 100  # characters of a text that no model repeats for every prompt by chance
GENERATION = "Check the chat template, --gen_kwargs (until, max_gen_toks) and the server: rerun"


def text_findings(checked: Checked) -> Iterator[Finding]:
    """Texts that are empty, or the same for every prompt."""
    samples = checked.samples
    n, length = len(samples), samples.response_length
    empty = int((length == 0).sum())
    if empty >= SOME and empty >= ENOUGH * n:
        yield checked.finding(
            "empty",
            f"{checked.run} wrote nothing for {empty} of {n} samples",
            GENERATION,
            impossible=empty > 0.9 * n,
            blocks=empty > 0.5 * n,
        )
    asked = len(_distinct(samples.hashes["prompt"]))
    alike = len(_distinct(samples.response)) == 1 and empty < n
    if alike and asked >= MANY and len(_distinct(samples.hashes["target"])) > 1:
        yield checked.finding(
            "same_text",
            f"{checked.run} wrote the same text of {int(length[0])} characters for {asked} "
            "different prompts",
            GENERATION,
            impossible=int(length[0]) >= LONG,
            blocks=True,
        )


def _distinct(digests: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.unique(digests, axis=0)


def is_sampled(settings: dict[str, Any]) -> bool:
    """Whether answers were drawn at random, by the harness's settings of generation.

    Example:
        >>> is_sampled({"do_sample": True, "temperature": 0.6}), is_sampled({"temperature": 0.0})
        (True, False)
    """
    temperature = settings.get("temperature")
    cold = temperature is not None and not float(temperature) > 0
    return not cold and bool(settings.get("do_sample", temperature is not None))


def sampling_findings(checked: Checked) -> Iterator[Finding]:
    """Whether the texts were drawn at random."""
    settings = dict(checked.samples.sampling)
    if is_sampled(settings):
        told = ", ".join(f"{name} {str(value).lower()}" for name, value in settings.items())
        yield checked.finding(
            "sampled",
            f"{checked.run} drew its answers at random ({told}): flips hold the noise of drawing",
            "Give a second run of the baseline with --noise-floor, drawn with another seed, or "
            "rerun both with do_sample=false in --gen_kwargs",
            impossible=False,
        )
