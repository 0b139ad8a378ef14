"""The errors of one row: of all of its metrics, and of those of them that have a value."""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import Errors


class RowErrors:
    """The errors of a row, and of those of its metrics that have a value: built once for each set.

    Args:
        metrics: the row's metrics, one a task.
    """

    def __init__(self, metrics: Sequence[PairedMetric]) -> None:
        self._built: dict[tuple[int, ...], Errors] = {}
        self.whole = self.of(metrics)

    def of(self, metrics: Sequence[PairedMetric]) -> Errors:
        """The errors of some of the row's metrics."""
        key = tuple(map(id, metrics))
        if key not in self._built:
            self._built[key] = Errors(metrics)
        return self._built[key]
