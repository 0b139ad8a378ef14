"""What a task's logged values mean, sample by sample: which are numbers, and which are none.

The harness's aggregation says what a score is. Values that stand for "not of this metric" (-1 under
RULER's other lengths) are nan here; pairs of right and given answers, and lists of parts, become
right or wrong under a name of their own, ``<metric>_correct``; what says nothing about single
samples is named with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lm_eval_flips.logs.metric_columns import PERPLEXITIES
from lm_eval_flips.logs.samples import Samples, Values
from lm_eval_flips.logs.turns import ANSWERED as TURNS
from lm_eval_flips.measures.aggregations import brier, f1, flat_mean, matthews

CORRECT = "_correct"
ANSWERED = "acc"  # of choice tasks without a number: the log-likelihoods against the target
# Metrics that grade, though all grades of a run may happen to be 0 or 1.
GRADED = ("rouge", "bleu", "bert", "chrf", "ter", "meteor", "f1", "mae", "mse", "rmse", "wer")
LABELLED = frozenset({"f1", "mcc"})  # log the right and the given answer
NO_SCORE = {
    "bypass": "predict_only was given: nothing was scored",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The samples with only numbers that mean something, and what is to be said of the others.

    ``unused`` says by metric why it is not compared. ``scores`` are the harness's aggregations of
    metrics whose samples are right or wrong, ``shown_as`` the metrics that say so.
    """

    samples: Samples
    unused: Mapping[str, str]
    scores: Mapping[str, float]
    shown_as: Mapping[str, str]


def known_reading(samples: Samples) -> Reading:
    """``read_values``, once for the same samples: of a baseline, for all runs."""
    if "reading" not in samples.known:
        samples.known["reading"] = read_values(samples)
    reading: Reading = samples.known["reading"]
    return reading


def read_values(samples: Samples) -> Reading:
    """Give a task's logged values the meaning that its aggregation gives them."""
    metrics, logged = dict(samples.metrics), dict(samples.logged)
    unused = dict.fromkeys(sorted(samples.opaque), "it was written over a field of the sample")
    for name in list(metrics):
        if name == TURNS:
            del metrics[name]  # counts turns; a judge says how good they are
        elif name in NO_SCORE:
            unused[name] = NO_SCORE[name]
            del metrics[name]
        elif (other := _of_another_length(samples, name)) is not None:
            metrics[name] = np.where(other, np.nan, metrics[name])
            logged[name] = logged[name] & ~other
    answered = not metrics and samples.kind == "choices" and bool(samples.gold.any(-1).all())
    # by the numbers that were logged, not by those that are made here
    told = bool(samples.values) and any(map(_right_or_wrong, metrics, metrics.values()))
    scores: dict[str, float] = {}
    shown_as: dict[str, str] = {}
    for name, values in samples.values.items():
        score = _score(name, values, logged[name], samples)
        if score is not None:
            scores[name] = score
        correct = _correct(name, values, samples)
        if correct is None:
            unused[name] = _why(values)
        elif answered:
            shown_as[name] = ANSWERED
        elif not told:
            shown_as[name] = f"{name}{CORRECT}"
            metrics[shown_as[name]] = np.where(logged[name], correct, np.nan)
        else:
            unused[name] = "its samples are right or wrong as those of the other metric are"
    read = replace(samples, metrics=metrics, logged=logged)
    return Reading(samples=read, unused=unused, scores=scores, shown_as=shown_as)


def is_graded(name: str) -> bool:
    """Whether a metric grades, by its name.

    Example:
        >>> is_graded("rougeL"), is_graded("f1_correct"), is_graded("exact_match")
        (True, False, False)
    """
    return name.lower().startswith(GRADED) and not name.endswith(CORRECT)


def not_finite(samples: Samples) -> Iterator[tuple[str, str, list[int]]]:
    """Metrics with values that have no mean: the metric, what they are, and their doc_ids."""
    for name, values in samples.metrics.items():
        logged = samples.logged.get(name)
        if logged is None or name in PERPLEXITIES:
            continue
        for what, bad in (("nan", np.isnan(values) & logged), ("infinite", np.isinf(values))):
            docs = samples.doc_id[bad].tolist()
            if docs:
                yield name, what, docs


def _right_or_wrong(name: str, values: NDArray[np.float64]) -> bool:
    known = values[~np.isnan(values)]
    return bool(len(known)) and not is_graded(name) and set(np.unique(known)) <= {0.0, 1.0}


def _of_another_length(samples: Samples, name: str) -> NDArray[np.bool_] | None:
    """Samples whose -1 says that their document is not of this metric; None where none does.

    RULER logs each document under all lengths, -1 under those of others, and its aggregation
    leaves those out (lm_eval 0.4.13, tasks/ruler/common_utils.py:69).
    """
    values = samples.metrics[name]
    other = (values == -1) & samples.logged[name]
    if not other.any():
        return None
    rest = values[~other & ~np.isnan(values)]
    if not len(rest) or rest.min() < 0 or rest.max() > 1:
        return None
    aggregated = samples.task.score(name, samples.filter)
    fits = aggregated is not None and abs(rest.mean() - aggregated) < 1e-6
    by_length = name.isdecimal() and samples.task.aggregation(name) != "mean"
    return other if fits or by_length else None


def _labels(name: str, values: Values, samples: Samples) -> bool:
    """Whether pairs are the right and the given answer, not two parts of an answer."""
    aggregation = samples.task.aggregation(name)
    labelled = name in LABELLED or aggregation in ("f1", "matthews_corrcoef")
    return values.kind == "pair" and (labelled or samples.kind == "choices")


def _correct(name: str, values: Values, samples: Samples) -> NDArray[np.float64] | None:
    """Whether each sample is right, 1 or 0; None where the values do not tell."""
    if _labels(name, values, samples):
        return np.asarray(values.numbers[:, 0] == values.numbers[:, 1], float)
    if values.kind == "label and list":
        held = np.where(np.isnan(values.numbers[:, 1:]), -np.inf, values.numbers[:, 1:])
        return np.asarray(held.argmax(-1) == values.numbers[:, 0], float)
    if values.kind in ("pair", "list"):
        parts = values.numbers[~np.isnan(values.numbers)]
        whole = np.isnan(values.numbers) | (values.numbers == 1)
        return np.asarray(whole.all(-1), float) if np.isin(parts, (0.0, 1.0)).all() else None
    return None


def _score(name: str, values: Values, logged: NDArray[np.bool_], samples: Samples) -> float | None:
    """The harness's score of values that are no numbers; None where it cannot be followed here."""
    numbers = torch.from_numpy(values.numbers[logged])
    aggregation = samples.task.aggregation(name)
    if not len(numbers) or not numbers.shape[1]:
        return None
    if _labels(name, values, samples):
        gold, given = numbers.long().T
        return {"f1": f1, "matthews_corrcoef": matthews}.get(aggregation or "", _none)(gold, given)
    if values.kind == "label and list":
        named = aggregation == "brier_score"
        return brier(numbers[:, 0].long(), numbers[:, 1:]) if named else None
    return flat_mean(numbers) if values.kind in ("pair", "list") else None


def _none(*_: object) -> None:
    return None


def _why(values: Values) -> str:
    if values.kind == "text":
        return "it scores all texts together and says nothing about single samples"
    return "its logged values are no numbers, right or wrong, or lists of them"
