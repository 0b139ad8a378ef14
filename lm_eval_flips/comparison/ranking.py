"""Several compressed runs against each other: groups that cannot be told apart, no false order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.comparison.result import Ranking
from lm_eval_flips.comparison.row import MIXED
from lm_eval_flips.measures.letters import alike, letters
from lm_eval_flips.measures.overlap import Overlap, overlap
from lm_eval_flips.measures.significance import holm, mcnemar, t_test
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import ErrorsOf

LEVEL = 0.05
AT_ONCE = 32  # runs held against one: more would not stay in the processor's cache

Key = tuple[str, str, str]


def adjusted_over_runs(p_values: Sequence[float]) -> list[float]:
    """Holm's p of each run's pool, over all runs that are judged side by side.

    Example:
        >>> adjusted_over_runs([0.01, 0.5])
        [0.02, 0.5]
    """
    return holm(p_values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskScores:
    """What is held against other runs of one metric of one task: as much as a cache must keep.

    A row a sample, in no particular order; ``changed`` None where no answers are known, ``units``
    (words or bytes) None but for a perplexity, whose ``scores`` are log-likelihoods.
    """

    task: str
    filter: str
    metric: str
    doc_ids: NDArray[np.int64]
    scores: Tensor
    units: Tensor | None
    changed: Tensor | None
    clusters: Tensor
    cluster_field: str | None
    binary: bool
    higher_is_better: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Task:
    """One metric of one task in all runs, over the samples that all of them have.

    ``scores`` and ``changed`` have a row a run; the clusters are the first run's.
    """

    first: TaskScores
    scores: Tensor
    units: Tensor | None
    changed: Tensor | None
    clusters: Tensor
    cluster_field: str | None
    binary: bool


def task_scores(metrics: Sequence[PairedMetric]) -> list[TaskScores]:
    """What the ranking needs of a run's metrics."""
    return [
        TaskScores(
            task=m.pairs.task,
            filter=m.pairs.filter,
            metric=m.metric,
            doc_ids=m.doc_ids,
            # of a rate of errors, too, what is right counts: tasks of both ways may be pooled
            scores=(
                m.compressed_value if m.compressed_correct is None else m.compressed_correct
            ).double(),
            units=m.units,
            changed=m.changed,
            clusters=m.clusters,
            cluster_field=m.cluster_field,
            binary=m.compressed_correct is not None,
            # of a perplexity the log-likelihoods are logged, of which more is better
            higher_is_better=m.higher_is_better
            or m.units is not None
            or m.compressed_correct is not None,
        )
        for m in metrics
    ]


def rank_runs(runs: Sequence[Sequence[TaskScores]]) -> Ranking | None:
    """Order compressed runs by their score, in groups that cannot be told apart.

    Args:
        runs: of each run the metrics that are pooled, one a task.

    Returns:
        None for fewer than two runs, or if they share no metric.
    """
    tasks = _shared(runs)
    if len(runs) < 2 or not tasks:
        return None
    whole = torch.cat([task.scores for task in tasks], dim=1)
    scores = whole.mean(1).tolist()
    better = 1 if all(task.first.higher_is_better for task in tasks) else -1
    order = sorted(range(len(runs)), key=lambda i: -better * scores[i])
    pairs = [(i, j) for place, i in enumerate(order) for j in order[place + 1 :]]
    found = _p_values(ErrorsOf(tasks), whole[order])
    p_values = dict(zip(pairs, holm(found), strict=True))
    different = [pair for pair, p in p_values.items() if p < LEVEL]
    groups = alike(order, different)
    marks = letters(groups)
    perplexities = _as_shown(tasks, whole)
    return Ranking(
        n=whole.shape[1],
        scores=perplexities or tuple(scores),
        metric=_metric(tasks),
        lower_is_better=bool(perplexities) or better < 0,
        order=tuple(order),
        groups=tuple(groups),
        letters=tuple(marks[run] for run in range(len(runs))),
        p_values={(min(pair), max(pair)): p for pair, p in p_values.items()},
    )


