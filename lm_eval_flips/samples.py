"""The samples of one task, read from `samples_<task>_<date>.jsonl` into columns.

One line is one document under one filter. The text is hashed and dropped while reading, so that a
hundred thousand samples of 4 kB cost a few MB. Numbers come back as logged: the harness writes
log-likelihoods as strings with all their digits. Beside ``runs.py`` this is the only module that
knows the format; ``harness/task.py`` feeds it the same records before they are written.
"""

from __future__ import annotations

import ast
import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.runs import TaskLog

HASHES = ("document", "target", "prompt", "arguments")
DIGEST = 16  # bytes kept of each hash
# Metrics whose logged value is (log-likelihood, units): perplexities, not means.
PERPLEXITIES = frozenset({"word_perplexity", "byte_perplexity", "bits_per_byte"})

_encoder = msgspec.json.Encoder(order="sorted", enc_hook=str)


class Record(msgspec.Struct, gc=False):
    """One line of a samples file; the task's metrics are added as further fields."""

    doc_id: int
    filter: str
    metrics: list[str]
    doc_hash: str
    prompt_hash: str
    target_hash: str
    target: Any
    arguments: dict[str, dict[str, Any]]
    filtered_resps: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One task's samples under one filter, sorted by doc_id. No field has a row for another sample.

    ``line`` is each sample's line in the file, ``choices`` its number of log-likelihoods.
    ``kind`` is "choices", "cloze" (one continuation), "text" (generated) or "rolling".
    Log-likelihoods are nats, ``[n, choices]``, -inf beyond a sample's own choices.
    ``chars`` and ``bytes`` are the choices' lengths, nan where the log does not tell them.
    ``gold`` marks the right choices; a row without any means that the log does not tell.
    Metric values are nan where a sample lacks the metric, units nan where the value has none.
    """

    task: TaskLog
    filter: str
    kind: str
    doc_id: NDArray[np.int64]
    line: NDArray[np.int64]
    hashes: Mapping[str, NDArray[np.uint64]]
    choices: NDArray[np.int64]
    loglikelihoods: NDArray[np.float64]
    unconditional: NDArray[np.float64] | None
    chars: NDArray[np.float64]
    bytes: NDArray[np.float64]
    gold: NDArray[np.bool_]
    answer: NDArray[np.uint64]
    metrics: Mapping[str, NDArray[np.float64]]
    units: Mapping[str, NDArray[np.float64]]
    unusable: Mapping[int, str]
    opaque: frozenset[str]

    def __len__(self) -> int:
        return len(self.doc_id)


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
    for number, record in enumerate(_records(task.path, progress)):
        if record.filter not in columns:
            columns[record.filter] = Columns(task, record.filter)
        columns[record.filter].add(record, line=number)
    if not columns:
        raise FlipsError(f"'{task.path}' is empty; rerun lm_eval with --log_samples")
    return {name: found.samples() for name, found in columns.items()}


def read_lines(task: TaskLog, lines: set[int]) -> dict[int, dict[str, Any]]:
    """The whole logged record of some lines, to show their text. Lines count from 0."""
    wanted = {}
    with task.path.open("rb") as file:
        for number, line in enumerate(file):
            if number in lines:
                wanted[number] = json.loads(line)
    return wanted


def arguments_digest(requests: Sequence[Sequence[Any]]) -> bytes:
    """Digest of all arguments of a sample's requests, the same from the log and from memory.

    An argument that only repeats the request before is hashed once: choices share their context.

    Example:
        >>> arguments_digest([("Q?", " A"), ("Q?", " B")]).hex()[:8]
        '...'
    """
    before: Sequence[Any] = ()
    new: list[list[Any]] = []
    for request in requests:
        known = len(before)
        new.append(
            [
                None if i < known and value == before[i] else value
                for i, value in enumerate(request)
            ]
        )
        before = request
    return hashlib.sha256(_encoder.encode(new)).digest()[:DIGEST]


def _records(path: Path, progress: Callable[[int], None] | None) -> Iterator[Any]:
    decoder, known = _decoder(()), ()
    pending = 0
    with path.open("rb") as file:
        for number, line in enumerate(file):
            record = _decode(decoder, line, path, number)
            names = tuple(record.metrics)
            if not set(names) <= set(known):
                known = tuple(dict.fromkeys(known + names))
                decoder = _decoder(known)
                record = _decode(decoder, line, path, number)
            yield record
            pending += len(line)
            if progress is not None and pending > 1 << 22:
                progress(pending)
                pending = 0
    if progress is not None:
        progress(pending)


@lru_cache
def _decoder(metrics: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """A decoder that keeps what pairing and the measures need, and skips the text of the rest."""
    fields: list[tuple[str, type, Any]] = [
        (f"metric_{i}", Any, msgspec.field(name=name, default=None))  # type: ignore[list-item]
        for i, name in enumerate(metrics)
    ]
    kind = msgspec.defstruct("TaskRecord", fields, bases=(Record,), gc=False, kw_only=True)
    return msgspec.json.Decoder(kind)


def _decode(decoder: msgspec.json.Decoder[Any], line: bytes, path: Path, number: int) -> Any:
    place = f"'{path}' line {number + 1}"
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        raise FlipsError(_not_a_sample(place, line, str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        try:
            loose = json.loads(line)  # Python's NaN and Infinity, which the harness does write
        except ValueError:
            raise FlipsError(
                f"{place} is not JSON ({error}); the file was cut off or edited: rerun this task"
            ) from None
    try:
        return msgspec.convert(loose, decoder.type)
    except msgspec.ValidationError as error:
        raise FlipsError(_not_a_sample(place, line, str(error))) from None


def _not_a_sample(place: str, line: bytes, why: str) -> str:
    if b'"doc_hash"' in line and b'"filter"' not in line:
        return f"{place} was written by lm_eval < 0.4.7 (no filter is logged); rerun with >= 0.4.7"
    return f"{place} is not a sample of lm_eval: {why}"


@dataclass
class Columns:
    """Grows the columns of one task and filter, record by record."""

    task: TaskLog
    filter: str
    kind: str = ""
    doc_id: array[int] = field(default_factory=lambda: array("q"))
    line: array[int] = field(default_factory=lambda: array("q"))
    hashes: dict[str, bytearray] = field(default_factory=lambda: {h: bytearray() for h in HASHES})
    answer: bytearray = field(default_factory=bytearray)
    counts: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    base: array[float] = field(default_factory=lambda: array("d"))
    chars: array[float] = field(default_factory=lambda: array("d"))
    bytes: array[float] = field(default_factory=lambda: array("d"))
    gold: bytearray = field(default_factory=bytearray)
    metrics: dict[str, array[float]] = field(default_factory=dict)
    units: dict[str, array[float]] = field(default_factory=dict)
    unusable: dict[int, str] = field(default_factory=dict)
    opaque: set[str] = field(default_factory=set)

    def add(self, record: Any, *, line: int = -1) -> None:
        """Append one record; its metrics are the fields after those of ``Record``."""
        requests = [tuple(request.values()) for request in record.arguments.values()]
        self.doc_id.append(record.doc_id)
        self.line.append(line)
        self.hashes["document"] += _digest(record.doc_hash)
        self.hashes["target"] += _digest(record.target_hash)
        self.hashes["prompt"] += _digest(record.prompt_hash)
        self.hashes["arguments"] += arguments_digest(requests)
        self._add_responses(record, requests)
        attributes = _attributes(type(record))
        for name in record.metrics:
            self._add_metric(record.doc_id, name, getattr(record, attributes[name]))

    def samples(self) -> Samples:
        """The finished columns.

        Raises:
            FlipsError: a document appears twice, or samples are missing.
        """
        doc_id = np.frombuffer(self.doc_id, np.int64)
        self._check_complete(doc_id)
        order = np.argsort(doc_id, kind="stable")
        counts = np.frombuffer(self.counts, np.int64)
        width = int(counts.max(initial=0))
        mask = np.arange(width) < counts[:, None]

        def table(flat: array[float], empty: float) -> NDArray[np.float64]:
            out = np.full(mask.shape, empty)
            out[mask] = np.frombuffer(flat, np.float64)
            return out[order]

        gold = np.zeros(mask.shape, bool)
        gold[mask] = np.frombuffer(self.gold, np.bool_)
        return Samples(
            task=self.task,
            filter=self.filter,
            kind=self.kind,
            doc_id=doc_id[order],
            line=np.frombuffer(self.line, np.int64)[order],
            choices=counts[order],
            hashes={name: _digests(found)[order] for name, found in self.hashes.items()},
            loglikelihoods=table(self.values, -inf),
            unconditional=table(self.base, 0.0) if self.base else None,
            chars=table(self.chars, nan),
            bytes=table(self.bytes, nan),
            gold=gold[order],
            answer=_digests(self.answer)[order],
            metrics={
                name: np.frombuffer(self._filled(found), np.float64)[order]
                for name, found in self.metrics.items()
                if name not in self.opaque
            },
            units={
                name: np.frombuffer(self._filled(found), np.float64)[order]
                for name, found in self.units.items()
            },
            unusable=self.unusable,
            opaque=frozenset(self.opaque),
        )

    def _check_complete(self, doc_id: NDArray[np.int64]) -> None:
        twice = [doc for doc, count in Counter(doc_id.tolist()).items() if count > 1]
        if twice:
            raise FlipsError(
                f"task '{self.task.name}', filter '{self.filter}': {len(twice)} documents appear "
                f"more than once in '{self.task.path}' (doc {named(sorted(twice))}); on a CPU "
                "torchrun scores everything twice: rerun in one process"
            )
        if self.task.expected is not None and len(doc_id) < self.task.expected:
            raise FlipsError(
                f"task '{self.task.name}': '{self.task.path}' holds {len(doc_id)} samples under "
                f"filter '{self.filter}' but the results say {self.task.expected}; the file was cut "
                "off: rerun this task"
            )

    def _filled(self, values: array[float]) -> array[float]:
        return values + array("d", [nan]) * (len(self.doc_id) - len(values))

    def _add_responses(self, record: Any, requests: list[tuple[Any, ...]]) -> None:
        self.kind = _kind(self.task, requests)
        if self.kind == "text":
            self.answer += hashlib.sha256(_encoder.encode(record.filtered_resps)).digest()[:DIGEST]
            self.counts.append(0)
            return
        self.answer += bytes(DIGEST)
        try:
            if self.kind == "rolling":
                values = [float(value) for value in record.filtered_resps]
                self._add_values(record.doc_id, values, [False] * len(values))
                self.chars.extend([nan] * len(values))
                self.bytes.extend([nan] * len(values))
            else:
                values = [float(response[0]) for response in record.filtered_resps]
                self._add_choices(record, values, requests)
        except (TypeError, ValueError, IndexError):
            raise FlipsError(
                f"task '{self.task.name}', doc {record.doc_id}: the logged responses "
                f"{record.filtered_resps!r:.80} are not log-likelihoods of its requests"
            ) from None

    def _add_choices(
        self, record: Any, values: list[float], requests: list[tuple[Any, ...]]
    ) -> None:
        half = len(values) // 2
        if "acc_mutual_info" in record.metrics and requests[half][0] == "":
            self.base.extend(values[half:])
            values, requests = values[:half], requests[:half]
        texts = _choice_texts(requests, self.task.delimiter)
        lengths = ([len(text), len(text.encode())] for text in texts) if texts else ()
        chars, sizes = zip(*lengths, strict=True) if texts else ([nan] * len(values),) * 2
        self.chars.extend(chars)
        self.bytes.extend(sizes)
        gold = _gold(str(record.target), tuple(texts)) if texts else ()
        self._add_values(record.doc_id, values, [i in gold for i in range(len(values))])

    def _add_values(self, doc_id: int, values: list[float], gold: list[bool]) -> None:
        self.counts.append(len(values))
        self.values.extend(values)
        self.gold.extend(gold)
        largest = max(values)
        if isnan(sum(values)) and any(isnan(value) for value in values):
            self.unusable[doc_id] = "a log-likelihood is nan"
        elif largest == inf:
            self.unusable[doc_id] = "a log-likelihood is +inf"
        elif largest == -inf:
            self.unusable[doc_id] = "no log-likelihood is finite"

    def _add_metric(self, doc_id: int, name: str, value: Any) -> None:
        number, units = _number(value), nan
        if name in PERPLEXITIES and isinstance(value, (list, tuple)) and len(value) == 2:
            number, units = _number(value[0]), _number(value[1]) or nan
        if number is None:
            self.opaque.add(name)
            number = nan
        elif isnan(number):
            self.unusable.setdefault(doc_id, f"{name} is nan")
        for found, new in ((self.metrics, number), (self.units, units)):
            values = found.setdefault(name, array("d"))
            values.extend([nan] * (len(self.doc_id) - 1 - len(values)))
            values.append(new)


@lru_cache
def _attributes(kind: type[msgspec.Struct]) -> dict[str, str]:
    return dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))


def _kind(task: TaskLog, requests: list[tuple[Any, ...]]) -> str:
    """What the requests ask for; where the results are not there to tell, their arguments do."""
    asked = task.output_type
    if asked == "loglikelihood_rolling" or (asked is None and len(requests[0]) == 1):
        return "rolling"
    if asked == "generate_until" or (asked is None and isinstance(requests[0][1], dict)):
        return "text"
    return "choices" if asked == "multiple_choice" or len(requests) > 1 else "cloze"


def _digest(hexadecimal: str) -> bytes:
    try:
        return bytes.fromhex(hexadecimal)[:DIGEST].ljust(DIGEST, b"\0")
    except ValueError:
        return hashlib.sha256(hexadecimal.encode()).digest()[:DIGEST]


def _digests(flat: bytearray) -> NDArray[np.uint64]:
    return np.frombuffer(flat, np.uint64).reshape(-1, DIGEST // 8)


def _number(value: Any) -> float | None:
    """A metric's value as logged: a number, a bool, or either as a string; else None."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        if value in ("True", "False"):
            return float(value == "True")
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _choice_texts(requests: list[tuple[Any, ...]], delimiter: str) -> list[str]:
    """The choices, where they are the continuations of one context; else the log lacks them."""
    texts = []
    for request in requests:
        if request[0] != requests[0][0] or not str(request[1]).startswith(delimiter):
            return []
        texts.append(request[1][len(delimiter) :])
    return texts


def _gold(target: str, choices: tuple[str, ...]) -> tuple[int, ...]:
    """Places of the right choices, from the logged target; empty where it does not tell.

    A target is an index, a list of indices, or a choice's text; digits that could be either tell
    nothing.
    """
    named_choice = (choices.index(target),) if target in choices else ()
    places = _places(target)
    if places and all(0 <= place < len(choices) for place in places):
        return places if named_choice in ((), places) else ()
    return named_choice


@lru_cache(maxsize=4096)
def _places(target: str) -> tuple[int, ...]:
    try:
        value = ast.literal_eval(target)
    except (ValueError, SyntaxError):
        return ()
    places = value if isinstance(value, list) else [value]
    return tuple(places) if all(type(place) is int for place in places) else ()
