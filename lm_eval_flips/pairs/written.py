"""What the written answers of both runs show, and what a judge says of them, sample by sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lm_eval_flips.pairs.metric import PairedMetric

SideName = Literal["baseline", "compressed"]
MARKED = ("empty", "invalid", "looped", "truncated")  # signs that an answer has or has not


def sign_of(metric: PairedMetric, side: SideName, name: str) -> Tensor | None:
    """One sign of one side's answers, ``[samples]`` as logged; None where there is none."""
    pairs = metric.pairs
    values = (pairs.baseline if side == "baseline" else pairs.compressed).signs.get(name)
    if values is None:
        return None
    return values[torch.from_numpy(metric.rows).to(values.device)]


def length(side: SideName) -> Callable[[PairedMetric], Tensor | None]:
    """The column of a side's lengths in characters."""
    return lambda metric: sign_of(metric, side, "length")


def mark(side: SideName, name: str) -> Callable[[PairedMetric], Tensor | None]:
    """The column of a side's answers that have a sign; None where the log tells not of all."""

    def column(metric: PairedMetric) -> Tensor | None:
        values = sign_of(metric, side, name)
        return None if values is None or values.isnan().any() else values > 0

    return column


def script_switched(metric: PairedMetric) -> Tensor | None:
    """Whether most letters are of another script; not so where either text has too few letters."""
    ours, theirs = (sign_of(metric, side, "script") for side in ("baseline", "compressed"))
    if ours is None or theirs is None:
        return None
    return ~ours.isnan() & ~theirs.isnan() & (ours != theirs)


def judged(name: str) -> Callable[[PairedMetric], Tensor | None]:
    """The column of what a judge said of each sample; nan where it said nothing."""

    def column(metric: PairedMetric) -> Tensor | None:
        found = metric.pairs.judged
        if found is None:
            return None
        values: Tensor = getattr(found, name)
        return values[torch.from_numpy(metric.rows).to(values.device)]

    return column
