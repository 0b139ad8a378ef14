"""Records -> Samples: grows a task's columns record by record, dropping the text.

What the log tells is kept without loss: the harness writes log-likelihoods as strings with all
their digits.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.choices import Choices
from lm_eval_flips.logs.faults import RunFault
from lm_eval_flips.logs.layout import Layout
from lm_eval_flips.logs.metric_columns import MetricColumn, UnusableValueError
from lm_eval_flips.logs.records import (
    DIGEST,
    RESERVED,
    Request,
    arguments_digest,
    attributes,
    even_requests,
    request_digest,
)
from lm_eval_flips.logs.runs import TaskLog
from lm_eval_flips.logs.samples import HASHES, Samples
from lm_eval_flips.logs.written import Written, digests

_FLAGS = {"True": 1, "False": 0}
_HASH_FIELDS = {"document": "doc_hash", "target": "target_hash", "prompt": "prompt_hash"}


class Columns:
    """Grows the columns of one task and filter, record by record."""

    def __init__(self, task: TaskLog, filter: str) -> None:  # noqa: A002  (the harness's word)
        self.task, self.filter = task, filter
        self.kind = ""
        self.doc_id: array[int] = array("q")
        self.line: array[int] = array("q")
        self.hashes = {name: bytearray() for name in HASHES}
        self.written = Written()
        self.request_keys = bytearray()
        self.choices = Choices(task.delimiter)
        self.metrics: dict[str, MetricColumn] = {}
        self.opaque: set[str] = set()
        self.layout = Layout(task, filter)

    def add(self, records: Iterable[Any], *, lines: Sequence[int] | None = None) -> None:
        """Append records, whose metrics are the fields after those of ``Record``.

        All of them at once, which drops their text: a few hundred stay in the cache, more do not.

        Args:
            records: the records.
            lines: each one's line in the file, counted from 0; None for records that were not
                read from a file.

        Raises:
            FlipsError: a value or a response that is none, with its line.
        """
        done = 0
        for layout, group in groupby(records, key=attrgetter("metrics")):
            alike = list(group)
            self.line.extend(
                [-1] * len(alike) if lines is None else lines[done : done + len(alike)]
            )
            if lines is not None:
                self.layout.check(alike, layout, lines[done : done + len(alike)])
                self._refuse_other_answers(alike, lines[done : done + len(alike)])
            done += len(alike)
            self._add_alike(alike, layout, from_file=lines is not None)

    def samples(self) -> Samples:
        """The finished columns, sorted by doc_id.

        Raises:
            FlipsError: a document appears twice.
        """
        doc_id = np.frombuffer(self.doc_id, np.int64)
        self._refuse_twice(doc_id)
        order = np.argsort(doc_id, kind="stable")
        mask = self.choices.mask()
        loglikelihoods = self.choices.loglikelihoods(mask)[order]
        unconditional = self.choices.unconditional(mask)
        if unconditional is not None:
            unconditional = unconditional[order]
        count = len(doc_id)
        numbers = {name: column for name, column in self.metrics.items() if column.is_number}
        return Samples(
            task=self.task,
            filter=self.filter,
            kind=self.kind,
            doc_id=doc_id[order],
            line=np.frombuffer(self.line, np.int64)[order],
            hashes={name: digests(found)[order] for name, found in self.hashes.items()},
            choices=np.frombuffer(self.choices.counts, np.int64)[order],
            loglikelihoods=loglikelihoods,
            unconditional=unconditional,
            chars=self.choices.chars(mask)[order],
            bytes=self.choices.bytes(mask)[order],
            gold=self.choices.gold(mask)[order],
            greedy=self.choices.greedy(mask)[order],
            answer=self.written.answer[order],
            response=self.written.response[order],
            response_length=self.written.length[order],
            sampling=self.written.sampling,
            faults=self._foreign_answers(),
            request_keys=self._request_keys(mask, order),
            metrics={name: m.number_column(count)[order] for name, m in numbers.items()},
            units={name: m.unit_column(count)[order] for name, m in numbers.items()},
            logged={name: m.logged_column(count)[order] for name, m in self.metrics.items()},
            values={
                name: metric.values(order)
                for name, metric in self.metrics.items()
                if not metric.is_number
            },
            unusable=self._unusable(doc_id[order], loglikelihoods, unconditional),
            opaque=frozenset(self.opaque),
        )

    def _foreign_answers(self) -> tuple[RunFault, ...]:
        """A few answers that their responses do not hold, where all the others do."""
        foreign = np.flatnonzero(self.written.foreign)
        if not 0 < len(foreign) <= max(1, len(self.doc_id) // 20):
            return ()
        docs = [self.doc_id[place] for place in foreign.tolist()]
        return (
            RunFault(
                code="answer-not-written",
                task=self.task.name,
                text=f"{len(docs)} answers under filter '{self.filter}' stand nowhere in what the "
                f"model wrote (doc {named(docs)})",
                way_out="look at them: a filter that changes texts does so, and so does an edit",
                severity="note",
            ),
        )

    def _request_keys(
        self, mask: NDArray[np.bool_], order: NDArray[np.int64]
    ) -> NDArray[np.uint64] | None:
        if not self.task.keep_requests or self.kind == "text":
            return None
        keys = np.zeros((*mask.shape, DIGEST // 8), np.uint64)
        keys[mask] = digests(self.request_keys)
        return keys[order]

    def _refuse_twice(self, doc_id: NDArray[np.int64]) -> None:
        unique, counts = np.unique(doc_id, return_counts=True)
        twice = unique[counts > 1].tolist()
        if twice:
            raise FlipsError(
                f"task '{self.task.name}', filter '{self.filter}': {len(twice)} documents appear "
                f"more than once in '{self.task.path}' (doc {named(twice)}); on a CPU torchrun "
                "scores everything twice: rerun in one process"
            )

    def _unusable(
        self,
        doc_id: NDArray[np.int64],
        values: NDArray[np.float64],
        unconditional: NDArray[np.float64] | None,
    ) -> dict[int, str]:
        if self.kind == "text":
            return {}
        reasons = {
            "a log-likelihood is nan": np.isnan(values).any(-1),
            "a log-likelihood is +inf": np.isposinf(values).any(-1),
            "no log-likelihood is finite": np.isneginf(values).all(-1),
        }
        if unconditional is not None:
            bad = ~np.isfinite(unconditional).all(-1)
            reasons["a choice's unconditional log-likelihood is not finite"] = bad
        unusable: dict[int, str] = {}
        for reason, bad in reasons.items():
            for doc in doc_id[bad].tolist():
                unusable.setdefault(doc, reason)
        return unusable

    def _add_alike(self, records: list[Any], layout: Sequence[str], *, from_file: bool) -> None:
        """Append records that have the same metrics."""
        start = len(self.doc_id)
        self.doc_id.extend([record.doc_id for record in records])
        for name in ("document", "target", "prompt"):
            hashes = [getattr(record, _HASH_FIELDS[name]) for record in records]
            self.hashes[name] += _digests_of(hashes)
        kind: Any = type(records[0])
        fields = attributes(kind)
        for name in layout:
            if name in RESERVED:
                self.opaque.add(name)
                continue
            column = [getattr(record, fields[name]) for record in records]
            self._add_metric(name, column, start, from_file=from_file)
        self._add_requests(records, mutual="acc_mutual_info" in layout, from_file=from_file)

    def _add_metric(self, name: str, column: Sequence[Any], start: int, *, from_file: bool) -> None:
        metric = self.metrics.get(name)
        if metric is None:
            metric = MetricColumn(name, strict=self.task.standard_scoring)
            self.metrics[name] = metric
        try:
            metric.add(column, start, from_file=from_file)
        except UnusableValueError as error:
            row = start + error.row
            raise FlipsError(
                f"{self._place(row)}, doc {self.doc_id[row]}: {error.why}; the file was edited or "
                "damaged: rerun this task"
            ) from None

    def _refuse_other_answers(self, records: list[Any], lines: Sequence[int]) -> None:
        """Refuse filtered answers that are not the first responses, if the filter takes those."""
        if not self.task.first_filter or self.filter != "none":
            return
        if None in [record.resps for record in records]:
            return
        try:
            first = [own[0] for record in records for own in record.resps]
            if first == [own for record in records for own in record.filtered_resps]:
                return
        except IndexError:
            pass
        other = [
            (record, line)
            for record, line in zip(records, lines, strict=True)
            # by their text, so that nan is nan
            if repr([own[:1] for own in record.resps]) != repr([[a] for a in record.filtered_resps])
        ]
        scored = self.task.output_type in ("multiple_choice", "loglikelihood")
        # a filter of generated text that goes by the usual name changes most answers, not one
        if other and (scored or 2 * len(other) < len(records)):
            record, line = other[0]
            raise FlipsError(
                f"'{self.task.path}' line {line + 1}, doc {record.doc_id}: its filtered_resps are "
                "not its resps; the file was edited or damaged: rerun this task"
            )

    def _place(self, row: int) -> str:
        line = self.line[row]
        place = f"'{self.task.path}' line {line + 1}" if line >= 0 else f"task '{self.task.name}'"
        return f"{place}, filter '{self.filter}'"

    def _add_requests(self, records: list[Any], *, mutual: bool, from_file: bool) -> None:
        requests = [list(record.arguments.values()) for record in records]
        if [] in requests:
            self._refuse_responses(records, requests)
        even = even_requests(requests)
        self.hashes["arguments"] += (
            b"".join([arguments_digest(asked) for asked in requests])
            if even is None
            else even.digests()
        )
        self.kind = self.kind or _kind(self.task, requests[0])
        if self.kind == "text":
            if from_file:
                self._refuse_odd_answers(records, requests)
            self.written.add(records)
            self.choices.add_none(len(records))
            return
        self.written.add_none(len(records))
        values = self._values(records, requests)
        greedy = [self._greedy(record.filtered_resps) for record in records]
        if mutual:
            # the second half of the requests asks for each choice without its context
            halves = [len(own) // 2 for own in values]
            self.choices.add_unconditional([v[h:] for v, h in zip(values, halves, strict=True)])
            values = [own[:h] for own, h in zip(values, halves, strict=True)]
            greedy = [own[:h] for own, h in zip(greedy, halves, strict=True)]
            requests = [asked[:h] for asked, h in zip(requests, halves, strict=True)]
            even = even_requests(requests)
        if self.task.keep_requests:
            self.request_keys += b"".join(request_digest(r) for asked in requests for r in asked)
        self.choices.add_greedy(greedy)
        self.choices.add(values, [str(record.target) for record in records], requests, even)

    def _refuse_odd_answers(self, records: list[Any], requests: list[list[Request]]) -> None:
        """Refuse answers of another kind than the others, or scored against their own target."""
        start = len(self.doc_id) - len(records)
        exact = self.metrics.get("exact_match") if self.task.standard_scoring else None
        for place, (record, asked) in enumerate(zip(records, requests, strict=True), start):
            answers = record.filtered_resps
            kind = "text" if all(isinstance(answer, str) for answer in answers) else "other"
            self.written.kinds[kind] += 1
            why = ""
            if len(answers) != len(asked) or None in answers:
                why = f"{answers!r:.60} are not answers to its {len(asked)} requests"
            elif kind == "other" and self.written.kinds["text"]:
                why = f"{answers!r:.60} is no text, as other answers are"
            elif exact is not None and answers == [record.target] and exact.numbers[place] == 0:
                why = "its answer is its target, and exact_match is 0"
            if why:
                raise FlipsError(
                    f"{self._place(place)}, doc {record.doc_id}: {why}; the file was edited or "
                    "damaged: rerun this task"
                )

    def _values(self, records: list[Any], requests: list[list[Request]]) -> list[list[float]]:
        try:
            values = [self._loglikelihoods(record.filtered_resps) for record in records]
        except (TypeError, ValueError, IndexError, OverflowError):
            values = []
        counts = list(map(len, requests))
        if list(map(len, values)) != counts or 0 in counts:
            self._refuse_responses(records, requests)
        return values

    def _loglikelihoods(self, responses: list[Any]) -> list[float]:
        if self.kind == "rolling":
            return [float(response) for response in responses]
        return [float(response[0]) for response in responses]

    def _greedy(self, responses: list[Any]) -> list[int]:
        if self.kind == "rolling":
            return [-1] * len(responses)
        return [_FLAGS.get(str(own[1]), -1) if len(own) > 1 else -1 for own in responses]

    def _refuse_responses(self, records: list[Any], requests: list[list[Request]]) -> NoReturn:
        for record, asked in zip(records, requests, strict=True):
            responses = record.filtered_resps
            try:
                fits = len(self._loglikelihoods(responses)) == len(asked) > 0
            except (TypeError, ValueError, IndexError, OverflowError):
                fits = False
            if not fits or not asked:
                break
        raise FlipsError(
            f"task '{self.task.name}', doc {record.doc_id}: the logged responses "
            f"{responses!r:.80} are not log-likelihoods of its {len(asked)} requests"
        )


def _kind(task: TaskLog, requests: list[Request]) -> str:
    """What the requests ask for; where the results are not there to tell, their arguments do."""
    asked, second = task.output_type, requests[0].arg_1
    if asked == "loglikelihood_rolling" or (asked is None and second is None):
        return "rolling"
    if asked == "generate_until" or (asked is None and isinstance(second, dict)):
        return "text"
    return "choices" if asked == "multiple_choice" or len(requests) > 1 else "cloze"


def _digests_of(hashes: list[str]) -> bytes:
    """The first bytes of many hexadecimal hashes; a hash of what is not hexadecimal."""
    try:
        whole = bytes.fromhex("".join(hashes))
    except ValueError:
        whole = b""
    if len(whole) != len(hashes) * 32 or set(map(len, hashes)) != {64}:
        whole = b"".join(_hash_bytes(text) for text in hashes)
    return np.frombuffer(whole, np.uint8).reshape(-1, 32)[:, :DIGEST].tobytes()


def _hash_bytes(text: str) -> bytes:
    if re.fullmatch("[0-9a-f]{64}", text):
        return bytes.fromhex(text)
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