def _metric(tasks: Sequence[_Task]) -> str:
    metrics = {task.first.metric for task in tasks}
    return metrics.pop() if len(metrics) == 1 else MIXED


def _as_shown(tasks: Sequence[_Task], whole: Tensor) -> tuple[float, ...]:
    """The runs' perplexities, or bits per byte, from their log-likelihoods; none of other scores.

    The same figure as in a row: of all samples together, weighted by their units.
    """
    units = [task.units for task in tasks if task.units is not None]
    if len(units) < len(tasks):
        return ()
    losses = -whole.sum(1) / float(torch.cat(units).sum())
    bits = tasks[0].first.metric == "bits_per_byte"
    return tuple((losses / log(2) if bits else losses.exp()).tolist())


def overlap_of(runs: Sequence[Sequence[TaskScores]]) -> Overlap | None:
    """The samples that several runs changed alike; None where no answers are known."""
    changed = [task.changed for task in _shared(runs) if task.changed is not None]
    return overlap(torch.cat(changed, dim=1)) if len(runs) > 1 and changed else None


def shared_tasks(runs: Sequence[Sequence[TaskScores]]) -> list[Key]:
    """The task, filter and metric of all that every run holds: what a ranking is over."""
    if not runs:
        return []
    others = [{_key(scores) for scores in run} for run in runs[1:]]
    return [key for key in map(_key, runs[0]) if all(key in keys for keys in others)]


def _key(scores: TaskScores) -> Key:
    return scores.task, scores.filter, scores.metric


def _shared(runs: Sequence[Sequence[TaskScores]]) -> list[_Task]:
    by_key = [{_key(scores): scores for scores in run} for run in runs]
    tasks = [_task([scores[key] for scores in by_key]) for key in shared_tasks(runs)]
    return [task for task in tasks if task.scores.shape[1]]


def _task(runs: Sequence[TaskScores]) -> _Task:
    first = runs[0]
    documents = first.doc_ids
    for run in runs[1:]:
        if not np.array_equal(documents, run.doc_ids):
            documents = np.intersect1d(documents, run.doc_ids)
    rows = [_rows(run.doc_ids, documents) for run in runs]
    changed = [
        run.changed[row] for run, row in zip(runs, rows, strict=True) if run.changed is not None
    ]
    return _Task(
        first=first,
        scores=torch.stack([run.scores[row] for run, row in zip(runs, rows, strict=True)]),
        units=None if first.units is None else first.units[rows[0]],
        changed=torch.stack(changed) if len(changed) == len(runs) else None,
        clusters=first.clusters[rows[0]],
        cluster_field=first.cluster_field,
        binary=all(run.binary for run in runs),
    )


def _rows(doc_ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> Tensor:
    """Where the wanted documents stand among those of a run."""
    if doc_ids is wanted:
        return torch.arange(len(doc_ids))
    order = np.argsort(doc_ids, kind="stable")
    return torch.from_numpy(order[np.searchsorted(doc_ids[order], wanted)])


def _p_values(errors: ErrorsOf[_Task], scores: Tensor) -> list[float]:
    """Of every two runs, whose scores are rows: the first against all others, the second, ...

    Exact McNemar of the documents where samples are right or wrong, else t. Two runs that agree
    everywhere cannot be told apart: 1.
    """
    exact = errors.by_document and all(task.binary for task in errors.metrics)
    sizes = [task.scores.shape[1] for task in errors.metrics]
    p_values: list[float] = []
    for place, of_first in enumerate(scores[:-1], 1):
        for others in torch.split(scores[place:], AT_ONCE):
            differences = others - of_first
            if exact:
                nets = torch.cat(errors.sums_of_rows(torch.split(differences, sizes, dim=1)), dim=1)
                lost, won = ((side).sum(1).tolist() for side in (nets < 0, nets > 0))
                p_values += [mcnemar(lost=a, won=b) for a, b in zip(lost, won, strict=True)]
            else:
                found, freedom = errors.of_rows(differences)
                means = differences.mean(1).tolist()
                p_values += [t_test(m, e, freedom) for m, e in zip(means, found, strict=True)]
    return [1.0 if isnan(p) else p for p in p_values]
