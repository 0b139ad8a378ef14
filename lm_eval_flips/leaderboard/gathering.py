"""Runs -> entries: from the cache what is there, computed in processes of their own what is not.

Importing this loads no torch, so that the processes may be forked before it is.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.leaderboard.cache import Cache
from lm_eval_flips.logs.prefetch import SampleReader, TaskKey, key_of
from lm_eval_flips.logs.processes import end_with_parent
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog

if TYPE_CHECKING:
    from lm_eval_flips.leaderboard.entry import Entry

Work = Callable[[Run], "futures.Future[bytes]"]
Read = Callable[[TaskLog], dict[str, Samples]]

FEW = 4  # runs that one process compares before two more have imported torch


def gather(
    baseline: Run,
    runs: Sequence[Run],
    asked: Options,
    *,
    cache: Cache,
    workers: int = 0,
    done: Callable[[Run, bool], None] | None = None,
) -> list[Entry]:
    """The entry of every run, in order.

    Args:
        baseline: the baseline's run.
        runs: the compressed runs.
        asked: what to compare, and how.
        cache: where entries are kept that need not be computed again.
        workers: number of processes that compute; 0 for this one.
        done: called with each run, and whether it was in the cache.
    """
    baseline.select(asked.tasks)
    kept = [cache.load(run) for run in runs]
    missing = [run for run, content in zip(runs, kept, strict=True) if content is None]
    keys = {run.path: cache.key(run) for run in missing}
    with _computing(baseline, missing, asked, min(workers, len(missing) + 1)) as compute:
        waiting = {run.path: compute(run) for run in missing}
        from lm_eval_flips.leaderboard.entry import from_bytes  # only now: it imports torch

        gathered = []
        for run, content in zip(runs, kept, strict=True):
            entry = None
            if content is not None:
                try:
                    entry = from_bytes(content)
                except msgspec.MsgspecError:
                    waiting[run.path], keys[run.path] = compute(run), cache.key(run)
            if entry is None:
                made = _result(waiting[run.path])
                entry = from_bytes(made)
                if entry.reason is None:  # a file may be readable next time
                    cache.store(run, made, key=keys[run.path])
            gathered.append(entry)
            if done is not None:
                done(run, run.path not in keys)
    return gathered


def _result(waiting: futures.Future[bytes]) -> bytes:
    try:
        return waiting.result()
    except BrokenProcessPool:
        raise FlipsError(
            "a process that compares runs was killed, as for lack of memory; give the same "
            "command again: what was finished is kept"
        ) from None


class _Computing:
    """Computes entries; reads the baseline once.

    Args:
        baseline: the baseline's run.
        asked: what to compare, and how.
        read: reads a task's samples.
    """

    def __init__(self, baseline: Run, asked: Options, read: Read = read_samples) -> None:
        self._baseline, self._asked, self._from_file = baseline, asked, read
        self._keys = {key_of(log) for log in baseline.tasks.values()}
        self._held: dict[TaskKey, dict[str, Samples]] = {}

    def entry(self, run: Run) -> bytes:
        from lm_eval_flips.leaderboard.entry import entry_of, to_bytes

        return to_bytes(entry_of(self._baseline, run, self._asked, self.read))

    def read(self, task: TaskLog) -> dict[str, Samples]:
        key = key_of(task)
        if key not in self._keys:
            return self._from_file(task)
        if key not in self._held:
            self._held[key] = self._from_file(task)
        return self._held[key]


@contextmanager
def _computing(baseline: Run, runs: Sequence[Run], asked: Options, workers: int) -> Iterator[Work]:
    """Computes in this process; with workers they read for it, or compute where runs are many."""
    if not workers or not runs:
        yield _at_once(_Computing(baseline, asked))
        return
    if len(runs) <= FEW:
        # another process would import torch for longer than it compares
        with SampleReader(workers=workers) as read:
            names = baseline.select(asked.tasks)
            tasks = [
                run.tasks[name] for name in names for run in (baseline, *runs) if name in run.tasks
            ]
            read.prefetch(tasks)
            yield _at_once(_Computing(baseline, asked, read))
        return
    # a fork starts at once, but is only safe before torch has started its threads
    forks = sys.platform == "linux" and "torch" not in sys.modules
    if forks and os.environ.get("OMP_NUM_THREADS") == "1":
        from lm_eval_flips.leaderboard import entry  # noqa: F401  (once for all: it starts none)
    with futures.ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("fork" if forks else "spawn"),
        initializer=_start,
        initargs=(baseline, asked),
    ) as pool:
        try:
            yield lambda run: pool.submit(_entry, run)
        finally:
            pool.shutdown(cancel_futures=True)


def _at_once(computing: _Computing) -> Work:
    def compute(run: Run) -> futures.Future[bytes]:
        made: futures.Future[bytes] = futures.Future()
        made.set_result(computing.entry(run))
        return made

    return compute


_process: _Computing | None = None


def _start(baseline: Run, asked: Options) -> None:
    global _process
    end_with_parent()
    import torch

    torch.set_num_threads(1)  # as many processes as processors
    _process = _Computing(baseline, asked)


def _entry(run: Run) -> bytes:
    if _process is None:
        raise RuntimeError("the process has not started")
    return _process.entry(run)
