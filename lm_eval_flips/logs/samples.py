"""The samples of one task under one filter, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.logs.faults import RunFault
from lm_eval_flips.logs.task_log import TaskLog

HASHES = ("document", "target", "prompt", "arguments")
# Settings of generation by which an answer is drawn at random, or is not.
SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p", "seed")

Lengths = NDArray[np.float32] | NDArray[np.float64]
Rows = NDArray[np.int64]
ValuesKind = Literal["pair", "list", "label and list", "text", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What a metric logs for each sample where that is no number, row by row as ``Samples``.

    ``kind``: "pair" two numbers in every sample (mcc and f1: right and given answer), "list" any
    number of them, "label and list" a number and a list (brier_score: the right answer, then each
    choice's probability), "text" texts (bleu, chrf: what should have been said, and what was),
    "other" what is none of these or not always the same.
    ``numbers`` are those of each sample, ``[n, most]``, nan beyond its own ``counts``; a list's
    numbers in order, True as 1. ``digests`` tell equal values from others, ``[n, 2]``, 0 where a
    sample lacks the metric.
    """

    kind: ValuesKind
    numbers: NDArray[np.float64]
    counts: NDArray[np.int64]
    digests: NDArray[np.uint64]

    def only(self, rows: NDArray[np.int64]) -> Values:
        """The values of these rows."""
        return replace(
            self, numbers=self.numbers[rows], counts=self.counts[rows], digests=self.digests[rows]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One task's samples under one filter, sorted by doc_id. No field has a row for another sample.

    ``line`` is each sample's line in the file, ``choices`` its number of log-likelihoods.
    ``kind`` is "choices", "cloze" (one continuation), "text" (generated) or "rolling".
    Log-likelihoods are nats, ``[n, choices]``, -inf beyond a sample's own choices.
    ``chars`` and ``bytes`` are the choices' lengths, nan where the log does not tell them.
    ``gold`` marks the right choices; a row without any means that the log does not tell.
    ``greedy`` says of each log-likelihood whether every token was the likeliest, ``[n, choices]``:
    1, 0, or -1 where the log does not tell.
    ``answer`` is the digest of a generated sample's filtered answer, ``response`` that of all that
    the model wrote, ``response_length`` its longest text in characters; no rows where nothing is
    written.
    ``signs`` are what each generated answer shows of itself (``text_signs``), nan where the log
    does not tell; none where no text is generated.
    ``sampling`` are the logged settings of generation by which answers are drawn.
    ``request_keys`` are the requests' keys, ``[n, choices, 2]``, None unless the task wants them.
    ``metrics`` are those whose values are numbers: nan where a sample lacks the metric or logs
    nan, which ``logged`` tells apart; infinite and out-of-range ones are kept as they are. Units
    are nan where the value has none, and there is no entry where none has. ``values`` are the
    metrics that log something else.
    ``unusable`` says by doc_id why a sample's log-likelihoods cannot be used. ``opaque`` are
    metrics that were written over the sample's own fields. ``faults`` are what the samples
    contradict in the run's own results. ``draws`` are the values of each of several runs, of which
    ``metrics`` are then the means, ``[n, runs]``, and ``seeds`` what drew them; none of one run.
    ``known`` is what was found of these very samples, by name, so that a baseline is looked at once
    for however many runs it is held against.
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
    chars: Lengths
    bytes: Lengths
    gold: NDArray[np.bool_]
    greedy: NDArray[np.int8]
    answer: NDArray[np.uint64]
    response: NDArray[np.uint64]
    response_length: NDArray[np.int64]
    signs: Mapping[str, NDArray[np.float64]]
    sampling: Mapping[str, Any]
    request_keys: NDArray[np.uint64] | None
    metrics: Mapping[str, NDArray[np.float64]]
    units: Mapping[str, NDArray[np.float64]]
    logged: Mapping[str, NDArray[np.bool_]]
    values: Mapping[str, Values]
    unusable: Mapping[int, str]
    opaque: frozenset[str]
    faults: tuple[RunFault, ...] = ()
    draws: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    seeds: tuple[str, ...] = ()
    known: dict[str, Any] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.doc_id)

    def shared_rows(self, other: Samples) -> tuple[Rows, Rows]:
        """The rows of the documents that both hold, in each of them, in order of doc_id."""
        if np.array_equal(self.doc_id, other.doc_id):
            rows = np.arange(len(self))
            return rows, rows
        _, ours, theirs = np.intersect1d(
            self.doc_id, other.doc_id, assume_unique=True, return_indices=True
        )
        return ours, theirs

    def nan_metrics(self) -> dict[int, str]:
        """Samples for which a metric was logged as nan, by doc_id: which one."""
        named: dict[int, str] = {}
        for name, values in self.metrics.items():
            for doc in self.doc_id[np.isnan(values) & self.logged[name]].tolist():
                named.setdefault(doc, f"{name} is nan")
        return named

    def only(self, doc_ids: NDArray[np.int64]) -> Samples:
        """The samples of these documents."""
        rows = np.flatnonzero(np.isin(self.doc_id, doc_ids))
        if len(rows) == len(self):
            return self  # a copy would be as large as all that was read

        def pick(found: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return {name: values[rows] for name, values in found.items()}

        written = itemgetter(rows if self.kind == "text" else slice(None))
        return replace(
            self,
            doc_id=self.doc_id[rows],
            line=self.line[rows],
            hashes=pick(self.hashes),
            choices=self.choices[rows],
            loglikelihoods=self.loglikelihoods[rows],
            unconditional=None if self.unconditional is None else self.unconditional[rows],
            chars=self.chars[rows],
            bytes=self.bytes[rows],
            gold=self.gold[rows],
            greedy=self.greedy[rows],
            answer=written(self.answer),
            response=written(self.response),
            response_length=written(self.response_length),
            signs=pick(self.signs),
            request_keys=None if self.request_keys is None else self.request_keys[rows],
            metrics=pick(self.metrics),
            units=pick(self.units),
            logged=pick(self.logged),
            draws=pick(self.draws),
            values={name: values.only(rows) for name, values in self.values.items()},
            unusable={
                doc: why for doc, why in self.unusable.items() if doc in set(doc_ids.tolist())
            },
        )
