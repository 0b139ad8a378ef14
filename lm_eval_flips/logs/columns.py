"""Records -> Samples: grows a task's columns record by record, dropping the text.

What the log tells is kept without loss: the harness writes log-likelihoods as strings with all
their digits.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.choices import Choices
from lm_eval_flips.logs.faults import RunFault
from lm_eval_flips.logs.layout import Layout
from lm_eval_flips.logs.metric_columns import MetricColumn, UnusableValueError
from lm_eval_flips.logs.records import (
    DIGEST,
    RESERVED,
    Request,
    arguments_digests,
    attributes,
    even_requests,
    hash_digests,
    request_digest,
)
from lm_eval_flips.logs.responses import kind_of, read_responses
from lm_eval_flips.logs.sample_checks import (
    foreign_answers,
    not_responses,
    odd_answers,
    refuse_other_answers,
    refuse_twice,
    unusable,
)
from lm_eval_flips.logs.samples import HASHES, Samples
from lm_eval_flips.logs.task_log import TaskLog
from lm_eval_flips.logs.turns import ANSWERED
from lm_eval_flips.logs.written import Written, digests

_HASH_FIELDS = {"document": "doc_hash", "target": "target_hash", "prompt": "prompt_hash"}


class Columns:
    """Grows the columns of one task and filter, record by record."""

    def __init__(self, task: TaskLog, filter: str) -> None:  # noqa: A002  (the harness's word)
        self.task, self.filter = task, filter
        self.kind = ""
        self.doc_id: array[int] = array("q")
        self.line: array[int] = array("q")
        self.hashes = {name: bytearray() for name in HASHES}
        self.written = Written(task.fallbacks_of(filter))
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
                self.layout.check_responses(alike, lines[done : done + len(alike)])
                if self.task.first_filter and self.filter == "none":
                    refuse_other_answers(self.task, alike, lines[done : done + len(alike)])
            done += len(alike)
            self._add_alike(alike, layout, from_file=lines is not None)

    def samples(self) -> Samples:
        """The finished columns, sorted by doc_id.

        Raises:
            FlipsError: a document appears twice.
        """
        doc_id = np.frombuffer(self.doc_id, np.int64)
        refuse_twice(self.task, self.filter, doc_id)
        order = np.argsort(doc_id, kind="stable")
        mask = self.choices.mask()
        loglikelihoods = self.choices.loglikelihoods(mask)[order]
        unconditional = self.choices.unconditional(mask)
        if unconditional is not None:
            unconditional = unconditional[order]
        count = len(doc_id)
        numbers = {name: column for name, column in self.metrics.items() if column.is_number}
        written = itemgetter(order if self.kind == "text" else slice(None))
        return Samples(
            task=self.task,
            filter=self.filter,
            kind=self.kind,
            doc_id=doc_id[order],
            line=np.frombuffer(self.line, np.int64)[order],
            hashes={name: digests(flat)[order] for name, flat in self.hashes.items()},
            choices=np.frombuffer(self.choices.counts, np.int64)[order],
            loglikelihoods=loglikelihoods,
            unconditional=unconditional,
            chars=self.choices.chars(mask)[order],
            bytes=self.choices.bytes(mask)[order],
            gold=self.choices.gold(mask)[order],
            greedy=self.choices.greedy(mask)[order],
            answer=written(self.written.answer),
            response=written(self.written.response),
            response_length=written(self.written.length),
            signs={name: values[order] for name, values in self.written.signs.items()},
            sampling=self.written.sampling,
            faults=self._faults(doc_id),
            request_keys=self._request_keys(mask, order),
            metrics={name: m.number_column(count)[order] for name, m in numbers.items()},
            units={name: m.unit_column(count)[order] for name, m in numbers.items() if m.has_units},
            logged={name: m.logged_column(count)[order] for name, m in self.metrics.items()},
            values={
                name: metric.values(order)
                for name, metric in self.metrics.items()
                if not metric.is_number
            },
            unusable=unusable(self.kind, doc_id[order], loglikelihoods, unconditional),
            opaque=frozenset(self.opaque),
        )

    def _faults(self, doc_id: NDArray[np.int64]) -> tuple[RunFault, ...]:
        if self.kind != "text":
            return ()
        foreign = doc_id[self.written.foreign].tolist()
        return foreign_answers(self.task, self.filter, foreign, len(doc_id))

    def _request_keys(
        self, mask: NDArray[np.bool_], order: NDArray[np.int64]
    ) -> NDArray[np.uint64] | None:
        if not self.task.keep_requests:
            return None
        if self.kind == "text":
            return digests(self.request_keys)[order][:, None]
        keys = np.zeros((*mask.shape, DIGEST // 8), np.uint64)
        keys[mask] = digests(self.request_keys)
        return keys[order]

    def _add_alike(self, records: list[Any], layout: Sequence[str], *, from_file: bool) -> None:
        """Append records that have the same metrics."""
        start = len(self.doc_id)
        self.doc_id.extend([record.doc_id for record in records])
        for name in ("document", "target", "prompt"):
            self.hashes[name] += hash_digests(list(map(attrgetter(_HASH_FIELDS[name]), records)))
        kind: Any = type(records[0])
        fields = attributes(kind)
        for name in layout:
            if name in RESERVED:
                self.opaque.add(name)
                continue
            column = list(map(attrgetter(fields[name]), records))
            self._add_metric(name, column, start, from_file=from_file)
        self._add_requests(records, layout, from_file=from_file)

    def _add_metric(self, name: str, column: Sequence[Any], start: int, *, from_file: bool) -> None:
        metric = self.metrics.get(name)
        if metric is None:
            metric = MetricColumn(name, strict=self.task.standard_scoring)
            self.metrics[name] = metric
        try:
            metric.add(column, start, from_file=from_file)
        except UnusableValueError as error:
            raise self._fault(start + error.row, error.why) from None

    def _add_requests(self, records: list[Any], layout: Sequence[str], *, from_file: bool) -> None:
        mutual = "acc_mutual_info" in layout
        requests = [list(record.arguments.values()) for record in records]
        if [] in requests:
            raise not_responses(self.task, records, requests, self.kind)
        asked = _asked_alike(requests) if ANSWERED in layout else requests
        even = even_requests(asked)
        self.hashes["arguments"] += arguments_digests(asked) if even is None else even.digests()
        self.kind = self.kind or kind_of(self.task, requests[0])
        if self.kind == "text":
            if from_file:
                self._refuse_odd_answers(records, requests)
            self.written.add(records)
            self.choices.add_none(len(records))
            if self.task.keep_requests:
                self.request_keys += b"".join(map(_only_key, requests))
            return
        responses = read_responses([r.filtered_resps for r in records], requests, self.kind)
        if responses is None:
            raise not_responses(self.task, records, requests, self.kind)
        if mutual:
            # the second half of the requests asks for each choice without its context
            responses, unconditional = responses.halves()
            self.choices.add_unconditional(unconditional.values)
            requests = [asked[: len(asked) // 2] for asked in requests]
            even = even_requests(requests)
        if self.task.keep_requests:
            self.request_keys += b"".join(map(request_digest, chain.from_iterable(requests)))
        self.choices.add(responses, [str(record.target) for record in records], requests, even)

    def _refuse_odd_answers(self, records: list[Any], requests: list[list[Request]]) -> None:
        start = len(self.doc_id) - len(records)
        exact = self.metrics.get("exact_match") if self.task.standard_scoring else None
        scores = None if exact is None else exact.numbers[start:]
        for place, why in odd_answers(records, requests, self.written, scores):
            raise self._fault(start + place, why)

    def _fault(self, row: int, why: str) -> FlipsError:
        line = self.line[row]
        place = f"'{self.task.path}' line {line + 1}" if line >= 0 else f"task '{self.task.name}'"
        return FlipsError(
            f"{place}, filter '{self.filter}', doc {self.doc_id[row]}: {why}; the file was edited "
            "or damaged: rerun this task"
        )


def _only_key(asked: Sequence[Request]) -> bytes:
    """The key of a sample's request; of no request where there are several."""
    return request_digest(asked[0]) if len(asked) == 1 else bytes(DIGEST)


def _asked_alike(requests: list[list[Request]]) -> list[list[Request]]:
    """Later turns hold what the model said before: compared are the first one, and how many."""
    return [asked[:1] * len(asked) for asked in requests]
