"""Logged responses -> log-likelihoods, and whether their tokens were the likeliest ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

from lm_eval_flips.logs.records import Request
from lm_eval_flips.logs.task_log import TaskLog


class _Flags(dict[Any, int]):
    """What a logged flag says; one of another type says what its text does."""

    def __missing__(self, flag: Any) -> int:
        return -1 if isinstance(flag, str) else self[str(flag)]


_FLAGS = _Flags({"True": 1, "False": 0})
_NOT_SCORED = (TypeError, ValueError, LookupError, OverflowError)


@dataclass(frozen=True, slots=True)
class Responses:
    """Samples' responses, one after the other: ``counts[i]`` of them are sample ``i``'s.

    ``values`` are log-likelihoods (nats); ``greedy`` says whether all tokens were the likeliest
    ones: 1, 0, or -1 where the log does not tell.
    """

    counts: list[int]
    values: list[float]
    greedy: list[int]

    def halves(self) -> tuple[Responses, Responses]:
        """The first and the second half of each sample's responses."""
        first, second = Responses([], [], []), Responses([], [], [])
        start = 0
        for count in self.counts:
            middle, end = start + count // 2, start + count
            for part, place in ((first, slice(start, middle)), (second, slice(middle, end))):
                part.counts.append(place.stop - place.start)
                part.values.extend(self.values[place])
                part.greedy.extend(self.greedy[place])
            start = end
        return first, second


def read_responses(
    answers: Sequence[list[Any]], requests: Sequence[list[Request]], kind: str
) -> Responses | None:
    """Samples' log-likelihoods, or None where some are none, or not as many as was asked."""
    counts = list(map(len, requests))
    if list(map(len, answers)) != counts or 0 in counts:
        return None
    flat = list(chain.from_iterable(answers))
    try:
        if kind == "rolling":
            return Responses(counts, list(map(float, flat)), [-1] * len(flat))
        values = list(map(float, map(itemgetter(0), flat)))
        return Responses(counts, values, _greedy(flat))
    except _NOT_SCORED:
        return None


def _greedy(responses: list[Any]) -> list[int]:
    try:
        return list(map(_FLAGS.__getitem__, map(itemgetter(1), responses)))
    except (IndexError, TypeError):  # a response of one value, or a flag that is none
        flags = [response[1] if len(response) > 1 else None for response in responses]
        return [_FLAGS[str(flag)] for flag in flags]


def kind_of(task: TaskLog, requests: Sequence[Request]) -> str:
    """What the requests ask for; where the results are not there to tell, their arguments do."""
    asked, second = task.output_type, requests[0].arg_1
    if asked == "loglikelihood_rolling" or (asked is None and second is None):
        return "rolling"
    if asked == "generate_until" or (asked is None and isinstance(second, dict)):
        return "text"
    return "choices" if asked == "multiple_choice" or len(requests) > 1 else "cloze"
