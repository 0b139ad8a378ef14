"""The log-likelihoods of a task's requests, the choices' lengths, and which of them are right.

What the log does not tell (the length of a choice that stands in the context, a right choice that
the target does not name) is marked as unknown, never guessed.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from functools import lru_cache
from math import inf, nan
from operator import methodcaller

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.logs.records import EvenRequests, Request
from lm_eval_flips.logs.responses import Responses
from lm_eval_flips.logs.samples import Lengths

_INDICES = re.compile(r"\d{1,6}|\[\d{1,6}(, \d{1,6})*\]")


class Choices:
    """Grows the choices' columns, sample by sample.

    Args:
        delimiter: stands between a context and a choice.
    """

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self.counts: array[int] = array("q")
        self._values: array[float] = array("d")
        self._unconditional: array[float] = array("d")
        self._chars: array[float] = array("d")
        self._bytes: array[float] = array("d")
        self._greedy: array[int] = array("b")
        self._gold: array[int] = array("q")  # row, place, row, place ...

    def add_none(self, samples: int) -> None:
        """Append samples that have no choices: generated text."""
        self.counts.extend([0] * samples)

    def add_unconditional(self, values: list[float]) -> None:
        """Append the log-likelihoods of samples' choices without their context."""
        self._unconditional.extend(values)

    def add(
        self,
        responses: Responses,
        targets: list[str],
        requests: list[list[Request]],
        even: EvenRequests | None,
    ) -> None:
        """Append samples: the responses to their requests, and what was asked."""
        start = len(self.counts)
        self.counts.extend(responses.counts)
        self._values.extend(array("d", responses.values))
        self._greedy.extend(array("b", responses.greedy))
        if even is not None and self._add_even(start, targets, even):
            return
        for row, (target, asked) in enumerate(zip(targets, requests, strict=True), start):
            self._add_one(row, target, asked)

    def mask(self) -> NDArray[np.bool_]:
        """Which places of the table hold a choice, ``[n, choices]``."""
        counts = np.frombuffer(self.counts, np.int64)
        return np.arange(int(counts.max(initial=0))) < counts[:, None]

    def loglikelihoods(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Nats, ``[n, choices]``, -inf beyond a sample's own choices."""
        return _table(self._values, mask, -inf)

    def unconditional(self, mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """The same without the context; None where that was not asked."""
        return _table(self._unconditional, mask, 0.0) if self._unconditional else None

    def chars(self, mask: NDArray[np.bool_]) -> Lengths:
        """The choices' lengths in characters, nan where the log does not tell."""
        return _lengths(self._chars, mask)

    def bytes(self, mask: NDArray[np.bool_]) -> Lengths:
        """The choices' lengths in bytes, nan where the log does not tell."""
        return _lengths(self._bytes, mask)

    def greedy(self, mask: NDArray[np.bool_]) -> NDArray[np.int8]:
        """Whether every token was the likeliest, -1 where the log does not tell."""
        greedy = np.full(mask.shape, -1, np.int8)
        greedy[mask] = np.frombuffer(self._greedy, np.int8)
        return greedy

    def gold(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which choices are right; none in a row where the log does not tell."""
        gold = np.zeros(mask.shape, np.bool_)
        gold[tuple(np.frombuffer(self._gold, np.int64).reshape(-1, 2).T)] = True
        return gold

    def _add_even(self, start: int, targets: list[str], even: EvenRequests) -> bool:
        """Do what ``_add_one`` does for all samples at once; False if it takes a closer look.

        It does not if every choice starts with the delimiter, is ASCII, and is no sample's target.
        """
        delimiter, texts = self._delimiter, even.texts
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
        self._chars.extend(lengths)
        self._bytes.extend(lengths)
        rows = enumerate(map(known.__getitem__, targets), start)
        self._gold.extend(array("q", [x for row, gold in rows for p in gold for x in (row, p)]))
        return True

    def _add_one(self, row: int, target: str, requests: list[Request]) -> None:
        """Append the choices' lengths and which are right, where the log tells.

        It does where the choices are the continuations of one context; where each choice has a
        context of its own, as in winogrande, the continuation is the same and says nothing.
        """
        context, delimiter = requests[0].arg_0, self._delimiter
        texts = [r.arg_1 for r in requests if r.arg_0 == context and isinstance(r.arg_1, str)]
        skip = len(delimiter)
        if len(texts) < len(requests) or [t[:skip] for t in texts] != [delimiter] * len(texts):
            unknown = [nan] * len(requests)
            self._chars.extend(unknown)
            self._bytes.extend(unknown)
            return
        lengths = [len(text) - skip for text in texts]
        self._chars.extend(lengths)
        if not "".join(texts).isascii():
            skip = len(delimiter.encode(errors="surrogatepass"))
            lengths = [len(text.encode(errors="surrogatepass")) - skip for text in texts]
        self._bytes.extend(lengths)
        for place in _gold(target, texts, delimiter):
            self._gold.extend((row, place))


def _lengths(values: array[float], mask: NDArray[np.bool_]) -> Lengths:
    """Numbers of characters, in half the memory where it holds them all."""
    table: Lengths = _table(values, mask, nan)
    narrow = table.astype(np.float32)
    return narrow if np.array_equal(narrow, table, equal_nan=True) else table


def _table(flat: array[float], mask: NDArray[np.bool_], empty: float) -> NDArray[np.float64]:
    out = np.full(mask.shape, empty)
    out[mask] = np.frombuffer(flat, np.float64)
    return out


def _gold(target: str, texts: Sequence[str], delimiter: str) -> tuple[int, ...]:
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
