"""Several tasks, one decision: has the compressed model lost? After arXiv 2602.10144.

Three ways to put the tasks together, each a one-sided p-value of no loss on any task. Pooled
samples find a small loss everywhere, the largest effect one that sits in a single task, Fisher's
sum of logarithms lies between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import expm1, inf, isnan, log, log1p, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.05
FEWEST_POINTS, MOST_POINTS = 13, 15  # powers of 2: of a grid, of which the first half is used


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledDecisions:
    """One-sided p-values of no loss on any of ``n`` tasks; nan where nothing was to be tested.

    ``fisher`` and ``largest`` take tasks as independent: nan where two of them ask the same
    documents. ``largest`` is nan, too, where so few samples moved that no outcome could show it.

    ``largest_task`` is the task with the largest loss; None where none changed.
    """

    n: int
    pooled: float
    fisher: float
    largest: float
    largest_task: str | None


def fisher(p_values: Sequence[float]) -> float:
    """Fisher's combination of independent p-values (1932, Statistical Methods, section 21.1).

    nan counts for nothing; nan if every one is. For p-values that may take any value: those of
    exact tests of few samples cannot be small, and need ``fisher_of_counts``.

    Example:
        >>> round(fisher([0.02, 0.3, 0.1]), 4)
        0.0216
    """
    known = [p for p in p_values if not isnan(p)]
    if not known:
        return nan
    statistic = sum(-2 * log(p) if p > 0 else inf for p in known)
    return float(special.chdtrc(2 * len(known), statistic))


def fisher_of_counts(counts: Iterable[tuple[int, int]]) -> float:
    """Fisher's combination of exact tests of lost against won, by its own conditional law.

    Given each task's discordant pairs, a pair is a fair coin under no change, and the sum of the
    logarithms has a distribution of its own, which is convolved on a grid, tilted towards what was
    measured so that small chances keep their digits. Chi-squared would call 57 tasks that lose an
    answer each nothing at all.

    Args:
        counts: samples lost and won of each task.

    Returns:
        nan where no pair is discordant.

    Example:
        >>> round(fisher_of_counts([(1, 0)] * 8) * 2**8, 6)
        1.0
    """
    pairs = [(lost, won) for lost, won in counts if lost + won]
    if not pairs:
        return nan
    laws = {size: _law(size) for size in {lost + won for lost, won in pairs}}
    largest = [float(laws[lost + won][0].max()) for lost, won in pairs]
    points = 1 << min(MOST_POINTS, max(FEWEST_POINTS, int(64 * sum(largest)).bit_length()))
    step = sum(largest) / (points // 2)
    grids = {size: np.rint(values / step).astype(np.int64) for size, (values, _) in laws.items()}
    measured = sum(int(grids[lost + won][lost]) for lost, won in pairs)
    sizes = Counter(lost + won for lost, won in pairs)
    tilt = _tilt(measured, [(grids[m], laws[m][1], times) for m, times in sizes.items()])
    whole, scale = np.ones(points // 2 + 1, dtype=np.complex128), 0.0
    for size, times in sizes.items():
        weights = laws[size][1] + tilt * grids[size]
        total = float(special.logsumexp(weights))
        own = np.bincount(grids[size], np.exp(weights - total), minlength=points)
        whole *= np.fft.rfft(own) ** times
        scale += times * total
    places = np.arange(measured, points)
    tail = np.fft.irfft(whole, points)[measured:].clip(min=0)
    return min(1.0, float((tail * np.exp(scale - tilt * places)).sum()))


def _law(pairs: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """-2 log p of each number of losses among fair pairs, and the logarithm of its chance."""
    lost = np.arange(pairs + 1)
    p_values = special.bdtr(pairs - lost, pairs, 0.5)
    chances = special.gammaln(pairs + 1) - special.gammaln(lost + 1)
    return -2 * np.log(p_values), chances - special.gammaln(pairs - lost + 1) - pairs * log(2)


def _tilt(
    measured: int, laws: Sequence[tuple[NDArray[np.int64], NDArray[np.float64], int]]
) -> float:
    """The exponent at which the mean of the tilted sum is what was measured; at least 0."""

    def mean(tilt: float) -> float:
        total = 0.0
        for places, chances, times in laws:
            weights = special.softmax(chances + tilt * places)
            total += times * float(weights @ places)
        return total

    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < measured else (low, middle)
    return low


def largest_loss(counts: Mapping[str, tuple[int, int]]) -> tuple[float, str | None]:
    """Exact p that the largest of the tasks' standardised losses is as large by chance.

    The loss of a task is (lost - won) / sqrt(lost + won), McNemar's root. Given the tasks'
    discordant pairs, the losses are independent, and each pair a fair coin under no change: the
    chance that all tasks stay below the largest is the product of their binomial probabilities.

    Args:
        counts: samples lost and won of each task.

    Returns:
        p, and the task; nan and None where no pair is discordant, or where too few are for any
        outcome to be told from chance: 57 tasks that lose their only pair say nothing here.

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
    sizes = [lost + won for lost, won in counts.values() if lost + won]
    if _chance_of_any([_chance_of(size, sqrt(max(sizes))) for size in sizes]) > LEVEL:
        return nan, None
    top = max(roots)
    return _chance_of_any([_chance_of(size, top) for size in sizes]), roots[top]


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
        counts: documents lost and won of each, where every sample is right or wrong; else None.

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
        (0.0384, 0.0172, 0.0107)
    """
    p, task = smallest(p_values) if counts is None else largest_loss(counts)
    return PooledDecisions(
        n=sum(not isnan(own) for own in p_values.values()),
        pooled=pooled,
        fisher=fisher(list(p_values.values()))
        if counts is None
        else fisher_of_counts(counts.values()),
        largest=p,
        largest_task=task,
    )
