"""Records -> Samples: grows a task's columns record by record, dropping the text.

What the log tells is kept without loss: the harness writes log-likelihoods as strings with all
their digits. What it does not tell (the length of a choice that stands in the context, a right
choice that the target does not name) is marked as unknown, never guessed.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from math import inf, nan
from operator import attrgetter, methodcaller
from typing import Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.records import (
    DIGEST,
    RESERVED,
    EvenRequests,
    Request,
    arguments_digest,
    content_digest,
    even_requests,
    request_digest,
)
from lm_eval_flips.logs.runs import TaskLog
from lm_eval_flips.logs.samples import HASHES, SAMPLING, Samples

# Metrics whose logged value is (log-likelihood, units): perplexities, not means.
PERPLEXITIES = frozenset({"word_perplexity", "byte_perplexity", "bits_per_byte"})

_HASH_FIELDS = {"document": "doc_hash", "target": "target_hash", "prompt": "prompt_hash"}
_TRUTH: dict[str, Any] = {"True": 1.0, "False": 0.0}
_FLAGS = {"True": 1, "False": 0}
_INDICES = re.compile(r"\d{1,6}|\[\d{1,6}(, \d{1,6})*\]")


class Columns:
    """Grows the columns of one task and filter, record by record."""

    def __init__(self, task: TaskLog, filter: str) -> None:  # noqa: A002  (the harness's word)
        self.task, self.filter = task, filter
        self.kind = ""
        self.doc_id: array[int] = array("q")
        self.line: array[int] = array("q")
        self.hashes = {name: bytearray() for name in HASHES}
        self.greedy: array[int] = array("b")
        self.answer = bytearray()
        self.response = bytearray()
        self.response_length: array[int] = array("q")
        self.sampling: dict[str, Any] = {}
        self.request_keys = bytearray()
        self.counts: array[int] = array("q")
        self.values: array[float] = array("d")
        self.base: array[float] = array("d")
        self.chars: array[float] = array("d")
        self.bytes: array[float] = array("d")
        self.gold: array[int] = array("q")  # row, place, row, place ...
        self.metrics: dict[str, array[float]] = {}
        self.units: dict[str, array[float]] = {}
        self.unusable: dict[int, str] = {}
        self.opaque: set[str] = set()

    def add(self, records: Iterable[Any], *, line: int | None = None) -> None:
        """Append records, whose metrics are the fields after those of ``Record``.

        All of them at once, which drops their text: a few hundred stay in the cache, more do not.

        Args:
            records: the records.
            line: number of the first one's line in the file, the others' following; None for
                records that were not read from a file.
        """
        for layout, alike in groupby(records, key=attrgetter("metrics")):
            own = list(alike)
            if line is None:
                self.line.extend([-1] * len(own))
            else:
                self.line.extend(range(line, line + len(own)))
                line += len(own)
            self._add_alike(own, layout)

    def samples(self) -> Samples:
        """The finished columns, sorted by doc_id.

        Raises:
            FlipsError: a document appears twice, or samples are missing.
        """
        doc_id = np.frombuffer(self.doc_id, np.int64)
        self._check_complete(doc_id)
        order = np.argsort(doc_id, kind="stable")
        counts = np.frombuffer(self.counts, np.int64)
        mask = np.arange(int(counts.max(initial=0))) < counts[:, None]

        def table(flat: array[float], empty: float) -> NDArray[np.float64]:
            out = np.full(mask.shape, empty)
            out[mask] = np.frombuffer(flat, np.float64)
            return out[order]

        greedy = np.full(mask.shape, -1, np.int8)
        greedy[mask] = np.frombuffer(self.greedy, np.int8)

        gold = np.zeros(mask.shape, np.bool_)
        gold[tuple(np.frombuffer(self.gold, np.int64).reshape(-1, 2).T)] = True

        loglikelihoods = table(self.values, -inf)
        unconditional = table(self.base, 0.0) if self.base else None
        self._find_unusable(doc_id[order], loglikelihoods, unconditional)
        return Samples(
            task=self.task,
            filter=self.filter,
            kind=self.kind,
            doc_id=doc_id[order],
            line=np.frombuffer(self.line, np.int64)[order],
            hashes={name: _digests(found)[order] for name, found in self.hashes.items()},
            choices=counts[order],
            loglikelihoods=loglikelihoods,
            unconditional=unconditional,
            chars=table(self.chars, nan),
            bytes=table(self.bytes, nan),
            gold=gold[order],
            greedy=greedy[order],
            answer=_digests(self.answer)[order],
            response=_digests(self.response)[order],
            response_length=np.frombuffer(self.response_length, np.int64)[order],
            sampling=self.sampling,
            request_keys=self._request_keys(mask, order),
            metrics={
                name: self._filled(found)[order]
                for name, found in self.metrics.items()
                if name not in self.opaque
            },
            units={name: self._filled(found)[order] for name, found in self.units.items()},
            unusable=self.unusable,
            opaque=frozenset(self.opaque),
        )

    def _request_keys(
        self, mask: NDArray[np.bool_], order: NDArray[np.int64]
    ) -> NDArray[np.uint64] | None:
        if not self.task.keep_requests or self.kind == "text":
            return None
        keys = np.zeros((*mask.shape, DIGEST // 8), np.uint64)
        keys[mask] = _digests(self.request_keys)
        return keys[order]

    def _check_complete(self, doc_id: NDArray[np.int64]) -> None:
        unique, counts = np.unique(doc_id, return_counts=True)
        twice = unique[counts > 1].tolist()
        if twice:
            raise FlipsError(
                f"task '{self.task.name}', filter '{self.filter}': {len(twice)} documents appear "
                f"more than once in '{self.task.path}' (doc {named(twice)}); on a CPU torchrun "
                "scores everything twice: rerun in one process"
            )
        if self.task.expected is not None and len(doc_id) < self.task.expected:
            raise FlipsError(
                f"task '{self.task.name}': '{self.task.path}' holds {len(doc_id)} samples under "
                f"filter '{self.filter}' but the results say {self.task.expected}; the file was "
                "cut off: rerun this task"
            )

    def _filled(self, values: array[float]) -> NDArray[np.float64]:
        missing = len(self.doc_id) - len(values)
        return np.pad(np.frombuffer(values, np.float64), (0, missing), constant_values=nan)

    def _find_unusable(
        self,
        doc_id: NDArray[np.int64],
        values: NDArray[np.float64],
        unconditional: NDArray[np.float64] | None,
    ) -> None:
        if self.kind == "text":
            return
        found = {
            "a log-likelihood is nan": np.isnan(values).any(-1),
            "a log-likelihood is +inf": np.isposinf(values).any(-1),
            "no log-likelihood is finite": np.isneginf(values).all(-1),
        }
        if unconditional is not None:
            bad = ~np.isfinite(unconditional).all(-1)
            found["a choice's unconditional log-likelihood is not finite"] = bad
        for reason, bad in found.items():
            for doc in doc_id[bad].tolist():
                self.unusable.setdefault(doc, reason)

    def _add_alike(self, records: list[Any], layout: Sequence[str]) -> None:
        """Append records that have the same metrics."""
        start = len(self.doc_id)
        self.doc_id.extend([record.doc_id for record in records])
        for name in ("document", "target", "prompt"):
            found = [getattr(record, _HASH_FIELDS[name]) for record in records]
            self.hashes[name] += _digests_of(found)
        requests = [list(record.arguments.values()) for record in records]
        even = even_requests(requests)
        self.hashes["arguments"] += (
            b"".join([arguments_digest(asked) for asked in requests])
            if even is None
            else even.digests()
        )
        kind: Any = type(records[0])
        attributes = _attributes(kind)
        for name in layout:
            if name in RESERVED:
                self.opaque.add(name)
                continue
            column = [getattr(record, attributes[name]) for record in records]
            self._add_metric(name, column, start)
        self.kind = self.kind or _kind(self.task, requests[0])
        if self.kind == "text":
            self._add_answers(records)
        else:
            mutual = "acc_mutual_info" in layout
            self._add_responses(records, requests, even, mutual=mutual)

    def _add_metric(self, name: str, column: list[Any], start: int) -> None:
        numbers, units = _numbers(column), None
        if numbers is None and name in PERPLEXITIES:
            pairs = [
                v if isinstance(v, (list, tuple)) and len(v) == 2 else (None, None) for v in column
            ]
            numbers = _numbers([pair[0] for pair in pairs])
            units = _numbers([pair[1] for pair in pairs])
        if numbers is None:
            self.opaque.add(name)
            return
        empty = [nan] * len(column)
        for found, new in ((self.metrics, numbers), (self.units, units or empty)):
            values = found.setdefault(name, array("d"))
            values.extend([nan] * (start - len(values)))
            values.extend(new)
        for place in np.flatnonzero(np.isnan(numbers)).tolist():
            self.unusable.setdefault(self.doc_id[start + place], f"{name} is nan")

    def _add_answers(self, records: list[Any]) -> None:
        settings = next(iter(records[0].arguments.values())).arg_1
        if isinstance(settings, dict):
            self.sampling |= {name: settings[name] for name in SAMPLING if name in settings}
        for record in records:
            self.answer += content_digest(record.filtered_resps)
            written = record.filtered_resps if record.resps is None else record.resps
            self.response += content_digest(written)
            self.response_length.append(_longest(written))
        self.counts.extend([0] * len(records))

    def _add_responses(
        self,
        records: list[Any],
        requests: list[list[Request]],
        even: EvenRequests | None,
        *,
        mutual: bool,
    ) -> None:
        start = len(self.counts)
        nothing = bytes(DIGEST * len(records))
        self.answer += nothing
        self.response += nothing
        self.response_length.extend([0] * len(records))
        values = self._values(records, requests)
        greedy = [self._greedy(record.filtered_resps) for record in records]
        if mutual:
            # the second half of the requests asks for each choice without its context
            halves = [len(own) // 2 for own in values]
            self.base.extend([v for own, h in zip(values, halves, strict=True) for v in own[h:]])
            values = [own[:h] for own, h in zip(values, halves, strict=True)]
            greedy = [own[:h] for own, h in zip(greedy, halves, strict=True)]
            requests = [asked[:h] for asked, h in zip(requests, halves, strict=True)]
            even = even_requests(requests)
        if self.task.keep_requests:
            self.request_keys += b"".join(request_digest(r) for asked in requests for r in asked)
        self.counts.extend([len(own) for own in values])
        self.values.extend(array("d", [value for own in values for value in own]))
        self.greedy.extend(array("b", [flag for own in greedy for flag in own]))
        targets = [str(record.target) for record in records]
        if even is not None and self._add_even_choices(start, targets, even):
            return
        for row, (target, asked) in enumerate(zip(targets, requests, strict=True), start):
            self._add_choices(row, target, asked)

    def _add_even_choices(self, start: int, targets: list[str], even: EvenRequests) -> bool:
        """Do what ``_add_choices`` does for all records at once; False if it takes a closer look.

        It does not if every choice starts with the delimiter, is ASCII, and is no record's target.
        """
        delimiter, texts = self.task.delimiter, even.texts
        skip = len(delimiter)
        if set(map(type, texts)) != {str}:
            return False
        if not all(map(methodcaller("startswith", delimiter), texts)):
            return False
        known = {target: _places(target, even.count) for target in set(targets)}
        if not all(known.values()) or not "".join(texts).isascii():
            return False
        if not {delimiter + target for target in known}.isdisjoint(texts):
            return False
        lengths = array("d", [len(text) - skip for text in texts])
        self.chars.extend(lengths)
        self.bytes.extend(lengths)
        marks = [x for row, own in enumerate(targets, start) for p in known[own] for x in (row, p)]
        self.gold.extend(array("q", marks))
        return True

    def _values(self, records: list[Any], requests: list[list[Request]]) -> list[list[float]]:
        try:
            found = [self._loglikelihoods(record.filtered_resps) for record in records]
        except (TypeError, ValueError, IndexError):
            found = []
        counts = list(map(len, requests))
        if list(map(len, found)) != counts or 0 in counts:
            self._refuse_responses(records, requests)
        return found

    def _loglikelihoods(self, responses: list[Any]) -> list[float]:
        if self.kind == "rolling":
            return [float(response) for response in responses]
        return [float(response[0]) for response in responses]

    def _greedy(self, responses: list[Any]) -> list[int]:
        if self.kind == "rolling":
            return [-1] * len(responses)
        return [_FLAGS.get(str(found[1]), -1) if len(found) > 1 else -1 for found in responses]

    def _refuse_responses(self, records: list[Any], requests: list[list[Request]]) -> NoReturn:
        for record, asked in zip(records, requests, strict=True):
            responses = record.filtered_resps
            try:
                fits = len(self._loglikelihoods(responses)) == len(asked) > 0
            except (TypeError, ValueError, IndexError):
                fits = False
            if not fits:
                break
        raise FlipsError(
            f"task '{self.task.name}', doc {record.doc_id}: the logged responses "
            f"{responses!r:.80} are not log-likelihoods of its {len(asked)} requests"
        )

    def _add_choices(self, row: int, target: str, requests: list[Request]) -> None:
        """Append the choices' lengths and which are right, where the log tells.

        It does where the choices are the continuations of one context; where each choice has a
        context of its own, as in winogrande, the continuation is the same and says nothing.
        """
        context, delimiter = requests[0].arg_0, self.task.delimiter
        texts = [r.arg_1 for r in requests if r.arg_0 == context and r.arg_1 is not None]
        skip = len(delimiter)
        if len(texts) < len(requests) or [t[:skip] for t in texts] != [delimiter] * len(texts):
            unknown = [nan] * len(requests)
            self.chars.extend(unknown)
            self.bytes.extend(unknown)
            return
        lengths = [len(text) - skip for text in texts]
        self.chars.extend(lengths)
        if not "".join(texts).isascii():
            skip = len(delimiter.encode())
            lengths = [len(text.encode(errors="surrogatepass")) - skip for text in texts]
        self.bytes.extend(lengths)
        for place in _gold(target, texts, delimiter):
            self.gold.extend((row, place))


def _longest(written: Any) -> int:
    """Characters of the longest text in nested lists of texts."""
    if isinstance(written, str):
        return len(written)
    return max(map(_longest, written), default=0) if isinstance(written, (list, tuple)) else 0


@lru_cache
def _attributes(kind: type[msgspec.Struct]) -> dict[str, str]:
    return dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))


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
        whole = b"".join(_hash_bytes(found) for found in hashes)
    return np.frombuffer(whole, np.uint8).reshape(-1, 32)[:, :DIGEST].tobytes()


def _hash_bytes(text: str) -> bytes:
    if re.fullmatch("[0-9a-f]{64}", text):
        return bytes.fromhex(text)
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _digests(flat: bytearray) -> NDArray[np.uint64]:
    return np.frombuffer(flat, np.uint64).reshape(-1, DIGEST // 8)


def _numbers(column: list[Any]) -> list[float] | None:
    """A metric's values as logged: numbers, bools, or either as strings; else None."""
    try:
        return [float(v) for v in column]
    except ValueError:
        pass
    except TypeError:
        return None
    try:
        return [float(_TRUTH.get(v, v)) for v in column]
    except (TypeError, ValueError):
        return None


def _gold(target: str, texts: list[str], delimiter: str) -> tuple[int, ...]:
    """Places of the right choices, from the logged target; empty where it does not tell.

    A target is an index, a list of indices, or a choice's text; digits that could be either tell
    nothing.
    """
    text = delimiter + target
    named_choice = (texts.index(text),) if text in texts else ()
    places = _places(target, len(texts))
    if not places:
        return named_choice
    return places if named_choice in ((), places) else ()


@lru_cache(maxsize=4096)
def _places(target: str, count: int) -> tuple[int, ...]:
    """The places that a target names, if it names places and there are as many choices."""
    if not _INDICES.fullmatch(target):
        return ()
    places = tuple(int(place) for place in target.strip("[]").split(", "))
    return places if max(places) < count else ()
