"""One run's half of the pairs, as tensors whose rows are the pairs' samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One run's half of the pairs: tensors whose rows are the pairs' samples, float64.

    Log-likelihoods are nats, ``[n, choices]``, -inf beyond a sample's own choices; the metrics are
    as logged, nan where a sample lacks one; ``response`` are digests of all that
    was written, and ``signs`` what such answers show of themselves. ``draws`` and ``seeds`` are
    those of several runs (``Samples``).
    """

    loglikelihoods: Tensor
    unconditional: Tensor | None
    answer: Tensor
    response: Tensor
    request_keys: NDArray[np.uint64] | None
    metrics: Mapping[str, Tensor]
    units: Mapping[str, Tensor]
    line: NDArray[np.int64]
    task: TaskLog
    signs: Mapping[str, Tensor] = field(default_factory=dict)
    draws: Mapping[str, Tensor] = field(default_factory=dict)
    seeds: tuple[str, ...] = ()


def widened(baseline: Samples, compressed: Samples) -> tuple[Samples, Samples]:
    """Both, as wide as the wider one: a table is as wide as the widest sample of its own run."""
    width = max(baseline.loglikelihoods.shape[1], compressed.loglikelihoods.shape[1])
    return _widened(baseline, width), _widened(compressed, width)


def _widened(samples: Samples, width: int) -> Samples:
    missing = width - samples.loglikelihoods.shape[1]
    if not missing:
        return samples

    def pad(values: NDArray[Any], empty: float) -> NDArray[Any]:
        return np.pad(values, ((0, 0), (0, missing)), constant_values=empty)

    return replace(
        samples,
        loglikelihoods=pad(samples.loglikelihoods, -np.inf),
        unconditional=None if samples.unconditional is None else pad(samples.unconditional, 0.0),
        chars=pad(samples.chars, np.nan),
        bytes=pad(samples.bytes, np.nan),
        gold=pad(samples.gold, 0.0),
        greedy=pad(samples.greedy, -1.0),
        request_keys=None
        if samples.request_keys is None
        else np.pad(samples.request_keys, ((0, 0), (0, missing), (0, 0))),
    )


def side_of(samples: Samples, rows: NDArray[np.int64], device: str | torch.device) -> Side:
    """Some of a run's samples, in this order."""
    return Side(
        loglikelihoods=as_tensor(only(samples.loglikelihoods, rows), device),
        unconditional=None
        if samples.unconditional is None
        else as_tensor(only(samples.unconditional, rows), device),
        answer=as_tensor(_written(samples, samples.answer, rows), device),
        response=as_tensor(_written(samples, samples.response, rows), device),
        request_keys=None if samples.request_keys is None else only(samples.request_keys, rows),
        metrics={
            name: as_tensor(only(values, rows), device) for name, values in samples.metrics.items()
        },
        units={
            name: as_tensor(only(values, rows), device) for name, values in samples.units.items()
        },
        line=only(samples.line, rows),
        task=samples.task,
        signs={
            name: as_tensor(only(values, rows), device) for name, values in samples.signs.items()
        },
        draws={
            name: as_tensor(only(values, rows), device) for name, values in samples.draws.items()
        },
        seeds=samples.seeds,
    )


def _written(
    samples: Samples, values: NDArray[np.uint64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Some rows of digests, as torch has them; none where nothing is written."""
    return (only(values, rows) if samples.kind == "text" else values).view(np.int64)


def only(values: NDArray[Scalar], rows: NDArray[np.int64]) -> NDArray[Scalar]:
    """Some rows of a column, in order: the column itself where they are all of its rows.

    Then samples and pairs, also those of several compressed runs, hold one array and not copies.
    """
    return values if len(rows) == len(values) else values[rows]


def as_tensor(values: NDArray[np.generic], device: str | torch.device) -> Tensor:
    """A column as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
