"""What a model wrote: digests of its answers, their lengths, and how they were drawn."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.logs.records import DIGEST, content_digest
from lm_eval_flips.logs.samples import SAMPLING
from lm_eval_flips.logs.text_signs import signs_of


class Written:
    """Grows the columns of generated text; samples that hold none have rows of nothing.

    Args:
        fallbacks: what the filter says where it finds no answer; None where it extracts nothing.
    """

    def __init__(self, fallbacks: Sequence[str] | None = None) -> None:
        self._fallbacks = fallbacks
        self._signs: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._answer = bytearray()
        self._response = bytearray()
        self._length: array[int] = array("q")
        self.sampling: dict[str, Any] = {}
        self.kinds: Counter[str] = Counter()
        self._foreign: array[int] = array("b")

    def add(self, records: list[Any]) -> None:
        """Append samples of generated text."""
        settings = next(iter(records[0].arguments.values())).arg_1
        if isinstance(settings, dict):
            self.sampling |= {name: settings[name] for name in SAMPLING if name in settings}
        for record in records:
            self._answer += content_digest(record.filtered_resps)
            written = record.filtered_resps if record.resps is None else record.resps
            self._response += content_digest(written)
            self._foreign.append(_foreign(record.filtered_resps, record.resps))
            self._length.append(_longest(written))
            for name, value in signs_of(record, self._fallbacks).items():
                self._signs[name].append(value)

    @property
    def answer(self) -> NDArray[np.uint64]:
        """Digest of each sample's filtered answer, ``[n, 2]``; no row where nothing is written."""
        return digests(self._answer)

    @property
    def response(self) -> NDArray[np.uint64]:
        """Digest of all that the model wrote, likewise."""
        return digests(self._response)

    @property
    def foreign(self) -> NDArray[np.bool_]:
        """Whether a sample's answer stands nowhere in what the model wrote."""
        return np.frombuffer(self._foreign, np.bool_)

    @property
    def signs(self) -> Mapping[str, NDArray[np.float64]]:
        """What each answer shows of itself, ``[n]`` by name; nothing where no text is written."""
        return {name: np.frombuffer(values, np.float64) for name, values in self._signs.items()}

    @property
    def length(self) -> NDArray[np.int64]:
        """Characters of each sample's longest text, likewise."""
        return np.frombuffer(self._length, np.int64)


def digests(flat: bytearray) -> NDArray[np.uint64]:
    """Digests that stand one after the other, a row each."""
    return np.frombuffer(flat, np.uint64).reshape(-1, DIGEST // 8)


def _foreign(answers: list[Any], responses: list[list[Any]] | None) -> int:
    """1 where an answer stands in no response; 0 where it does, or where that cannot be told."""
    if responses is None:
        return 0
    texts = [text for own in responses for text in own if isinstance(text, str)]
    for answer in answers:
        # what a filter says where it found nothing
        if isinstance(answer, str) and not answer.startswith("["):
            return int(not any(answer in text for text in texts))
    return 0


def _longest(written: Any) -> int:
    """Characters of the longest text in nested lists of texts."""
    if isinstance(written, str):
        return len(written)
    return max(map(_longest, written), default=0) if isinstance(written, (list, tuple)) else 0
