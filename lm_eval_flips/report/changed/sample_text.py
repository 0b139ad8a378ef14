"""What was asked and said in a sample, as people read it; from the runs' files, each read once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.reading import each_line
from lm_eval_flips.logs.task_log import TaskLog
from lm_eval_flips.logs.texts import Message, question_of
from lm_eval_flips.logs.turns import answers_of, said_turns
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.sides import Side

Key: TypeAlias = tuple[str, int]  # samples file and line


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most characters shown of a question (its end), a choice (its end) and an answer."""

    question: int
    choice: int
    answer: int


WHOLE = Limits(question=1 << 40, choice=1 << 40, answer=1 << 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleText:
    """The texts of one logged sample.

    ``question`` is the prompt without its few-shot examples, of which ``shots`` were left out, and
    without its first ``cut`` characters. ``choices`` are the continuations, or the contexts where
    only those differ, as in winogrande: then ``ending`` is what goes on from each.
    ``answer`` is the filtered response and ``said`` the whole one, empty unless it is text; of a
    conversation both are all answers, with what was asked in between.
    ``turns`` are those of a conversation, none of a plain prompt or where they were cut.
    """

    question: str
    turns: tuple[Message, ...]
    cut: int
    shots: int
    choices: tuple[str, ...]
    ending: str
    target: str
    answer: str
    said: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A line of a samples file: the document it must hold, and its number of choices."""

    doc_id: int
    choices: int


def read_texts(
    places: Iterable[tuple[Pairs, int]], limits: Limits, *, baseline: bool
) -> dict[Key, SampleText]:
    """The texts of some samples of one side, by ``key_of``.

    Args:
        places: pairs, and the place of a sample in them.
        limits: where to cut.
        baseline: which of the two sides.

    Raises:
        FlipsError: a file is gone, or holds other samples than when it was compared.
    """
    files: dict[str, tuple[TaskLog, dict[int, _Wanted]]] = {}
    for pairs, place in places:
        side = pairs.baseline if baseline else pairs.compressed
        path, line = key_of(side, place)
        _, lines = files.setdefault(path, (side.task, {}))
        lines[line] = _Wanted(int(pairs.doc_ids[place]), int(pairs.choices[place]))
    return {
        (path, line): _text(task, record, lines[line], limits)
        for path, (task, lines) in files.items()
        for line, record in each_line(task, lines.keys())
    }


def key_of(side: Side, place: int) -> Key:
    """Where a sample of this side was logged."""
    return str(side.task.path), int(side.line[place])


def _text(task: TaskLog, record: dict[str, Any], wanted: _Wanted, limits: Limits) -> SampleText:
    if record.get("doc_id") != wanted.doc_id:
        raise FlipsError(
            f"'{task.path}' holds other samples than when it was compared (doc {wanted.doc_id} is "
            "elsewhere); compare again"
        )
    requests = list(record["arguments"].values())
    talk = as_talk(record)
    question, turns, shots = question_of(requests[0]["arg_0"], task)
    own = requests[: wanted.choices]
    alike = len({str(request["arg_0"]) for request in own}) <= 1
    texts = [str(request.get("arg_1" if alike else "arg_0", "")).strip() for request in own]
    return SampleText(
        question=question[-limits.question :],
        turns=turns if len(turns) > 1 and len(question) <= limits.question else (),
        cut=max(0, len(question) - limits.question),
        shots=shots,
        choices=tuple(text[-limits.choice :] for text in texts),
        ending="" if alike else str(requests[0].get("arg_1", "")).strip()[: limits.choice],
        target=str(record["target"])[: limits.answer],
        answer=(talk or _first(record["filtered_resps"]))[: limits.answer],
        said=(talk or _said(record.get("resps")))[: limits.answer],
    )


def as_talk(record: dict[str, Any]) -> str:
    """All answers of a conversation of several turns, with what the user said before each but one.

    Example:
        >>> record = {"doc": {"turns": ["1+1?", "Plus 1?"]}, "metrics": ["turns_answered"]}
        >>> print(as_talk({**record, "filtered_resps": ["2", "3"]}))
        2
        <BLANKLINE>
        user: Plus 1?
        <BLANKLINE>
        3
    """
    turns = said_turns(record)
    if len(turns) < 2:
        return ""
    first, *others = answers_of(record["filtered_resps"], len(turns))
    later = zip(turns[1:], others, strict=False)
    return "\n\n".join([first, *(f"user: {turn}\n\n{answer}" for turn, answer in later)])


def _first(responses: list[Any]) -> str:
    first = responses[0] if responses else ""
    return first if isinstance(first, str) else str(first)


def _said(responses: Any) -> str:
    """The first response as it was written; empty unless it is text."""
    while isinstance(responses, list) and responses:
        responses = responses[0]
    return responses if isinstance(responses, str) else ""
