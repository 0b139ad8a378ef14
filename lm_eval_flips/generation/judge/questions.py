"""Runs -> what a judge is asked about: the task, the answers as they were written, the key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.reading import each_line, read_samples
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog
from lm_eval_flips.logs.texts import question_of
from lm_eval_flips.logs.turns import answers_of, references_of, said_turns
from lm_eval_flips.pairs.pairing import pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a user says, the answers to it, and the key; "" where there is none.

    ``answers`` are the run's, or of a pair the baseline's and the run's.
    """

    question: str
    answers: tuple[str, ...]
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One answer, or two, of a generated task that a judge is asked about: the last of ``turns``.

    ``turn`` is its number in a conversation, from 1; 0 of any other task, which has one turn.
    ``digests`` are of all that was written to the document, by which a judgement is proven to be of
    these answers.
    """

    task: str
    doc_id: int
    turn: int
    turns: tuple[Turn, ...]
    digests: tuple[str, ...]

    @property
    def alike(self) -> bool:
        """Whether both of a pair wrote the same so far: neither is better, whoever judges."""
        return all(len(own.answers) > 1 and len(set(own.answers)) == 1 for own in self.turns)


def questions_of(run: Run, *, tasks: str = "*", limit: int | None = None) -> list[Question]:
    """The answers of a run's generated tasks.

    Args:
        run: the run.
        tasks: glob of tasks.
        limit: at most so many documents of each task.

    Raises:
        FlipsError: no generated task matches, or the samples cannot be read.
    """
    found: list[Question] = []
    for name in _generated(run, tasks):
        samples = _text(run.tasks[name])
        if samples is not None:
            found += _single(samples, limit)
    return _some(found, run, tasks)


def pair_questions(
    baseline: Run, run: Run, *, tasks: str = "*", limit: int | None = None
) -> list[Question]:
    """The answers of two runs to the same documents, proven to be the same.

    Raises:
        FlipsError: no generated task of both matches, or their samples differ.
    """
    found: list[Question] = []
    for name in _generated(run, tasks):
        if name not in baseline.tasks:
            continue
        ours, theirs = _text(baseline.tasks[name]), _text(run.tasks[name])
        if ours is not None and theirs is not None:
            found += _paired(ours, theirs, limit)
    return _some(found, run, tasks)


def _generated(run: Run, tasks: str) -> list[str]:
    kinds = ("generate_until", None)  # None: samples alone do not say
    return [
        name
        for name, task in run.tasks.items()
        if fnmatchcase(name, tasks) and task.output_type in kinds
    ]


def _text(task: TaskLog) -> Samples | None:
    """A task's samples under its first filter: what was written is the same under all."""
    samples = next(iter(read_samples(task).values()))
    return samples if samples.kind == "text" else None


def _some(found: list[Question], run: Run, tasks: str) -> list[Question]:
    if not found:
        raise FlipsError(
            f"'{run.path}' holds no generated answers of tasks '{tasks}' to judge; it holds "
            f"{named(list(run.tasks), shown=10)}"
        )
    return found


def _single(samples: Samples, limit: int | None) -> Iterator[Question]:
    lines = samples.line[:limit]
    digests = hex_digests(samples.response[:limit])
    records = _records(samples.task, lines)
    for line, digest in zip(lines.tolist(), digests, strict=True):
        yield from _questions(samples.task, records[line], (records[line],), (digest,))


def _paired(ours: Samples, theirs: Samples, limit: int | None) -> Iterator[Question]:
    pairs = pair(ours, theirs)
    first, second = pairs.baseline.line[:limit], pairs.compressed.line[:limit]
    digests = [
        dict(zip(samples.line.tolist(), hex_digests(samples.response), strict=True))
        for samples in (ours, theirs)
    ]
    before, after = _records(ours.task, first), _records(theirs.task, second)
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        yield from _questions(
            ours.task,
            before[one],
            (before[one], after[other]),
            (digests[0][one], digests[1][other]),
        )


def _records(task: TaskLog, lines: NDArray[np.int64]) -> Mapping[int, dict[str, Any]]:
    return dict(each_line(task, set(lines.tolist())))


def _questions(
    task: TaskLog,
    record: dict[str, Any],
    answered: Sequence[dict[str, Any]],
    digests: tuple[str, ...],
) -> Iterator[Question]:
    """One of a plain document; of a conversation one a turn."""
    requests = list(record["arguments"].values())
    conversation = said_turns(record)[: len(requests)]
    said, keys = conversation, references_of(record)
    if not conversation:
        said = (question_of(requests[0]["arg_0"], task)[0],)
        keys = (str(record.get("target") or ""),)
    written = [
        answers_of(own["filtered_resps"] if own.get("resps") is None else own["resps"], len(said))
        for own in answered
    ]
    turns = tuple(
        Turn(
            question=text,
            answers=tuple(own[place] for own in written),
            reference=keys[place].strip() if place < len(keys) else "",
        )
        for place, text in enumerate(said)
    )
    for place in range(len(turns)):
        yield Question(
            task=task.name,
            doc_id=int(record["doc_id"]),
            turn=place + 1 if conversation else 0,
            turns=turns[: place + 1],
            digests=digests,
        )


def hex_digests(digests: NDArray[np.uint64]) -> list[str]:
    """Digests of ``Samples.response`` as a judgement keeps them."""
    return [row.tobytes().hex() for row in np.ascontiguousarray(digests)]
