"""Several tasks, one decision: has the compressed model lost? After arXiv 2602.10144.

Three ways to put the tasks together, each a one-sided p-value of no loss on any task. Pooled
samples find a small loss everywhere, the largest effect one that sits in a single task, Fisher's
sum of logarithms lies between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import expm1, inf, isnan, log, log1p, nan, sqrt

import numpy as np
from scipy import special


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledDecisions:
    """One-sided p-values of no loss on any of ``n`` tasks; nan where nothing was to be tested.

    ``largest_task`` is the task with the largest loss; None where none changed.
    """

    n: int
    pooled: float
    fisher: float
    largest: float
    largest_task: str | None


def fisher(p_values: Sequence[float]) -> float:
    """Fisher's combination of independent p-values (1932, Statistical Methods, section 21.1).

    nan counts for nothing; nan if every one is. Exact tests of few samples make it conservative.

    Example:
        >>> round(fisher([0.02, 0.3, 0.1]), 4)
        0.0216
    """
    known = [p for p in p_values if not isnan(p)]
    if not known:
        return nan
    statistic = sum(-2 * log(p) if p > 0 else inf for p in known)
    return float(special.chdtrc(2 * len(known), statistic))


def largest_loss(counts: Mapping[str, tuple[int, int]]) -> tuple[float, str | None]:
    """Exact p that the largest of the tasks' standardised losses is as large by chance.

    The loss of a task is (lost - won) / sqrt(lost + won), McNemar's root. Given the tasks'
    discordant pairs, the losses are independent, and each pair a fair coin under no change: the
    chance that all tasks stay below the largest is the product of their binomial probabilities.

    Args:
        counts: samples lost and won of each task.

    Returns:
        p, and the task; nan and None where no pair is discordant.

    Example:
        >>> largest_loss({"arc": (9, 1), "piqa": (3, 3)})
        (0.0107..., 'arc')
    """
    roots = {
        (lost - won) / sqrt(lost + won): task
        for task, (lost, won) in reversed(list(counts.items()))
        if lost + won
    }
    if not roots:
        return nan, None
    top = max(roots)
    reached = [_chance_of(lost + won, top) for lost, won in counts.values() if lost + won]
    return _chance_of_any(reached), roots[top]


def _chance_of(pairs: int, root: float) -> float:
    """Chance that a fair coin's standardised excess over this many throws reaches a root."""
    lost = np.arange(pairs + 1)
    excess = (2 * lost - pairs) / sqrt(pairs)
    # equal up to rounding reaches it
    enough = int((excess >= root - 1e-9).sum())
    return float(special.bdtr(enough - 1, pairs, 0.5)) if enough else 0.0


def _chance_of_any(chances: Sequence[float]) -> float:
    """Chance of at least one of independent events, to the last digit of small ones."""
    return 1.0 if max(chances) >= 1 else -expm1(sum(log1p(-p) for p in chances))


def smallest(p_values: Mapping[str, float]) -> tuple[float, str | None]:
    """The smallest of independent p-values as one (Sidak 1967), and its task.

    What ``largest_loss`` is to right-or-wrong samples, to tasks of other scores.

    Example:
        >>> smallest({"arc": 0.02, "piqa": 0.3})
        (0.0396..., 'arc')
    """
    known = {task: p for task, p in p_values.items() if not isnan(p)}
    if not known:
        return nan, None
    task = min(known, key=lambda name: known[name])
    return _chance_of_any([known[task]] * len(known)), task


def decide(
    *,
    pooled: float,
    p_values: Mapping[str, float],
    counts: Mapping[str, tuple[int, int]] | None,
) -> PooledDecisions:
    """Put the tasks' one-sided tests together in three ways.

    Args:
        pooled: the one-sided p-value of all samples together.
        p_values: of each task.
        counts: samples lost and won of each, where every sample is right or wrong and counts
            for itself; else None.

    Example:
        >>> from lm_eval_flips.measures.significance import mcnemar_loss
        >>> found = decide(
        ...     pooled=mcnemar_loss(lost=12, won=4),
        ...     p_values={
        ...         "arc": mcnemar_loss(lost=9, won=1),
        ...         "piqa": mcnemar_loss(lost=3, won=3),
        ...     },
        ...     counts={"arc": (9, 1), "piqa": (3, 3)},
        ... )
        >>> round(found.pooled, 4), round(found.fisher, 4), round(found.largest, 4)
        (0.0384, 0.042, 0.0107)
    """
    p, task = smallest(p_values) if counts is None else largest_loss(counts)
    return PooledDecisions(
        n=sum(not isnan(own) for own in p_values.values()),
        pooled=pooled,
        fisher=fisher(list(p_values.values())),
        largest=p,
        largest_task=task,
    )
