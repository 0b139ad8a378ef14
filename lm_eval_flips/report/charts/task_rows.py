"""The rows that charts draw: one a task, under a short name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.comparison.result import Comparison, Row, RunComparison
from lm_eval_flips.pairs.metric import PairedMetric


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task's row, by the metric that stands for the task, and its samples."""

    row: Row
    metric: PairedMetric


def task_rows(run: RunComparison) -> list[TaskRow]:
    """The rows that are pooled: one for each task, in order."""
    chosen = {id(metric) for metric in primaries(run.metrics)}
    return [
        TaskRow(row=row, metric=metric)
        for row, metric in zip(run.tasks, run.metrics, strict=True)
        if id(metric) in chosen
    ]


def task_names(comparison: Comparison) -> dict[str, str]:
    """Each task's name without the words that all of them begin with."""
    names = list(dict.fromkeys(row.name for run in comparison.compressed for row in run.tasks))
    return dict(zip(names, short_names(names), strict=True))


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the words, ended by an underscore, that all of them begin with.

    Example:
        >>> short_names(["mmlu_anatomy", "mmlu_human_aging"])
        ['anatomy', 'human aging']
        >>> short_names(["hellaswag"])
        ['hellaswag']
    """
    ends = zip(min(names), max(names), strict=False) if len(names) > 1 else ()
    shared = "".join(first for first, _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    cut = shared.rfind("_") + 1
    return [name[cut:].replace("_", " ") if cut else name for name in names]
