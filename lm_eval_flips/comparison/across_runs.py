"""Over compressed runs: do flips, and losses, follow the KL? Does a judge's score follow either?

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
    return {key: _spearman(pairs) for key, pairs in points.items() if len(pairs) == len(runs)}


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


def judge_drop(runs: Sequence[RunComparison]) -> dict[str, Spearman]:
    """What the drop of a judge's score goes with over runs: flips, the score's loss, distances.

    Rank correlations of the pooled rows, by what all judged runs hold; nothing for fewer than
    three. The paper (arXiv 2407.09141, section 5) finds that MT-Bench's score falls with flips
    where accuracy does not tell.
    """
    pooled = [run.pooled for run in runs if run.pooled.numbers["judge_score_change"].known]
    if len(pooled) < FEWEST:
        return {}
    others: dict[str, Distance] = {
        "flips": lambda row: None if row.flips is None else row.flips.flips,
        "net_loss": lambda row: -row.score_change if row.binary else None,
        "choice_kl": choice_kl,
        "token_kl": token_kl,
    }
    found = {}
    for name, of in others.items():
        points = [(of(row), -row.means["judge_score_change"]) for row in pooled]
        known = [(value, drop) for value, drop in points if value is not None]
        if len(known) == len(points):
            found[name] = _spearman(known)
    return found


def _regime(name: str, part: Sequence[tuple[float, Row]], below: float | None) -> Regime:
    flips = [(kl, row.flips.flips) for kl, row in part if row.flips is not None]
    losses = [
        (kl, -row.score_change if row.higher_is_better else row.score_change) for kl, row in part
    ]
    return Regime(distance=name, below=below, flips=_spearman(flips), net_loss=_spearman(losses))


def _spearman(points: Sequence[tuple[float, float]]) -> Spearman:
    columns = torch.tensor(points, dtype=torch.float64).reshape(-1, 2)
    found = spearman(columns[:, 0], columns[:, 1])
    return found if found.n >= FEWEST_TOLD else Spearman(n=found.n, statistic=nan)
