"""Samples files -> Samples: decodes `samples_<task>_<date>.jsonl`, one file or many at once.

msgspec decodes each line into a struct that has only what pairing and the measures need; the text
of the rest is skipped, and what is kept is hashed and dropped at once, so that a hundred thousand
samples of 4 kB cost a few MB. Nothing that is read is executed or unpickled.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent import futures
from functools import lru_cache
from itertools import chain, groupby
from multiprocessing.sharedctypes import Synchronized
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.columns import Columns
from lm_eval_flips.logs.records import record_type
from lm_eval_flips.logs.runs import TaskLog
from lm_eval_flips.logs.samples import Samples

STEP = 1 << 18  # bytes turned into columns at once; more would not stay in the cache


def read_samples(
    task: TaskLog, *, progress: Callable[[int], None] | None = None
) -> dict[str, Samples]:
    """Read a task's samples file: one ``Samples`` per filter.

    Args:
        task: a task of ``Run.tasks``.
        progress: called with the number of bytes read since the last call.

    Raises:
        FlipsError: a line that is not JSON or not a sample (file and line named), a file without
            lines, fewer samples than the results say, one document twice under one filter.
    """
    columns: dict[str, Columns] = {}
    lines, number = _Lines(task), 0
    for block in _blocks(task.path, progress):
        for name, alike in groupby(lines.records(block, number), key=attrgetter("filter")):
            if name not in columns:
                columns[name] = Columns(task, name)
            records = list(alike)
            columns[name].add(records, lines=range(number, number + len(records)))
            number += len(records)
    if not columns:
        raise FlipsError(f"'{task.path}' is empty; rerun lm_eval with --log_samples")
    return {name: found.samples() for name, found in columns.items()}


def read_lines(task: TaskLog, lines: Set[int]) -> dict[int, dict[str, Any]]:
    """The whole logged record of some lines, to show their text. Lines count from 0.

    Raises:
        FlipsError: as ``each_line``.
    """
    return dict(each_line(task, lines))


def each_line(task: TaskLog, lines: Set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The whole logged record of some lines, one after the other: the file is read once.

    Raises:
        FlipsError: the file cannot be read, or lacks a line: it has changed since it was compared.
    """
    left = len(lines)
    try:
        with task.path.open("rb") as file:
            for number, line in enumerate(file):
                if number in lines:
                    yield number, json.loads(line)
                    left -= 1
                    if not left:
                        return
    except (OSError, ValueError) as error:
        raise FlipsError(
            f"'{task.path}' cannot be read again for its samples' texts: {error}; compare again "
            "with the run's files in place"
        ) from None
    if left:
        raise FlipsError(
            f"'{task.path}' is shorter than it was when it was compared; compare again"
        )


def read_documents(task: TaskLog) -> Iterator[dict[str, Any]]:
    """Every line's document, as its task read it from the data set."""
    for block in _blocks(task.path, None):
        for line in block.splitlines():
            document = json.loads(line).get("doc")
            yield document if isinstance(document, dict) else {}


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
        self._waiting: dict[Path, futures.Future[dict[str, Samples]]] = {}
        self.progress: Callable[[int], None] | None = None
        self._shown = 0

    def prefetch(self, tasks: Iterable[TaskLog]) -> None:
        """Start reading these tasks' files, in this order."""
        for task in tasks:
            if task.path not in self._waiting:
                self._waiting[task.path] = self._pool.submit(_read_shared, task)

    def __call__(self, task: TaskLog) -> dict[str, Samples]:
        """The task's samples by filter; raises what ``read_samples`` raises."""
        future = self._waiting.pop(task.path, None)
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
    _shared_count = count


def _read_shared(task: TaskLog) -> dict[str, Samples]:
    count = _shared_count

    def add(size: int) -> None:
        if count is not None:
            with count.get_lock():
                count.value += size

    return read_samples(task, progress=add)


class _Lines:
    """Decodes whole lines of a samples file into records, learning the task's metrics."""

    def __init__(self, task: TaskLog) -> None:
        self._path, self._output_type = task.path, task.output_type
        self._metrics: tuple[str, ...] = ()

    def records(self, block: bytes, number: int) -> list[Any]:
        """One record a line; ``number`` is that of the first line."""
        records = self._decoded(block, number)
        met = dict.fromkeys(chain.from_iterable([record.metrics for record in records]))
        if not met.keys() <= set(self._metrics):
            self._metrics = tuple(dict.fromkeys((*self._metrics, *met)))
            records = self._decoded(block, number)
        return records

    def _decoded(self, block: bytes, number: int) -> list[Any]:
        decoder = _decoder(self._metrics, self._output_type)
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        try:
            records = decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            records = []
        if len(records) == lines:
            return records
        # line by line: slower, but takes Python's NaN, and names a line that is no sample
        each = block.removesuffix(b"\n").split(b"\n")
        return [_decode(decoder, line, self._path, number + i) for i, line in enumerate(each)]


def _blocks(path: Path, progress: Callable[[int], None] | None) -> Iterator[bytes]:
    """A file in blocks of whole lines."""
    with path.open("rb") as file:
        while block := file.read(STEP):
            block += file.readline()
            yield block
            if progress is not None:
                progress(len(block))


@lru_cache
def _decoder(metrics: tuple[str, ...], output_type: str | None) -> msgspec.json.Decoder[Any]:
    """A decoder that keeps what pairing and the measures need, and skips the text of the rest."""
    responses: Any = {
        "multiple_choice": list[tuple[float, Any]],
        "loglikelihood": list[tuple[float, Any]],
        "loglikelihood_rolling": list[float],
    }.get(output_type or "", list[Any])
    # not strict: the harness logs numbers as strings
    return msgspec.json.Decoder(record_type(metrics, responses), strict=False)


def _decode(decoder: msgspec.json.Decoder[Any], line: bytes, path: Path, number: int) -> Any:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        raise FlipsError(_not_a_sample(path, number, line, str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        try:
            loose = json.loads(line)  # Python's NaN and Infinity, which the harness does write
        except ValueError:
            raise FlipsError(
                f"'{path}' line {number + 1} is not JSON ({error}); the file was cut off or "
                "edited: rerun this task"
            ) from None
    try:
        return msgspec.convert(loose, decoder.type, strict=False)
    except msgspec.ValidationError as error:
        raise FlipsError(_not_a_sample(path, number, line, str(error))) from None


def _not_a_sample(path: Path, number: int, line: bytes, why: str) -> str:
    place = f"'{path}' line {number + 1}"
    if b'"doc_hash"' in line and b'"filter"' not in line:
        return f"{place} was written by lm_eval < 0.4.7 (no filter is logged); rerun with >= 0.4.7"
    return f"{place} is not a sample of lm_eval: {why}"
