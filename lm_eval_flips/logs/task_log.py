"""One task of a run: where its samples lie and how the harness scored it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lm_eval_flips.logs.results import AGGREGATIONS, KNOWN_AGGREGATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLog:
    """One task of a run: its samples file and how the harness scored it.

    ``aggregations`` are the configuration's, by metric: a name, or a function's source.
    ``higher_is_better`` holds the metrics of which that is known. ``scores`` are the results',
    under "metric,filter" as the harness writes them.
    ``expected`` is the number of samples that the results say at least, ``counted`` the number of
    documents that were asked for. ``first_filter``: the filtered answer is the first response.
    ``keep_requests``: each request's key is wanted, to find its distances.
    """

    name: str
    path: Path
    output_type: str | None
    standard_scoring: bool
    delimiter: str
    fewshot_delimiter: str
    num_fewshot: int
    expected: int | None
    lower_is_better: frozenset[str]
    aggregations: Mapping[str, str]
    counted: int | None = None
    first_filter: bool = False
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    keep_requests: bool = False

    def aggregation(self, metric: str) -> str | None:
        """Name of what makes a score of the metric's values: "mean", "nanmean", "f1" ….

        None where the harness does not name it: a function of the task's own, or a metric that
        neither the task's configuration nor the harness's registry knows.
        """
        given = self.aggregations.get(metric) or AGGREGATIONS.get(metric)
        return given if given in KNOWN_AGGREGATIONS else None

    def score(self, metric: str, filter: str) -> float | None:  # noqa: A002  (the harness's word)
        """The score that the results name under a filter; None where they name none."""
        return self.scores.get(f"{metric},{filter}")
