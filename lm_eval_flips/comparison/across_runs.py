"""Over compressed runs: do flips, and losses, follow the KL?

Told apart by regime. Far from the baseline KL orders models as their flips do; near it, where all
are almost alike, it need not, and it says little of which way the answers go (ByteShape, arXiv
2606.19558).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan

import torch

from lm_eval_flips.comparison.result import Regime, Row, RunComparison
from lm_eval_flips.measures.correlation import Spearman, spearman

FEWEST = 3  # runs, below which there is no order
FEWEST_TOLD = 5  # runs, below which a rank correlation is 1 or -1 in too many draws of noise

Distance = Callable[[Row], float | None]


def choice_kl(row: Row) -> float | None:
    """Mean KL over the choices; None where there are none."""
    return None if row.distances is None else row.distances.choice_kl.mean


def token_kl(row: Row) -> float | None:
    """Mean KL over the vocabulary; None where none was measured."""
    return None if row.tokens is None else row.tokens.token_kl.typical


def by_task(runs: Sequence[RunComparison], distance: Distance) -> dict[str, Spearman]:
    """Rank correlation over runs of a distance and flips: of each task, and of the pool.

    Empty for fewer than three runs; nan for fewer than five, which say next to nothing.
    """
    if len(runs) < FEWEST:
        return {}
    points: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        for row in (*run.tasks, run.pooled):
            if (kl := distance(row)) is not None and row.flips is not None:
                key = row.name if row is run.pooled else f"{row.name},{row.filter},{row.metric}"
                points.setdefault(key, []).append((kl, row.flips.flips))
    return {
        key: rank_correlation(pairs) for key, pairs in points.items() if len(pairs) == len(runs)
    }


def regimes(runs: Sequence[RunComparison], *, near_kl: float | None = None) -> tuple[Regime, ...]:
    """How KL relates to flips and to the net loss over all runs, and over those below a border.

    Of every distance that all runs hold, from the pooled rows; none for fewer than three runs.
    """
    if len(runs) < FEWEST:
        return ()
    regimes = []
    for name, distance in (("choice_kl", choice_kl), ("token_kl", token_kl)):
        rows = [(distance(run.pooled), run.pooled) for run in runs]
        known = [(kl, row) for kl, row in rows if kl is not None]
        if len(known) < len(runs):
            continue
        regimes.append(_regime(name, known, None))
        if near_kl is not None:
            near = [(kl, row) for kl, row in known if kl < near_kl]
            regimes.append(_regime(name, near, near_kl))
    return tuple(regimes)


def _regime(name: str, part: Sequence[tuple[float, Row]], below: float | None) -> Regime:
    flips = [(kl, row.flips.flips) for kl, row in part if row.flips is not None]
    losses = [
        (kl, -row.score_change if row.higher_is_better else row.score_change) for kl, row in part
    ]
    return Regime(
        distance=name, below=below, flips=rank_correlation(flips), net_loss=rank_correlation(losses)
    )


def rank_correlation(points: Sequence[tuple[float, float]]) -> Spearman:
    """Spearman's correlation of a point a run; nan for fewer than five, which say next to nothing.

    Example:
        >>> rank_correlation([(0.1, 1.0), (0.2, 2.0), (0.3, 4.0), (0.4, 3.0), (0.5, 5.0)]).statistic
        0.9
    """
    columns = torch.tensor(points, dtype=torch.float64).reshape(-1, 2)
    found = spearman(columns[:, 0], columns[:, 1])
    return found if found.n >= FEWEST_TOLD else Spearman(n=found.n, statistic=nan)
