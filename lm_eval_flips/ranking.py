"""Several compressed runs against each other: groups that cannot be told apart, no false order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.measures.overlap import Overlap, overlap
from lm_eval_flips.measures.significance import holm, mcnemar, t_test
from lm_eval_flips.paired_metric import PairedMetric
from lm_eval_flips.result import Ranking
from lm_eval_flips.standard_errors import Errors

LEVEL = 0.05

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Task:
    """One metric of one task in all runs, over the samples that all of them have."""

    metric: PairedMetric
    scores: list[Tensor]
    changed: list[Tensor] | None
    binary: bool


def rank_runs(runs: Sequence[Sequence[PairedMetric]]) -> Ranking | None:
    """Order compressed runs by their score, in groups that cannot be told apart.

    Args:
        runs: of each run the metrics that are pooled, one a task.

    Returns:
        None for fewer than two runs, or if they share no metric.
    """
    tasks = _shared(runs)
    if len(runs) < 2 or not tasks:
        return None
    scores = [float(torch.cat([task.scores[i] for task in tasks]).mean()) for i in range(len(runs))]
    better = 1 if all(task.metric.higher_is_better for task in tasks) else -1
    order = sorted(range(len(runs)), key=lambda i: -better * scores[i])
    pairs = [(i, j) for place, i in enumerate(order) for j in order[place + 1 :]]
    adjusted = holm([_p_value(tasks, i, j) for i, j in pairs])
    p_values = dict(zip(pairs, adjusted, strict=True))
    return Ranking(
        n=sum(len(task.scores[0]) for task in tasks),
        scores=tuple(scores),
        order=tuple(order),
        groups=tuple(_groups(order, p_values)),
        p_values={(min(pair), max(pair)): p for pair, p in p_values.items()},
    )


def overlap_of(runs: Sequence[Sequence[PairedMetric]]) -> Overlap | None:
    """The samples that several runs changed alike; None where no answers are known."""
    changed = [task.changed for task in _shared(runs) if task.changed is not None]
    if len(runs) < 2 or not changed:
        return None
    rows = [torch.cat([task[i] for task in changed]) for i in range(len(runs))]
    return overlap(torch.stack(rows))


def _groups(order: Sequence[int], p_values: dict[tuple[int, int], float]) -> list[tuple[int, ...]]:
    """The longest stretches of the order of which no two can be told apart."""
    found: list[tuple[int, ...]] = []
    reached = 0
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and all(
            not p_values[order[other], order[stop]] < LEVEL for other in range(start, stop)
        ):
            stop += 1
        if stop > reached:
            found.append(tuple(order[start:stop]))
            reached = stop
    return found


def _shared(runs: Sequence[Sequence[PairedMetric]]) -> list[_Task]:
    columns: list[dict[Key, PairedMetric]] = [
        {(m.pairs.task, m.pairs.filter, m.metric): m for m in metrics} for metrics in runs
    ]
    keys = [key for key in columns[0] if all(key in own for own in columns)] if columns else []
    tasks = [_task([own[key] for own in columns]) for key in keys]
    return [task for task in tasks if len(task.scores[0])]


def _task(metrics: Sequence[PairedMetric]) -> _Task:
    documents = metrics[0].doc_ids
    for metric in metrics[1:]:
        documents = np.intersect1d(documents, metric.doc_ids)
    rows = [_rows(metric.doc_ids, documents) for metric in metrics]
    changed = [
        m.changed[row] for m, row in zip(metrics, rows, strict=True) if m.changed is not None
    ]
    return _Task(
        metric=metrics[0].at(rows[0]),
        scores=[m.compressed_value[row] for m, row in zip(metrics, rows, strict=True)],
        changed=changed if len(changed) == len(metrics) else None,
        binary=all(m.compressed_correct is not None for m in metrics),
    )


def _rows(own: NDArray[np.int64], wanted: NDArray[np.int64]) -> Tensor:
    order = np.argsort(own, kind="stable")
    return torch.from_numpy(order[np.searchsorted(own[order], wanted)])


def _p_value(tasks: Sequence[_Task], i: int, j: int) -> float:
    """Exact McNemar where every sample is right or wrong and counts for itself, else t.

    Two runs that agree everywhere cannot be told apart: 1.
    """
    differences = [(task.scores[j] - task.scores[i]).double() for task in tasks]
    whole = torch.cat(differences)
    errors = Errors([task.metric for task in tasks])
    if all(task.binary for task in tasks) and errors.by_document and errors.documents == errors.n:
        found = mcnemar(lost=int((whole < 0).sum()), won=int((whole > 0).sum()))
    else:
        found = t_test(float(whole.mean()), *errors.of(differences))
    return 1.0 if isnan(found) else found
