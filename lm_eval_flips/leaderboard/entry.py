"""A compressed run's entry: all that the board keeps of it, and its bytes for the cache.

The bytes are msgpack: data only, nothing in them is ever executed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
import torch

from lm_eval_flips.comparison.compare import compare
from lm_eval_flips.comparison.numbers import SPECS
from lm_eval_flips.comparison.options import Options
from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.comparison.ranking import TaskScores, task_scores
from lm_eval_flips.comparison.result import SettingDifference
from lm_eval_flips.comparison.warnings import Warning  # noqa: A004
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.leaderboard.line import Line, Numbers, lines_of
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One compressed run against the baseline: its lines, and its scores to be ranked by.

    ``left_out`` is the number of samples that were not compared; ``not_compared`` are tasks that
    only one of the runs holds. ``reason`` says why there is nothing but it: the run cannot be
    compared.
    """

    lines: tuple[Line, ...] = ()
    scores: tuple[TaskScores, ...] = ()
    settings: tuple[SettingDifference, ...] = ()
    left_out: int = 0
    not_compared: tuple[str, ...] = ()
    tokens_left_out: str | None = None
    warnings: tuple[Warning, ...] = ()
    reason: str | None = None

    @property
    def pooled(self) -> Line:
        """The line of all tasks together."""
        return self.lines[-1]

    @property
    def tasks(self) -> dict[str, Line]:
        """The tasks' lines by name."""
        return {line.task: line for line in self.lines if line.level == "task"}


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
    (compared,) = comparison.compressed
    scores = task_scores(primaries(compared.metrics))
    return Entry(
        lines=tuple(lines_of(compared)),
        # a board has no overlap
        scores=tuple(replace(of_task, changed=None) for of_task in scores),
        settings=comparison.settings_that_differ,
        left_out=sum(dropped.count for dropped in compared.dropped),
        not_compared=compared.not_compared,
        tokens_left_out=compared.tokens_left_out,
        warnings=comparison.warnings,
    )


def to_bytes(entry: Entry) -> bytes:
    """An entry for the cache."""
    return msgspec.msgpack.encode(entry, enc_hook=_plain)


def from_bytes(content: bytes) -> Entry:
    """The entry that ``to_bytes`` wrote.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return msgspec.msgpack.decode(content, type=Entry, dec_hook=_array)


def _plain(values: object) -> tuple[str, bytes]:
    """An array as the name of its numbers and their bytes, little-endian."""
    if isinstance(values, Numbers):
        values = values.table
    array = values.cpu().numpy() if isinstance(values, torch.Tensor) else values
    if not isinstance(array, np.ndarray):
        raise NotImplementedError(f"an entry holds no {type(values).__name__}")
    name = {"i": "<i8", "f": "<f8"}[array.dtype.kind]
    return name, array.astype(name).tobytes()


def _array(kind: Any, content: object) -> object:
    """The tensor, array or numbers that ``_plain`` made plain."""
    name, numbers = msgspec.convert(content, type=tuple[Literal["<i8", "<f8"], bytes])
    if len(numbers) % (32 * len(SPECS) if kind is Numbers else 8):
        raise msgspec.ValidationError("an array is cut")
    array = np.frombuffer(numbers, name)
    if kind is Numbers:
        return Numbers(array.reshape(-1, 4))
    return torch.from_numpy(array.copy()) if kind is torch.Tensor else array
