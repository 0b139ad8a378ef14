"""What the harness is given where flips-hf measures: its own values, each carrying a number."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import Any

from lm_eval_flips.scoring.requests import Answer


class MeasuredAnswer(tuple[float, bool]):
    """The harness's answer to a request, which also carries its mean KL from the baseline."""

    token_kl: float

    def __new__(cls, answer: tuple[float, bool], token_kl: float) -> MeasuredAnswer:
        """Make a pair that carries a number."""
        made = super().__new__(cls, answer)
        made.token_kl = token_kl
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return MeasuredAnswer, (tuple(self), self.token_kl)


class MeasuredText(float):
    """The harness's answer to a whole text, one number, which carries the same."""

    token_kl: float

    def __new__(cls, loglikelihood: float, token_kl: float) -> MeasuredText:
        """Make a log-likelihood that carries a number."""
        made = super().__new__(cls, loglikelihood)
        made.token_kl = token_kl
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return MeasuredText, (float(self), self.token_kl)


class MeasuredWriting(str):
    """What a model wrote, which also carries how far it is from the baseline along its answer.

    ``answer_kl`` is the mean over the baseline's answer (nats); ``parting`` the first position at
    which this model writes another token, None where it never does. The harness turns a task's own
    answer into the type of what was written, ``type(written)(gold)``: that carries no numbers.
    """

    answer_kl: float
    parting: int | None

    def __new__(
        cls, text: object, answer_kl: float = nan, parting: int | None = None
    ) -> MeasuredWriting:
        """Make a text that carries two numbers."""
        made = super().__new__(cls, text)
        made.answer_kl, made.parting = answer_kl, parting
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return MeasuredWriting, (str(self), self.answer_kl, self.parting)


class MeanOfRequests(float):
    """A mean over a sample's requests, which carries how many they are."""

    requests: int

    def __new__(cls, mean: float, requests: int) -> MeanOfRequests:
        """Make a mean that carries a count."""
        made = super().__new__(cls, mean)
        made.requests = requests
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return MeanOfRequests, (float(self), self.requests)


def mean_token_kl(responses: Sequence[Any]) -> float:
    """Mean of a sample's requests' KL over the vocabulary; nan if one was not measured."""
    kinds = (MeasuredAnswer, MeasuredText)
    measured = [answer.token_kl for answer in responses if isinstance(answer, kinds)]
    if not measured or len(measured) < len(responses):
        return nan
    return sum(measured) / len(measured)


def along_answer(written: Sequence[Any]) -> dict[str, float]:
    """What was measured along the answer of a sample that was asked once; nothing of another.

    Example:
        >>> along_answer([MeasuredWriting("42", 0.5, 3)])
        {'answer_kl': 0.5, 'never_diverges': 0, 'first_divergence': 3}
        >>> along_answer(["42"])
        {}
    """
    if len(written) != 1 or not isinstance(written[0], MeasuredWriting):
        return {}
    (own,) = written
    found = {"answer_kl": own.answer_kl, "never_diverges": int(own.parting is None)}
    return found if own.parting is None else {**found, "first_divergence": own.parting}


def as_logged(answer: Answer, kind: str) -> Any:
    """What the harness expects of a request of this kind: a number, or a pair."""
    if kind == "loglikelihood_rolling":
        text = answer.loglikelihood
        return text if isnan(answer.token_kl) else MeasuredText(text, answer.token_kl)
    pair = (answer.loglikelihood, answer.is_greedy)
    return pair if isnan(answer.token_kl) else MeasuredAnswer(pair, answer.token_kl)
