"""The samples of one task under one filter, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.logs.runs import TaskLog

HASHES = ("document", "target", "prompt", "arguments")
# Settings of generation by which an answer is drawn at random, or is not.
SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p", "seed")


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
    the model wrote, ``response_length`` its longest text in characters, 0 where nothing is written.
    ``sampling`` are the logged settings of generation by which answers are drawn.
    ``request_keys`` are the requests' keys, ``[n, choices, 2]``, None unless the task wants them.
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
    greedy: NDArray[np.int8]
    answer: NDArray[np.uint64]
    response: NDArray[np.uint64]
    response_length: NDArray[np.int64]
    sampling: Mapping[str, Any]
    request_keys: NDArray[np.uint64] | None
    metrics: Mapping[str, NDArray[np.float64]]
    units: Mapping[str, NDArray[np.float64]]
    unusable: Mapping[int, str]
    opaque: frozenset[str]

    def __len__(self) -> int:
        return len(self.doc_id)

    def only(self, doc_ids: NDArray[np.int64]) -> Samples:
        """The samples of these documents."""
        rows = np.flatnonzero(np.isin(self.doc_id, doc_ids))

        def pick(found: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return {name: values[rows] for name, values in found.items()}

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
            answer=self.answer[rows],
            response=self.response[rows],
            response_length=self.response_length[rows],
            request_keys=None if self.request_keys is None else self.request_keys[rows],
            metrics=pick(self.metrics),
            units=pick(self.units),
            unusable={
                doc: why for doc, why in self.unusable.items() if doc in set(doc_ids.tolist())
            },
        )
