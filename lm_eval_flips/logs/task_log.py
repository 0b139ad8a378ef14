"""One task of a run: where its samples lie and how the harness scored it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

from lm_eval_flips.logs.results import AGGREGATIONS, KNOWN_AGGREGATIONS, Results, TaskConfig
from lm_eval_flips.logs.text_signs import NOT_FOUND, fallbacks_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLog:
    """One task of a run: its samples file and how the harness scored it.

    ``aggregations`` are the configuration's, by metric: a name, or a function's source.
    ``higher_is_better`` holds the metrics of which that is known. ``scores`` are the results',
    under "metric,filter" as the harness writes them.
    ``expected`` is the number of samples that the results say at least, ``counted`` the number of
    documents that were asked for. ``first_filter``: the filtered answer is the first response.
    ``fallbacks`` are what filters say that find no answer, by filter; None if none is known.
    ``keep_requests``: each request's key is wanted, to find its distances. ``repeats``: how often
    each question is asked.
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
    fallbacks: Mapping[str, tuple[str, ...]] | None = None
    keep_requests: bool = False
    repeats: int = 1

    def aggregation(self, metric: str) -> str | None:
        """Name of what makes a score of the metric's values: "mean", "nanmean", "f1" ….

        None where the harness does not name it: a function of the task's own, or a metric that
        neither the task's configuration nor the harness's registry knows.
        """
        given = self.aggregations.get(metric) or AGGREGATIONS.get(metric)
        return given if given in KNOWN_AGGREGATIONS else None

    def fallbacks_of(self, filter: str) -> tuple[str, ...] | None:  # noqa: A002
        """What a filter says where it finds no answer; None where it extracts nothing."""
        if self.fallbacks is None:
            return None if filter == "none" else (NOT_FOUND,)
        return self.fallbacks.get(filter)

    def score(self, metric: str, filter: str) -> float | None:  # noqa: A002  (the harness's word)
        """The score that the results name under a filter; None where they name none."""
        return self.scores.get(f"{metric},{filter}")


def task_log(results: Results, name: str, path: Path, *, keep_requests: bool) -> TaskLog:
    """A task of a run, from what its results say of it."""
    config = results.config_of(name)
    metrics = config.metric_list or []
    better = results.higher_is_better.get(name, {})
    scores = results.results.get(name, {})
    return TaskLog(
        name=name,
        path=path,
        output_type=config.output_type,
        standard_scoring=not config.process_results,
        delimiter=_target_delimiter(config, chat=bool(results.chat_template)),
        fewshot_delimiter=config.fewshot_delimiter or "\n\n",
        num_fewshot=results.n_shot.get(name) or 0,
        # n-samples counts the whole data set under --samples up to lm_eval 0.4.11
        expected=results.sample_len(name),
        counted=results.n_samples.get(name, {}).get("effective"),
        lower_is_better=frozenset(m for m, up in better.items() if up is False),
        aggregations={str(m.get("metric")): str(m.get("aggregation", "")) for m in metrics},
        higher_is_better={m: up for m, up in better.items() if up is not None},
        first_filter=not config.filter_list,
        fallbacks=None if config.filter_list is None else fallbacks_of(config.filter_list),
        scores={
            key: _score(score)
            for key, score in scores.items()
            if "," in key and "_stderr," not in key
        },
        keep_requests=keep_requests,
        repeats=config.repeats if isinstance(config.repeats, int) and config.repeats > 1 else 1,
    )


def _score(score: Any) -> float:
    try:
        return float(score) if isinstance(score, (int, float)) else nan
    except OverflowError:
        return nan


def _target_delimiter(config: TaskConfig, *, chat: bool) -> str:
    # The harness's rule: a chat template brings its own space, unless the answer goes on from a
    # gen_prefix that does not end in one (lm_eval 0.4.13, api/task.py:1376).
    if chat and (not config.gen_prefix or config.gen_prefix[-1:].isspace()):
        return ""
    return config.target_delimiter
