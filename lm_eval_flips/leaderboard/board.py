"""Entries -> Board: runs in the order of their scores, in groups that cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

from lm_eval_flips.comparison.ranking import rank_runs, shared_tasks
from lm_eval_flips.comparison.result import Ranking, RunSummary
from lm_eval_flips.leaderboard.discovery import Found, LeftOut
from lm_eval_flips.leaderboard.entry import Entry
from lm_eval_flips.leaderboard.scheme import scheme_of
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.measures.significance import holm


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A compressed run on the board.

    ``name`` tells it from all others. ``place`` counts from 1; ``groups`` are the first and the
    last of the groups that it is in, from 1: runs that share one cannot be told apart. Both None
    without a ranking. ``ranked_score`` is over the samples that all runs have. ``p_holm_runs`` is
    the pool's p of no change, adjusted over the runs of the board.
    """

    name: str
    folder: str
    path: str
    model: str
    scheme: str
    date: str
    entry: Entry
    place: int | None
    groups: tuple[int, int] | None
    ranked_score: float
    p_holm_runs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A baseline and the compressed runs of a folder, best first.

    ``ranked`` are the tasks that all runs share, which alone decide the order, and ``ranked_n``
    their samples; none and 0 where runs could not be ranked. ``tasks`` are the baseline's, by name.
    """

    baseline: RunSummary
    runs: tuple[Placed, ...]
    tasks: tuple[str, ...]
    ranked: tuple[str, ...]
    ranked_n: int
    groups: int
    left_out: tuple[LeftOut, ...]

    @property
    def schemes(self) -> tuple[str, ...]:
        """The schemes on the board, by name."""
        return tuple(sorted({run.scheme for run in self.runs}))

    @property
    def margin(self) -> float:
        """The equivalence margin; nan without one."""
        return next((run.entry.pooled.value("equivalence_margin") for run in self.runs), nan)

    @property
    def partial(self) -> tuple[Placed, ...]:
        """Runs that lack a task which another run has: the order is not over those."""
        most = {task for run in self.runs for task in run.entry.tasks}
        return tuple(run for run in self.runs if most - run.entry.tasks.keys())


def assemble(
    baseline: Run, found: Sequence[Found], entries: Sequence[Entry], left_out: Sequence[LeftOut]
) -> Board:
    """The board of the runs that could be compared; the others are left out, with the reason.

    Args:
        baseline: the baseline's run.
        found: the compressed runs.
        entries: each one's entry.
        left_out: what was not even compared.
    """
    both = list(zip(found, entries, strict=True))
    judged = [(own, entry) for own, entry in both if entry.reason is None]
    refused = [
        LeftOut(folder=own.folder, model=own.run.model, reason=entry.reason)
        for own, entry in both
        if entry.reason is not None
    ]
    scores = [entry.scores for _, entry in judged]
    ranking = rank_runs(scores)
    adjusted = holm([entry.pooled.value("p_value") for _, entry in judged])
    names = _names([own for own, _ in judged])
    placed = [
        Placed(
            name=names[i],
            folder=own.folder,
            path=str(own.run.path),
            model=own.run.model,
            scheme=scheme_of(own.run.model, own.name, own.run.model_args),
            date=own.run.date,
            entry=entry,
            place=None if ranking is None else ranking.order.index(i) + 1,
            groups=None if ranking is None else _groups_of(ranking, i),
            ranked_score=nan if ranking is None else ranking.scores[i],
            p_holm_runs=adjusted[i],
        )
        for i, (own, entry) in enumerate(judged)
    ]
    order = ranking.order if ranking is not None else _by_score([entry for _, entry in judged])
    here = {task for _, entry in judged for task in entry.tasks}
    return Board(
        baseline=RunSummary(path=str(baseline.path), model=baseline.model, run=baseline),
        runs=tuple(placed[i] for i in order),
        tasks=tuple(task for task in baseline.tasks if task in here),
        ranked=() if ranking is None else tuple(task for task, _, _ in shared_tasks(scores)),
        ranked_n=0 if ranking is None else ranking.n,
        groups=0 if ranking is None else len(ranking.groups),
        left_out=(*left_out, *refused),
    )


def _groups_of(ranking: Ranking, run: int) -> tuple[int, int]:
    """The first and the last group that a run is in; they are stretches of the order."""
    inside = [place for place, group in enumerate(ranking.groups, 1) if run in group]
    return inside[0], inside[-1]


def _by_score(entries: Sequence[Entry]) -> list[int]:
    """Without a ranking: the smallest loss first, which says nothing of chance."""
    losses = [entry.pooled.loss for entry in entries]
    return sorted(range(len(losses)), key=lambda i: (isnan(losses[i]), losses[i]))


def _names(found: Sequence[Found]) -> list[str]:
    """Each run's model by its last name, with its folder where models are alike."""
    models = [own.run.model.rstrip("/").rsplit("/", 1)[-1] for own in found]
    return [
        model if models.count(model) == 1 else f"{model} ({own.folder})"
        for model, own in zip(models, found, strict=True)
    ]
