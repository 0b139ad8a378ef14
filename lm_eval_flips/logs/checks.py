"""A task's samples held against what the same run's results say: counts, scores, filters.

What cannot be the log of that run is refused; what can be, but does not agree, is a fault that the
samples carry.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.faults import RunFault
from lm_eval_flips.logs.metric_columns import PERPLEXITIES
from lm_eval_flips.logs.samples import Samples, Values
from lm_eval_flips.logs.task_log import TaskLog

# Relative; scores were computed from the logged values in float64, some of them from float32.
AGREES = 1e-5
MEANS = ("mean", "nanmean", "median")


def checked(samples: Mapping[str, Samples], task: TaskLog) -> dict[str, Samples]:
    """The samples of every filter, with what they contradict in the results as their ``faults``.

    Raises:
        FlipsError: samples or filters are missing, or are more than were scored; a logged value is
            not that of the responses beside it.
    """
    wanted = {key.rpartition(",")[2] for key in task.scores}
    if missing := sorted(wanted - set(samples)):
        raise FlipsError(
            f"task '{task.name}': the results score the filters {named(sorted(wanted))}, but no "
            f"sample in '{task.path}' is of {named(missing)}; the file was cut off: rerun this task"
        )
    found = {name: _checked(own) for name, own in samples.items()}
    written = [own for own in found.values() if own.kind == "text" and _has_responses(own)]
    for first, other in pairwise(written):
        faults = tuple(_other_texts(first, other))
        found[other.filter] = replace(other, faults=(*other.faults, *faults))
    return found


def _has_responses(samples: Samples) -> bool:
    """Whether the model's own texts were logged, and not only what a filter made of them."""
    return bool((samples.response != samples.answer).any())


def _other_texts(first: Samples, other: Samples) -> Iterator[RunFault]:
    """Texts that differ between two filters, which are given the same."""
    _, here, there = np.intersect1d(first.doc_id, other.doc_id, return_indices=True)
    differ = (first.response[here] != other.response[there]).any(-1)
    if differ.any():
        docs = first.doc_id[here][differ].tolist()
        yield RunFault(
            code="other-text-by-filter",
            task=first.task.name,
            text=f"under the filters '{first.filter}' and '{other.filter}' the model wrote other "
            f"texts (doc {named(docs)})",
            way_out="the file was edited or damaged: rerun this task",
        )


def _checked(samples: Samples) -> Samples:
    _refuse_contradictions(samples)
    _refuse_rare(samples)
    scores = {name: recomputed(samples, name) for name in (*samples.metrics, *samples.values)}
    faults = tuple(_score_faults(samples, scores))
    _refuse_count(samples, scores, faults)
    return replace(samples, faults=(*samples.faults, *faults))


def _refuse_rare(samples: Samples) -> None:
    """Refuse a metric that some samples log and that no score was made of."""
    task = samples.task
    for name, logged in samples.logged.items():
        if task.scores and f"{name},{samples.filter}" not in task.scores and not logged.all():
            place = int(np.flatnonzero(logged)[0])
            raise FlipsError(
                f"'{task.path}' line {samples.line[place] + 1}, filter '{samples.filter}': it logs "
                f"the metric {name!r:.40}, which other samples lack and the results do not score; "
                "the file was edited or damaged: rerun this task"
            )


def _refuse_contradictions(samples: Samples) -> None:
    """Refuse values that are not those of the responses from which the harness made them."""
    if not samples.task.standard_scoring or samples.kind not in ("cloze", "rolling"):
        return
    values = samples.loglikelihoods[:, 0]
    bad: dict[str, NDArray[np.bool_]] = {}
    for name in (*PERPLEXITIES, "perplexity"):
        if name in samples.metrics:
            logged = samples.metrics[name]
            bad[name] = (logged != values) & ~(np.isnan(logged) & np.isnan(values))
    if samples.kind == "cloze" and "acc" in samples.metrics:
        greedy = samples.greedy[:, 0]
        bad["acc"] = (greedy >= 0) & (samples.metrics["acc"] != greedy)
    for name, rows in bad.items():
        places = np.flatnonzero(rows & samples.logged[name])
        if len(places):
            raise FlipsError(
                f"'{samples.task.path}' line {samples.line[places[0]] + 1}, doc "
                f"{samples.doc_id[places[0]]}: {name} is not that of the logged response (in "
                f"{len(places)} samples); the file was edited or damaged: rerun this task"
            )


