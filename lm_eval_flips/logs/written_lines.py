"""What a task's lines hold of written answers: prompts, settings, texts, one document at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.files import BOM, open_log
from lm_eval_flips.logs.records import Request
from lm_eval_flips.logs.task_log import TaskLog


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAnswer:
    """One document's request, and everything that was written to it."""

    doc_id: int
    request: Request
    texts: tuple[str, ...]


def logged_answers(task: TaskLog) -> Iterator[LoggedAnswer]:
    """Every document of a task of generated text, once, whatever its filters; others are passed.

    Raises:
        FlipsError: the file cannot be read, or a line is no sample.
    """
    seen: set[int] = set()
    try:
        with open_log(task.path, task.name) as log:
            for line in filter(bytes.strip, log.stream):
                record = json.loads(line.removeprefix(BOM))
                arguments = list(record["arguments"].values())
                responses = record.get("resps")
                if record["doc_id"] in seen or len(arguments) != 1 or not responses:
                    continue
                seen.add(record["doc_id"])
                yield LoggedAnswer(
                    doc_id=record["doc_id"],
                    request=Request(**arguments[0]),
                    texts=_texts(responses),
                )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlipsError(
            f"'{task.path}' cannot be read for its answers: {error}; rerun with --log_samples"
        ) from None


def _texts(responses: Any) -> tuple[str, ...]:
    return tuple(text for own in responses for text in own if isinstance(text, str))
