"""Samples files -> Samples: decodes `samples_<task>_<date>.jsonl`, one file or many at once.

msgspec decodes each line into a struct that has only what pairing and the measures need; the text
of the rest is skipped, and what is kept is hashed and dropped at once, so that a hundred thousand
samples of 4 kB cost a few MB. Nothing that is read is executed or unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence, Set
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.checks import checked
from lm_eval_flips.logs.columns import Columns
from lm_eval_flips.logs.files import BOM, open_log
from lm_eval_flips.logs.records import Continuation, Request, record_type
from lm_eval_flips.logs.results import unnameable
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog

ODD = re.compile(r'["\\\x00-\x1f]')  # in a name, of which no field can be made
NEWLINE = ord("\n")
STEP = 1 << 18  # bytes turned into columns at once; more would not stay in the cache


def read_samples(
    task: TaskLog, *, progress: Callable[[int], None] | None = None
) -> dict[str, Samples]:
    """Read a task's samples file: one ``Samples`` per filter.

    Args:
        task: a task of ``Run.tasks``.
        progress: called with the number of bytes read since the last call.

    Raises:
        FlipsError: a line that is not JSON or not a sample, a metric without a value (file and line
            named), a file without lines, other samples than the results count, one document twice
            under one filter.
    """
    columns: dict[str, Columns] = {}
    decoder, first = _Decoder(task), 0
    for block in _blocks(task, progress):
        ends = int(np.count_nonzero(np.frombuffer(block, np.uint8) == NEWLINE))  # 5 x bytes.count
        records, lines = decoder.records(block, first, ends)
        first += ends
        done = 0
        for name, alike in groupby(records, key=attrgetter("filter")):
            if name not in columns:
                columns[name] = Columns(task, name)
            of_filter = list(alike)
            columns[name].add(of_filter, lines=lines[done : done + len(of_filter)])
            done += len(of_filter)
    if not columns:
        raise FlipsError(f"'{task.path}' is empty; rerun lm_eval with --log_samples")
    return checked({name: grown.samples() for name, grown in columns.items()}, task)


def each_line(task: TaskLog, lines: Set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The whole logged record of some lines, one after the other: the file is read once.

    Raises:
        FlipsError: the file cannot be read, or lacks a line: it has changed since it was compared.
    """
    left = len(lines)
    try:
        with open_log(task.path, task.name) as log:
            for number, line in enumerate(log.stream):
                if number in lines:
                    yield number, json.loads(line.removeprefix(BOM))
                    left -= 1
                    if not left:
                        return
    except (OSError, ValueError, RecursionError) as error:
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
    for block in _blocks(task, None):
        for line in filter(bytes.strip, bytes(block).split(b"\n")):
            document = json.loads(line).get("doc")
            yield document if isinstance(document, dict) else {}


class _Decoder:
    """Decodes whole lines of a samples file into records, learning the task's metrics."""

    def __init__(self, task: TaskLog) -> None:
        self._path, self._output_type = task.path, task.output_type
        scored = (key.rpartition(",")[0] for key in task.scores)
        self._metrics: tuple[str, ...] = tuple(
            name for name in dict.fromkeys(scored) if not ODD.search(name)
        )

    def records(self, block: bytearray, first: int, ends: int) -> tuple[list[Any], Sequence[int]]:
        """One record a line that is not blank, and their lines.

        Args:
            block: whole lines.
            first: number of the first one.
            ends: newlines in it.
        """
        records, lines = self._decoded(block, first, ends)
        met = dict.fromkeys(chain.from_iterable([record.metrics for record in records]))
        if not met.keys() <= set(self._metrics):
            for record, line in zip(records, lines, strict=True):
                if odd := [name for name in record.metrics if unnameable(name) or ODD.search(name)]:
                    raise FlipsError(
                        f"'{self._path}' line {line + 1} is not a sample of lm_eval: a metric is "
                        f"called {odd[0]!r:.60}"
                    )
            self._metrics = tuple(dict.fromkeys((*self._metrics, *met)))
            records, lines = self._decoded(block, first, ends)
        return records, lines

    def _decoded(self, block: bytearray, first: int, ends: int) -> tuple[list[Any], Sequence[int]]:
        decoder = _decoder(self._metrics, self._output_type)
        count = ends + (not block.endswith(b"\n"))
        try:
            records = decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            records = []
        if len(records) == count:
            return records, range(first, first + count)
        # line by line: slower, but takes Python's NaN and blank lines, and names one that is none
        each = enumerate(bytes(block).removesuffix(b"\n").split(b"\n"), first)
        full = [(number, line) for number, line in each if line.strip()]
        records = [_decode(decoder, line, self._path, number) for number, line in full]
        return records, [number for number, _ in full]


def _blocks(task: TaskLog, progress: Callable[[int], None] | None) -> Iterator[bytearray]:
    """A file in blocks of whole lines, each of which is overwritten by the next."""
    with open_log(task.path, task.name) as log:
        read = 0
        block = bytearray(STEP)  # one for all: fresh memory costs as much as reading does
        while size := log.stream.readinto(memoryview(block)[:STEP]):
            block[size:] = log.stream.readline()
            if not read and block.startswith(BOM):
                del block[: len(BOM)]
            yield block
            block.extend(bytes(max(STEP - len(block), 0)))
            position = log.on_disk.tell()
            if progress is not None:
                progress(position - read)
            read = position


@lru_cache
def _decoder(metrics: tuple[str, ...], output_type: str | None) -> msgspec.json.Decoder[Any]:
    """A decoder that keeps what pairing and the measures need, and skips the text of the rest."""
    scored: Any = tuple[float, Any]
    shapes: dict[str | None, tuple[Any, type[Request]]] = {
        "multiple_choice": (scored, Continuation),
        "loglikelihood": (scored, Continuation),
        "loglikelihood_rolling": (float, Request),
    }
    response, request = shapes.get(output_type, (Any, Request))
    # not strict: the harness logs numbers as strings
    return msgspec.json.Decoder(record_type(metrics, response, request), strict=False)


def _decode(decoder: msgspec.json.Decoder[Any], line: bytes, path: Path, number: int) -> Any:
    try:
        try:
            return decoder.decode(line)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            try:
                loose = json.loads(line)  # Python's NaN and Infinity, which the harness does write
            except ValueError:
                raise FlipsError(
                    f"'{path}' line {number + 1} is not JSON ({error}); the file was cut off or "
                    "edited: rerun this task"
                ) from None
        return _encodable(msgspec.convert(loose, decoder.type, strict=False))
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise FlipsError(_not_a_sample(path, number, line, str(error))) from None
    except RecursionError:
        raise FlipsError(_not_a_sample(path, number, line, "it is nested too deep")) from None


def _encodable(record: Any) -> Any:
    """Refuse half a surrogate pair in a name, which nothing could be written with."""
    for name in (record.filter, *record.metrics):
        name.encode()
    return record


def _not_a_sample(path: Path, number: int, line: bytes, why: str) -> str:
    place = f"'{path}' line {number + 1}"
    if b'"doc_hash"' in line and b'"filter"' not in line:
        return f"{place} was written by lm_eval < 0.4.7 (no filter is logged); rerun with >= 0.4.7"
    return f"{place} is not a sample of lm_eval: {why}"
