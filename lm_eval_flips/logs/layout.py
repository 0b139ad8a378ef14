"""What each line must log: the metrics that the run's own results score, and what others log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.records import RESERVED, attributes
from lm_eval_flips.logs.results import AGGREGATIONS
from lm_eval_flips.logs.task_log import TaskLog


class Layout:
    """The metrics of one task and filter, as its results name them."""

    def __init__(self, task: TaskLog, filter: str) -> None:  # noqa: A002  (the harness's word)
        self._task, self._filter = task, filter
        self._answered: bool | None = None
        ending = f",{filter}"
        self._named = {key.removesuffix(ending) for key in task.scores if key.endswith(ending)}
        self._everywhere = {
            name for name in self._named if task.standard_scoring and name in AGGREGATIONS
        }

    def check(self, records: Sequence[Any], layout: Sequence[str], lines: Sequence[int]) -> None:
        """Hold the metrics of records that log the same ones against the results.

        Raises:
            FlipsError: a line names a metric twice, names one that was not scored, or lacks one
                that was.
        """
        names = set(layout)
        if len(names) < len(layout):
            raise self._error(lines[0], f"names a metric twice: {', '.join(layout)!r:.80}")
        if not self._task.scores:
            return
        if not self._named:
            raise self._error(lines[0], "is of a filter that the run's results do not score")
        if not names:
            raise self._error(lines[0], "logs no metric")
        # a metric that no score was made of is no fault, but one in another's place is
        if (unknown := sorted(names - self._named)) and not self._named <= names:
            raise self._error(
                lines[0], f"logs the metric {unknown[0]!r:.40}, which the results do not score"
            )
        kind: Any = type(records[0])
        for name in self._named - names - RESERVED:
            if name in self._everywhere:
                raise self._error(lines[0], f"lacks the metric {name!r:.40} that the results score")
            field = attributes(kind).get(name)
            for record, line in zip(records, lines, strict=True):
                if field is not None and getattr(record, field) is not UNSET:
                    raise self._error(line, f"holds {name!r:.40} but does not name it in 'metrics'")

    def check_responses(self, records: Sequence[Any], lines: Sequence[int]) -> None:
        """Whether a line logs what the model answered is the same for all.

        Raises:
            FlipsError: some lines do, and one does not.
        """
        for record, line in zip(records, lines, strict=True):
            answered = record.resps is not None
            if self._answered is None:
                self._answered = answered
            elif answered is not self._answered:
                what = (
                    "logs resps, and the samples before it"
                    if answered
                    else "lacks resps, and others"
                )
                raise self._error(line, f"{what} {'do not' if answered else 'log them'}")

    def _error(self, line: int, what: str) -> FlipsError:
        return FlipsError(
            f"'{self._task.path}' line {line + 1}, filter {self._filter!r}: it {what}; the file "
            "was edited or damaged: rerun this task"
        )