def recomputed(samples: Samples, metric: str) -> float | None:
    """A metric's score by the aggregation that the run names, over the logged samples.

    None where no aggregation is named that can be followed here (a function of the task's own, a
    corpus measure such as BLEU), or where the values are not of its kind.
    """
    aggregation = samples.task.aggregation(metric)
    if metric in samples.values:
        return _of_pairs(aggregation, samples.values[metric], samples.logged[metric])
    values = samples.metrics[metric][samples.logged[metric]]
    if not len(values):
        return None
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if aggregation == "mean":
            return math.fsum(values) / len(values) if np.isfinite(values).all() else values.mean()
        if aggregation == "nanmean":
            return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan
        if aggregation == "median":
            return float(np.sort(values)[len(values) // 2])
        if aggregation == "perplexity":
            return float(np.exp(-values.mean()))
        if metric not in samples.units:
            return _of_units(aggregation, values, np.full(len(values), math.nan))
        return _of_units(aggregation, values, samples.units[metric][samples.logged[metric]])


def _of_units(
    aggregation: str | None, values: NDArray[np.float64], units: NDArray[np.float64]
) -> float | None:
    """A perplexity of log-likelihoods that are worth so many words or bytes each."""
    if np.isnan(units).any() or not units.sum() > 0:
        return None
    if aggregation == "weighted_perplexity":
        return float(np.exp(-values.sum() / units.sum()))
    if aggregation == "bits_per_byte":
        return float(-values.sum() / units.sum() / math.log(2))
    return None


def _of_pairs(aggregation: str | None, values: Values, logged: NDArray[np.bool_]) -> float | None:
    """Matthews' correlation, or F1 of the label 1, of (right, given) answers that are 0 or 1."""
    if values.kind != "pair" or aggregation not in ("f1", "matthews_corrcoef"):
        return None
    gold, given = values.numbers[logged].T
    if not {*gold.tolist(), *given.tolist()} <= {0.0, 1.0}:
        return None
    both, only_gold = (gold * given).sum(), (gold * (1 - given)).sum()
    only_given = ((1 - gold) * given).sum()
    neither = len(gold) - both - only_gold - only_given
    if aggregation == "f1":
        total = 2 * both + only_gold + only_given
        return float(2 * both / total) if total else 0.0
    scale = math.sqrt(
        (both + only_gold) * (both + only_given) * (neither + only_gold) * (neither + only_given)
    )
    return float((both * neither - only_gold * only_given) / scale) if scale else 0.0


def _score_faults(samples: Samples, scores: Mapping[str, float | None]) -> Iterable[RunFault]:
    task = samples.task
    for metric, score in scores.items():
        logged = task.score(metric, samples.filter)
        mean = metric not in samples.values and task.aggregation(metric) in MEANS
        if score is None or logged is None or _agree(score, logged, mean=mean):
            continue
        yield RunFault(
            code="score-differs",
            task=task.name,
            text=(
                f"the samples give {metric} {score:.6g} under filter '{samples.filter}', the "
                f"results say {logged:.6g} ({_count(samples)})"
            ),
            way_out="the samples are not those that were scored, or were edited: rerun this task",
        )


def _agree(score: float, logged: float, *, mean: bool) -> bool:
    if math.isnan(logged) or math.isnan(score):
        return True  # nan, or "N/A", says nothing
    if not mean and round(score, len(repr(logged).partition(".")[2])) == logged:
        return True  # a rounded one: what is no mean has all its digits otherwise
    return math.isclose(score, logged, rel_tol=AGREES, abs_tol=AGREES * 1e-2)


def _count(samples: Samples) -> str:
    task = samples.task
    counted = task.counted if task.expected is None else task.expected
    return f"{len(samples)} of {counted} samples" if counted else f"{len(samples)} samples"


def _refuse_count(
    samples: Samples, scores: Mapping[str, float | None], faults: tuple[RunFault, ...]
) -> None:
    """Refuse a file that holds fewer or more samples than the run's results say."""
    task, found = samples.task, len(samples)
    if task.expected is not None:
        if found == task.expected:
            return
        said = task.expected
    else:
        # n-samples counts the whole data set under --samples up to lm_eval 0.4.11: the scores
        # tell whether samples are missing
        told = [score for score in scores.values() if score is not None]
        if task.counted is None or found == task.counted or (told and not faults):
            return
        said = task.counted
    where = (
        f"task '{task.name}': '{task.path}' holds {found} samples under filter '{samples.filter}'"
    )
    why = f" ({faults[0].text})" if faults else ""
    if found > said:
        raise FlipsError(
            f"{where} but the results say {said}{why}; it holds samples of another run: rerun this "
            "task"
        )
    raise FlipsError(
        f"{where} but the results say {said}{why}; the file was cut off: rerun this task"
    )
