"""Entries -> Board: the closest run first, and groups that cannot be told apart by score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan

from lm_eval_flips.comparison.model_sizes import ModelSize, sizes_of
from lm_eval_flips.comparison.ranking import (
    TaskScores,
    adjusted_over_runs,
    rank_runs,
    shared_tasks,
)
from lm_eval_flips.comparison.result import Ranking, RunSummary
from lm_eval_flips.comparison.standing import Candidate, Standing, standings
from lm_eval_flips.compression.families import in_order
from lm_eval_flips.compression.guessed import UNKNOWN
from lm_eval_flips.compression.run_scheme import run_scheme
from lm_eval_flips.leaderboard.discovery import CompressedRun, LeftOut
from lm_eval_flips.leaderboard.entry import Entry
from lm_eval_flips.logs.names import last_name
from lm_eval_flips.logs.runs import Run

Rank = Callable[[Sequence[Sequence[TaskScores]]], "Ranking | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A compressed run on the board.

    ``name`` tells it from all others. ``standing`` is its place by distance, its scheme, its size.
    ``groups`` are the first and the last of the groups that it is in by score, from 1: runs that
    share one cannot be told apart; None without a ranking. ``ranked_score`` is over the samples
    that all runs have. ``p_holm_runs`` is the pool's p of no change, adjusted over the runs of the
    board.
    """

    name: str
    folder: str
    path: str
    model: str
    date: str
    entry: Entry
    standing: Standing
    groups: tuple[int, int] | None
    ranked_score: float
    p_holm_runs: float

    @property
    def scheme(self) -> str:
        """How it was compressed; "unknown" where nothing tells."""
        return UNKNOWN if self.standing.scheme is None else self.standing.scheme.name

    @property
    def family(self) -> str:
        """Of its scheme; "unknown" where nothing tells."""
        return self.standing.family or UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A baseline and the compressed runs of a folder, the closest to the baseline first.

    ``distance`` is the key of the number that says which is closest, "" where no run has one.
    ``ranked`` are the tasks that all runs share, over which their scores are held against each
    other, and ``ranked_n`` their samples; none and 0 where that could not be. ``tasks`` are the
    baseline's, by name. ``size`` is the baseline's; None where it is not known.
    """

    baseline: RunSummary
    runs: tuple[Placed, ...]
    distance: str
    size: ModelSize | None
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
    def families(self) -> tuple[str, ...]:
        """The families on the board, in the order of a legend."""
        return in_order({run.family for run in self.runs})

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
    baseline: Run,
    runs: Sequence[CompressedRun],
    entries: Sequence[Entry],
    left_out: Sequence[LeftOut],
    *,
    sizes: Mapping[str, ModelSize] | None = None,
    rank: Rank = rank_runs,
) -> Board:
    """The board of the runs that could be compared; the others are left out, with the reason.

    Args:
        baseline: the baseline's run.
        runs: the compressed runs.
        entries: each one's entry.
        left_out: what was not even compared.
        sizes: of the models, by the path of the run; by default those that are known here.
        rank: ranks the runs by their scores.
    """
    if sizes is None:
        sizes = sizes_of(baseline, [own.run for own in runs])
    judged = [(run, entry) for run, entry in zip(runs, entries, strict=True) if not entry.reason]
    refused = [
        LeftOut(folder=run.folder, model=run.run.model, reason=entry.reason)
        for run, entry in zip(runs, entries, strict=True)
        if entry.reason
    ]
    scores = [entry.scores for _, entry in judged]
    ranking = rank(scores)
    size = sizes.get(baseline.address)
    found = standings([_candidate(*own, sizes) for own in judged], baseline=size)
    placed = _placed(judged, ranking, found.each)
    compared = {task for _, entry in judged for task in entry.tasks}
    return Board(
        baseline=RunSummary(path=baseline.address, model=baseline.model, run=baseline),
        runs=tuple(placed[number] for number in found.order),
        distance=found.distance,
        size=size,
        tasks=tuple(task for task in baseline.tasks if task in compared),
        ranked=() if ranking is None else tuple(task for task, _, _ in shared_tasks(scores)),
        ranked_n=0 if ranking is None else ranking.n,
        groups=0 if ranking is None else len(ranking.groups),
        left_out=(*left_out, *refused),
    )


def _candidate(found: CompressedRun, entry: Entry, sizes: Mapping[str, ModelSize]) -> Candidate:
    return Candidate(
        numbers=entry.pooled.numbers,
        scheme=run_scheme(found.run),
        size=sizes.get(found.run.address),
    )


def _placed(
    judged: Sequence[tuple[CompressedRun, Entry]],
    ranking: Ranking | None,
    each: Sequence[Standing],
) -> list[Placed]:
    """Every run with its place, in the order in which they are given."""
    adjusted = adjusted_over_runs([entry.pooled.value("p_value") for _, entry in judged])
    names = _names([run for run, _ in judged])
    groups = {} if ranking is None else _groups_of(ranking)
    return [
        Placed(
            name=name,
            folder=run.folder,
            path=run.run.address,
            model=run.run.model,
            date=run.run.date,
            entry=entry,
            standing=each[number],
            groups=groups.get(number),
            ranked_score=nan if ranking is None else ranking.scores[number],
            p_holm_runs=p_value,
        )
        for number, (name, (run, entry), p_value) in enumerate(
            zip(names, judged, adjusted, strict=True)
        )
    ]


def _groups_of(ranking: Ranking) -> dict[int, tuple[int, int]]:
    """The first and the last group that each run is in; they are stretches of the order."""
    ends: dict[int, tuple[int, int]] = {}
    for place, group in enumerate(ranking.groups, 1):
        for run in group:
            ends[run] = (ends.get(run, (place, place))[0], place)
    return ends


def _names(runs: Sequence[CompressedRun]) -> list[str]:
    """Each run's model by its last name, with its folder where models are alike."""
    models = [last_name(run.run.model) for run in runs]
    counts = Counter(models)
    return [
        model if counts[model] == 1 else f"{model} ({run.folder})"
        for model, run in zip(models, runs, strict=True)
    ]
