"""Which flip metrics the harness's loggers show as columns of a task's samples.

Weights & Biases' table has a column for each metric that the task's configuration lists, and is
not made at all if one sample lacks it (lm_eval 0.4.13, loggers/wandb_logger.py:239). So those are
listed that every sample of every rank holds as a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch.distributed as dist

from lm_eval_flips.pairs.sample_values import AGGREGATED


def held_by_all(samples: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The flip metrics that every one of these samples holds as a number.

    Example:
        >>> sorted(held_by_all([{"acc": 1.0, "flips": 0}, {"flips": 1, "choice_kl": 0.1}]))
        ['flips']
    """
    names = [
        {name for name, value in values.items() if name in AGGREGATED and isinstance(value, Real)}
        for values in samples
    ]
    return frozenset(set.intersection(*names)) if names else frozenset()


def held_by_all_ranks(names: frozenset[str]) -> frozenset[str]:
    """Those that the samples of all ranks hold; every rank has to ask."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return names
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, names)
    return frozenset.intersection(*gathered)


def with_columns(
    listed: Sequence[Mapping[str, Any]], held: frozenset[str]
) -> list[Mapping[str, Any]]:
    """A task's list of metrics with the flip metrics that its samples hold, and no others.

    Example:
        >>> with_columns([{"metric": "acc"}, {"metric": "token_kl"}], frozenset({"flips"}))
        [{'metric': 'acc'}, {'metric': 'flips', 'higher_is_better': False}]
    """
    kept = [own for own in listed if own.get("metric") not in AGGREGATED or own["metric"] in held]
    known = {own.get("metric") for own in kept}
    new = [name for name in AGGREGATED if name in held - known]
    return [*kept, *({"metric": name, "higher_is_better": False} for name in new)]
