"""Samples read ahead, in processes of their own."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable
from concurrent import futures
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import TracebackType

from lm_eval_flips.logs.processes import end_with_parent
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog

TaskKey = tuple[Path, str]


def key_of(task: TaskLog) -> TaskKey:
    """What tells one task's samples from others': a dump holds those of several."""
    return task.path, task.name


class SampleReader:
    """Reads samples files ahead in processes of its own, while the caller does something else.

    Call it like ``read_samples``. What was not prefetched is read at once, in this process.

    ``progress``, where it is set, is called with the number of bytes read since the last call.

    Args:
        workers: number of processes.
    """

    def __init__(self, *, workers: int) -> None:
        # A fork starts at once, but is only safe before torch has started its threads.
        forks = sys.platform == "linux" and "torch" not in sys.modules
        context = multiprocessing.get_context("fork" if forks else "spawn")
        self._count: Synchronized[int] = context.Value("q", 0)
        self._pool = futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=_share, initargs=(self._count,)
        )
        self._waiting: dict[TaskKey, futures.Future[dict[str, Samples]]] = {}
        self.progress: Callable[[int], None] | None = None
        self._shown = 0

    def prefetch(self, tasks: Iterable[TaskLog]) -> None:
        """Start reading these tasks' files, in this order."""
        for task in tasks:
            if key_of(task) not in self._waiting:
                self._waiting[key_of(task)] = self._pool.submit(_read_shared, task)

    def __call__(self, task: TaskLog) -> dict[str, Samples]:
        """The task's samples by filter; raises what ``read_samples`` raises."""
        future = self._waiting.pop(key_of(task), None)
        if future is None:
            return read_samples(task, progress=self.progress)
        while True:
            try:
                return future.result(timeout=0.2)
            except futures.TimeoutError:
                self._report()

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(self._count.value - self._shown)
            self._shown = self._count.value

    def __enter__(self) -> SampleReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


_shared_count: Synchronized[int] | None = None


def _share(count: Synchronized[int]) -> None:
    global _shared_count
    end_with_parent()
    _shared_count = count


def _read_shared(task: TaskLog) -> dict[str, Samples]:
    count = _shared_count

    def add(size: int) -> None:
        if count is not None:
            with count.get_lock():
                count.value += size

    return read_samples(task, progress=add)
