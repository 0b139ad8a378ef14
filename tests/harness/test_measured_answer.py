"""The answer that the harness is given is a plain one to it, and carries a number."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from math import inf, isnan, nan
from typing import Any

import pytest

from lm_eval_flips.harness.measured_answer import (
    MeasuredAnswer,
    MeasuredText,
    MeasuredWriting,
    along_answer,
    mean_token_kl,
)

PAIR = (-1.25, True)


def measured(kl: float = 0.5) -> MeasuredAnswer:
    """The pair with a KL."""
    return MeasuredAnswer(PAIR, kl)


def test_it_is_the_pair_that_the_harness_wants() -> None:
    """It unpacks, compares, hashes, prints and sorts as one."""
    answer = measured()
    loglikelihood, is_greedy = answer
    assert (loglikelihood, is_greedy) == PAIR == answer
    assert (answer[0], answer[1], len(answer)) == (*PAIR, 2)
    assert {answer: 1}[PAIR] == 1
    assert str(answer) == str(PAIR)
    assert isinstance(answer, tuple)
    assert answer > (-2.0, True)
    assert list(zip(*[answer, PAIR], strict=True)) == [(-1.25, -1.25), (True, True)]


def test_it_is_logged_as_the_pair() -> None:
    """JSON knows nothing of the number."""
    assert json.dumps(measured()) == json.dumps(PAIR)


def test_it_carries_its_number() -> None:
    """Two answers that differ only in that are equal, and keep their own."""
    assert (measured(0.5).token_kl, measured(0.25).token_kl) == (0.5, 0.25)
    assert measured(0.5) == measured(0.25)


def test_a_whole_text_s_answer_is_the_number_that_the_harness_wants() -> None:
    """It counts, compares, hashes and prints as one."""
    answer = MeasuredText(-1.25, 0.5)
    assert isinstance(answer, float)
    assert answer == -1.25
    assert hash(answer) == hash(-1.25)
    assert (str(answer), json.dumps([answer])) == ("-1.25", "[-1.25]")
    assert sum([answer, answer]) == -2.5
    assert (answer.token_kl, MeasuredText(-1.25, 0.25).token_kl) == (0.5, 0.25)


@pytest.mark.parametrize("answer", [MeasuredAnswer(PAIR, 0.5), MeasuredText(-1.25, 0.5)])
@pytest.mark.parametrize(
    "copied",
    [
        lambda answer: pickle.loads(pickle.dumps(answer)),
        lambda answer: pickle.loads(pickle.dumps(answer, protocol=0)),
        copy.copy,
        copy.deepcopy,
        lambda answer: copy.deepcopy({"resps": [answer]})["resps"][0],
    ],
    ids=["pickle", "oldest pickle", "copy", "deepcopy", "deepcopy within"],
)
def test_a_copy_carries_the_number_too(copied: Callable[[Any], Any], answer: Any) -> None:
    """Processes send answers to each other pickled; the harness copies them."""
    found = copied(answer)
    assert type(found) is type(answer)
    assert (found, found.token_kl) == (answer, 0.5)


def test_a_plain_copy_does_not() -> None:
    """Control: what makes a tuple or a number of it leaves the other behind."""
    assert not hasattr(tuple(measured()), "token_kl")
    assert not hasattr(float(MeasuredText(-1.25, 0.5)), "token_kl")


def test_the_mean_is_over_a_sample_s_requests() -> None:
    """Of any number of choices."""
    assert mean_token_kl([measured(0.1), measured(0.2), measured(0.6)]) == pytest.approx(0.3)
    assert mean_token_kl([measured(0.1)]) == mean_token_kl([MeasuredText(-1.0, 0.1)]) == 0.1
    assert mean_token_kl((measured(0.0), measured(inf))) == inf


@pytest.mark.parametrize(
    "responses", [[], [PAIR], [measured(), PAIR], [PAIR, measured()], ["text"], [measured(nan)]]
)
def test_a_sample_that_was_not_measured_whole_has_no_mean(responses: list[Any]) -> None:
    """An answer without a number, as from a response cache, counts as unknown, not as 0."""
    assert isnan(mean_token_kl(responses))


def test_a_written_text_carries_how_far_it_is() -> None:
    """Also pickled and copied; it is the text, and its numbers are the sample's."""
    written = MeasuredWriting("42", 0.5, 3)
    for found in (written, copy.deepcopy(written), pickle.loads(pickle.dumps(written))):
        assert found == "42"
        assert along_answer([found]) == {
            "answer_kl": 0.5,
            "never_diverges": 0,
            "first_divergence": 3,
        }
    assert type(written)(42) == written, "as the harness makes a task's own answer comparable"
    never = along_answer([MeasuredWriting("", 0.0, None)])
    assert never == {"answer_kl": 0.0, "never_diverges": 1}


@pytest.mark.parametrize("written", [[], ["42"], [MeasuredWriting("42", 0.5, 3)] * 2])
def test_what_was_not_measured_or_asked_more_than_once_has_none(written: list[Any]) -> None:
    """No key, not 0."""
    assert along_answer(written) == {}
