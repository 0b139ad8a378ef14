"""What samples cannot be: answers that are not their responses, documents twice, values of none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.faults import RunFault
from lm_eval_flips.logs.records import Request
from lm_eval_flips.logs.responses import read_responses
from lm_eval_flips.logs.task_log import TaskLog
from lm_eval_flips.logs.written import Written


def refuse_other_answers(task: TaskLog, records: Sequence[Any], lines: Sequence[int]) -> None:
    """Refuse filtered answers that are not the first responses, where the filter takes those.

    Raises:
        FlipsError: some are not; the first one's line is named.
    """
    responses = [record.resps for record in records]
    if None in responses:
        return
    requests = list(chain.from_iterable(responses))
    answers = list(chain.from_iterable([record.filtered_resps for record in records]))
    if set(map(len, requests)) == {1} and list(chain.from_iterable(requests)) == answers:
        return
    other = [
        (record, line)
        for record, line in zip(records, lines, strict=True)
        # by their text, so that nan is nan
        if repr([texts[:1] for texts in record.resps]) != repr([[a] for a in record.filtered_resps])
    ]
    scored = task.output_type in ("multiple_choice", "loglikelihood")
    # a filter of generated text that goes by the usual name changes most answers, not one
    if other and (scored or 2 * len(other) < len(records)):
        record, line = other[0]
        raise FlipsError(
            f"'{task.path}' line {line + 1}, doc {record.doc_id}: its filtered_resps are "
            "not its resps; the file was edited or damaged: rerun this task"
        )


def not_responses(
    task: TaskLog, records: Sequence[Any], requests: Sequence[list[Request]], kind: str
) -> FlipsError:
    """The error of records of which some log what are no log-likelihoods of their requests."""
    record, asked = next(
        (record, asked)
        for record, asked in zip(records, requests, strict=True)
        if read_responses([record.filtered_resps], [asked], kind) is None
    )
    return FlipsError(
        f"task '{task.name}', doc {record.doc_id}: the logged responses "
        f"{record.filtered_resps!r:.80} are not log-likelihoods of its {len(asked)} requests"
    )


def odd_answers(
    records: Sequence[Any],
    requests: Sequence[list[Request]],
    written: Written,
    exact_match: Sequence[float] | None,
) -> Iterator[tuple[int, str]]:
    """Answers of another kind than the others, or scored against their own target: which, and why.

    Args:
        records: samples of generated text.
        requests: what each was asked.
        written: what the task wrote so far, whose kinds of answers are counted on.
        exact_match: the samples' scores by that metric, where the harness's own rule made them.
    """
    for place, (record, asked) in enumerate(zip(records, requests, strict=True)):
        answers = record.filtered_resps
        kind = "text" if all(isinstance(answer, str) for answer in answers) else "other"
        written.kinds[kind] += 1
        if len(answers) != len(asked) or None in answers:
            yield place, f"{answers!r:.60} are not answers to its {len(asked)} requests"
        elif kind == "other" and written.kinds["text"]:
            yield place, f"{answers!r:.60} is no text, as other answers are"
        elif exact_match is not None and (why := _contradiction(record, exact_match[place])):
            yield place, why


def _contradiction(record: Any, exact_match: float) -> str | None:
    """Why a score cannot be that of an answer and its target; None where it can."""
    answers, target = record.filtered_resps, record.target
    if answers == [target] and exact_match == 0:
        return "its answer is its target, and exact_match is 0"
    # whatever is left out of both, a target that begins with a letter or a digit is not empty
    begins = isinstance(target, str) and re.match(r"\s*\w", target)
    if answers == [""] and exact_match == 1 and begins:
        return "its answer is empty, and exact_match with its target is 1"
    return None


def refuse_twice(task: TaskLog, filter_name: str, doc_id: NDArray[np.int64]) -> None:
    """Refuse samples of which two are of one document.

    Raises:
        FlipsError: some are.
    """
    unique, counts = np.unique(doc_id, return_counts=True)
    twice = unique[counts > 1].tolist()
    if twice:
        raise FlipsError(
            f"task '{task.name}', filter '{filter_name}': {len(twice)} documents appear more than "
            f"once in '{task.path}' (doc {named(twice)}); on a CPU torchrun scores everything "
            "twice: rerun in one process"
        )


def foreign_answers(
    task: TaskLog, filter_name: str, docs: list[int], samples: int
) -> tuple[RunFault, ...]:
    """A note of answers that their responses do not hold, if those of nearly all samples do.

    Args:
        task: the task.
        filter_name: the filter that gave the answers.
        docs: the documents whose answers stand nowhere in what was written.
        samples: number of all samples.
    """
    if not 0 < len(docs) <= max(1, samples // 20):
        return ()
    return (
        RunFault(
            code="answer-not-written",
            task=task.name,
            text=f"{len(docs)} answers under filter '{filter_name}' stand nowhere in what the "
            f"model wrote (doc {named(docs)})",
            way_out="look at them: a filter that changes texts does so, and so does an edit",
            severity="note",
        ),
    )


def unusable(
    kind: str,
    doc_id: NDArray[np.int64],
    values: NDArray[np.float64],
    unconditional: NDArray[np.float64] | None,
) -> dict[int, str]:
    """Why a sample's log-likelihoods cannot be used, by doc_id, where that is so.

    Args:
        kind: what the samples are; those of generated text have no log-likelihoods.
        doc_id: the samples' documents.
        values: their log-likelihoods in nats, ``[n, choices]``.
        unconditional: the same without the context, None where that was not asked.
    """
    if kind == "text":
        return {}
    reasons = {
        "a log-likelihood is nan": np.isnan(values).any(-1),
        "a log-likelihood is +inf": np.isposinf(values).any(-1),
        "no log-likelihood is finite": np.isneginf(values).all(-1),
    }
    if unconditional is not None:
        bad = ~np.isfinite(unconditional).all(-1)
        reasons["a choice's unconditional log-likelihood is not finite"] = bad
    unusable: dict[int, str] = {}
    for reason, bad in reasons.items():
        for doc in doc_id[bad].tolist():
            unusable.setdefault(doc, reason)
    return unusable
