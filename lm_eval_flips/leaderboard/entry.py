"""A compressed run's entry: all that the board keeps of it, and its bytes for the cache.

The bytes are msgpack: data only, nothing in them is ever executed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from lm_eval_flips.comparison.compare import compare
from lm_eval_flips.comparison.options import Options
from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.comparison.ranking import TaskScores, task_scores
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.leaderboard.line import Line, lines_of
from lm_eval_flips.logs.runs import Run, TaskLog
from lm_eval_flips.logs.samples import Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that differs from the baseline's, as text."""

    setting: str
    baseline: str
    compressed: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One compressed run against the baseline: its lines, and its scores to be ranked by.

    ``left_out`` is the number of samples that were not compared; ``not_compared`` are tasks that
    only one of the runs holds. ``reason`` says why there is nothing but it: the run cannot be
    compared.
    """

    lines: tuple[Line, ...] = ()
    scores: tuple[TaskScores, ...] = ()
    settings: tuple[Setting, ...] = ()
    left_out: int = 0
    not_compared: tuple[str, ...] = ()
    tokens_left_out: str | None = None
    reason: str | None = None

    @property
    def pooled(self) -> Line:
        """The line of all tasks together."""
        return self.lines[-1]

    @property
    def tasks(self) -> dict[str, Line]:
        """The tasks' lines by name."""
        return {line.task: line for line in self.lines if line.level == "task"}


class _Scores(msgspec.Struct, frozen=True, kw_only=True):
    """A task's scores as plain bytes, little-endian."""

    task: str
    filter: str
    metric: str
    doc_ids: bytes
    scores: bytes
    units: bytes | None
    clusters: bytes
    cluster_field: str | None
    binary: bool
    higher_is_better: bool


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    lines: tuple[Line, ...]
    scores: tuple[_Scores, ...]
    settings: tuple[Setting, ...]
    left_out: int
    not_compared: tuple[str, ...]
    tokens_left_out: str | None
    reason: str | None


def entry_of(
    base: Run, run: Run, asked: Options, read: Callable[[TaskLog], dict[str, Samples]]
) -> Entry:
    """Compare one run with the baseline, as ``compare`` does.

    What cannot be compared becomes an entry that says why.
    """
    try:
        comparison = compare(base, run, read=read, **asked.given)
    except (FlipsError, OSError) as error:
        return Entry(reason=str(error))
    (found,) = comparison.compressed
    return Entry(
        lines=tuple(lines_of(found)),
        scores=tuple(task_scores(primaries(found.metrics))),
        settings=tuple(
            Setting(setting=d.setting, baseline=str(d.baseline), compressed=str(d.compressed))
            for d in comparison.settings_that_differ
        ),
        left_out=sum(dropped.count for dropped in found.dropped),
        not_compared=found.not_compared,
        tokens_left_out=found.tokens_left_out,
    )


def to_bytes(entry: Entry) -> bytes:
    """An entry for the cache."""
    return msgspec.msgpack.encode(
        _Stored(
            lines=entry.lines,
            scores=tuple(map(_stored, entry.scores)),
            settings=entry.settings,
            left_out=entry.left_out,
            not_compared=entry.not_compared,
            tokens_left_out=entry.tokens_left_out,
            reason=entry.reason,
        )
    )


def from_bytes(content: bytes) -> Entry:
    """The entry that ``to_bytes`` wrote.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    found = msgspec.msgpack.decode(content, type=_Stored)
    return Entry(
        lines=found.lines,
        scores=tuple(map(_scores, found.scores)),
        settings=found.settings,
        left_out=found.left_out,
        not_compared=found.not_compared,
        tokens_left_out=found.tokens_left_out,
        reason=found.reason,
    )


def _stored(own: TaskScores) -> _Scores:
    return _Scores(
        task=own.task,
        filter=own.filter,
        metric=own.metric,
        doc_ids=own.doc_ids.astype("<i8").tobytes(),
        scores=own.scores.cpu().numpy().astype("<f8").tobytes(),
        units=None if own.units is None else own.units.cpu().numpy().astype("<f8").tobytes(),
        clusters=own.clusters.cpu().numpy().astype("<i8").tobytes(),
        cluster_field=own.cluster_field,
        binary=own.binary,
        higher_is_better=own.higher_is_better,
    )


def _scores(found: _Scores) -> TaskScores:
    return TaskScores(
        task=found.task,
        filter=found.filter,
        metric=found.metric,
        doc_ids=np.frombuffer(found.doc_ids, "<i8"),
        scores=torch.from_numpy(np.frombuffer(found.scores, "<f8").copy()),
        units=None
        if found.units is None
        else torch.from_numpy(np.frombuffer(found.units, "<f8").copy()),
        changed=None,
        clusters=torch.from_numpy(np.frombuffer(found.clusters, "<i8").copy()),
        cluster_field=found.cluster_field,
        binary=found.binary,
        higher_is_better=found.higher_is_better,
    )
