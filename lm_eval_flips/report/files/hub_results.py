"""Comparison -> the YAML of results that a model hub reads from a model's repository.

One entry a task whose data set lies on the hub, in the form of ``.eval_results/*.yaml``, written by
the hub's own library and never sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isnan
from typing import Any

from lm_eval_flips.comparison.numbers import one_each
from lm_eval_flips.comparison.result import Comparison, Row, RunComparison
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.names import own_version
from lm_eval_flips.logs.results import TaskConfig
from lm_eval_flips.report.columns import COLUMN
from lm_eval_flips.report.names import model_name
from lm_eval_flips.report.text.sentences import metric_name

ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")  # owner and data set
DAY = re.compile(r"\d{4}-\d\d-\d\d")  # the time behind it, in a file's name, is of no zone
DEFAULT = "default"  # the hub's name for the one part of a data set


@dataclass(frozen=True, slots=True, kw_only=True)
class HubResults:
    """The YAML, and the tasks that are not in it, as no data set of the hub is theirs."""

    text: str
    left_out: tuple[str, ...]


def hub_results(comparison: Comparison, *, harness: str | None = None) -> HubResults:
    """Scores and flips of a compressed model, as its repository holds them.

    Args:
        comparison: of one compressed model.
        harness: the version of lm_eval that evaluated it, if that is known.

    Raises:
        FlipsError: there are several compressed models, no task's data set lies on the hub, or the
            hub's library is too old.
    """
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError:
        raise FlipsError(
            "the installed huggingface_hub knows no such results: pip install -U huggingface_hub"
        ) from None
    import yaml

    if len(comparison.compressed) != 1:
        raise FlipsError(
            "--eval-results is of one model, whose repository holds it: give one compressed run"
        )
    (run,) = comparison.compressed
    entries, left_out = [], []
    for name, row in one_each(run.tasks).items():
        config = run.run.results.config_of(name)
        if (data := _data_set(config)) is None or isnan(row.compressed_score):
            left_out.append(name)
            continue
        entries.append(
            EvalResultEntry(
                dataset_id=data,
                task_id=str(config.dataset_name or DEFAULT),
                value=row.compressed_score,
                date=_day(run.run.date),
                notes=_notes(comparison, run, row, harness=harness),
            )
        )
    if not entries:
        raise FlipsError(
            f"the data set of no task lies on the hub ({named(left_out)}): there are no results "
            "that it reads"
        )
    written: Any = eval_result_entries_to_yaml(entries)
    text = yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=1000)
    return HubResults(text=text, left_out=tuple(left_out))


def _data_set(config: TaskConfig) -> str | None:
    """The hub's data set of a task; None where it comes from files or is named otherwise."""
    path = config.dataset_path
    own_files = isinstance(config.dataset_kwargs, dict) and "data_files" in config.dataset_kwargs
    return path if isinstance(path, str) and ON_HUB.fullmatch(path) and not own_files else None


def _day(date: str) -> str | None:
    found = DAY.match(date)
    return found[0] if found else None


def _notes(comparison: Comparison, run: RunComparison, row: Row, *, harness: str | None) -> str:
    shots = run.run.results.n_shot.get(row.name)
    before = f"{COLUMN['baseline_score'].text(row)} of {model_name(comparison.baseline.model)}"
    told = [
        f"{row.name}, {metric_name(row)}" + (f", {shots}-shot" if shots is not None else ""),
        f"n = {row.n}, baseline {before}",
    ]
    if row.flips is not None:
        share = f"{COLUMN['flips'].text(row)} {COLUMN['flips'].interval(row)}".rstrip()
        told.append(f"{share} of the answers flipped")
    if row.distances is not None:
        told.append(f"choice KL {COLUMN['choice_kl'].text(row)} nats")
    by = f"lm_eval {harness}, " if harness else ""
    told.append(f"{by}lm-eval-flips {own_version()}")
    return "; ".join(told)
