"""Question -> what stands in the places of a judge's prompt, in MT-Bench's words and our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lm_eval_flips.generation.judge.questions import Question, Turn


def places_of(question: Question, *, swapped: bool = False) -> dict[str, str]:
    """What is filled in, by place.

    Args:
        question: about one answer, or two.
        swapped: whether the second answer of a pair stands first.

    Example:
        >>> turns = [Turn(question=q, answers=(a,), reference="") for q, a in ("PA", "QB")]
        >>> asked = Question(task="t", doc_id=0, turn=2, turns=tuple(turns), digests=())
        >>> print(places_of(asked)["question"])
        user: P
        model: A
        user: Q
        >>> places_of(asked)["answer"]
        'B'
    """
    turns, sides = question.turns, len(question.turns[0].answers)
    places = dict(_numbered(turns))
    if sides == 1:
        return {
            **places,
            "question": conversation(turns, 0, whole=False),
            "answer": turns[-1].answers[0],
        }
    order = (1, 0) if swapped else (0, 1)
    for letter, side in zip("ab", order, strict=True):
        places[f"answer_{letter}"] = turns[-1].answers[side]
        places[f"conversation_{letter}"] = conversation(turns, side, whole=True)
        for number, turn in enumerate(turns, 1):
            places[f"answer_{letter}_{number}"] = turn.answers[side]
    return {**places, "question": turns[-1].question}


def _numbered(turns: Sequence[Turn]) -> Iterator[tuple[str, str]]:
    for number, turn in enumerate(turns, 1):
        yield f"question_{number}", turn.question
        yield f"answer_{number}", turn.answers[0]
        yield f"ref_answer_{number}", turn.reference


def conversation(turns: Sequence[Turn], side: int, *, whole: bool) -> str:
    """A conversation as one text, with its last answer or without; a single turn as it is."""
    if len(turns) == 1 and not whole:
        return turns[0].question
    lines = []
    for turn in turns:
        lines += [f"user: {turn.question}", f"model: {turn.answers[side]}"]
    return "\n".join(lines if whole else lines[:-1])
