"""THE list of per-sample values: what is known of each sample of a paired metric.

Each value has one line: its key, its unit, where it is read, and how the harness sums it up over a
task's samples. The Parquet file, FlipsTask and its registration, the sample tables of the harness's
loggers read it, so that a key means the same in all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lm_eval_flips.pairs.answers import as_compared
from lm_eval_flips.pairs.drawn import flips_of_draws, is_drawn
from lm_eval_flips.pairs.indicators import indicators
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.written import MARKED, SideName, judged, length, mark, script_switched

Column = Callable[[PairedMetric], Tensor | None]


class Unit(Enum):
    """What a value counts."""

    SCORE = "the metric's own"
    CHOICE = "place of a choice, from 0"
    MARK = "true or false"
    PROBABILITY = "0 to 1"
    NATS = "nats"
    POSITION = "place of a token, from 0"
    CHARACTERS = "characters"
    GRADE = "1 to 10"
    PREFERENCE = "-1 to 1, above 0 where the compressed answer is better"
    NONE = ""


class Aggregation(Enum):
    """One number from the values of a task's samples."""

    MEAN = "mean"
    MEDIAN = "median"
    MEAN_OVER_REQUESTS = "mean over requests, of which a sample may have several"
    CORRELATION = "Spearman's rank correlation of two columns"
    PERPLEXITY_RATIO = "ratio of perplexities, from log-likelihoods and numbers of units"
    BITS_CHANGE = "change of bits per unit, from the same"


@dataclass(frozen=True, slots=True)
class SampleValue:
    """One value of each sample.

    ``of`` reads ``[samples]``, or ``[samples, columns]`` where the aggregation takes several; None
    where the value is undefined for a metric. Of one sample nan is undefined, of a mark that may
    be unknown (int8) -1. ``grouped`` says that groups of tasks show its mean; ``shown_as`` names
    that number where the key would name a count; ``nearer`` that more of it is nearer to the
    baseline.
    """

    key: str
    unit: Unit
    of: Column
    aggregation: Aggregation | None = None
    grouped: bool = field(default=False, kw_only=True)
    shown_as: str = field(default="", kw_only=True)
    nearer: bool = field(default=False, kw_only=True)

    @property
    def table_key(self) -> str:
        """What the number is called that sums it up."""
        return self.shown_as or self.key


def _mark(name: str) -> Column:
    return lambda metric: indicators(metric).get(name)


@runtime_checkable
class OverChoices(Protocol):
    """A measure of the log-likelihoods of each sample's choices in both runs."""

    def __call__(self, *, baseline: Tensor, compressed: Tensor) -> Tensor:
        """``[samples, choices]`` of both runs -> ``[samples]``."""


def over_choices(measure: OverChoices) -> Column:
    """The column of a measure of the choices' log-likelihoods, as the metric compares them."""

    def column(metric: PairedMetric) -> Tensor | None:
        pairs = metric.pairs
        baseline = as_compared(pairs, pairs.baseline, metric.metric)
        compressed = as_compared(pairs, pairs.compressed, metric.metric)
        if baseline is None or compressed is None:
            return None
        rows = torch.from_numpy(metric.rows).to(baseline.device)
        return measure(baseline=baseline[rows], compressed=compressed[rows])

    return column


def _kl_and_flips(metric: PairedMetric) -> Tensor | None:
    if metric.divergence is None or metric.flipped is None:
        return None
    return torch.stack([metric.divergence.kl.double(), metric.flipped.double()], 1)


def _text_scores(metric: PairedMetric) -> Tensor | None:
    """Log-likelihoods and units of the texts of a perplexity."""
    if metric.units is None:
        return None
    columns = (metric.baseline_value, metric.compressed_value, metric.units)
    return torch.stack([column.double() for column in columns], 1)


def _bytes_scores(metric: PairedMetric) -> Tensor | None:
    counts_bytes = metric.metric in ("bits_per_byte", "byte_perplexity")
    return _text_scores(metric) if counts_bytes else None


def _same_text(metric: PairedMetric) -> Tensor | None:
    """Whether all that both models wrote is the same to the last character."""
    pairs = metric.pairs
    if pairs.kind != "text" or is_drawn(pairs, metric.metric):
        return None
    same = (pairs.baseline.response == pairs.compressed.response).all(-1)
    return same[torch.from_numpy(metric.rows).to(same.device)]


def _of_draws(name: str) -> Column:
    """The chances of samples whose answers were drawn several times."""

    def column(metric: PairedMetric) -> Tensor | None:
        found = flips_of_draws(metric)
        if found is None:
            return None
        values: Tensor = getattr(found, name)
        return values

    return column


def _along_answers(name: str) -> Column:
    """What was measured along the baseline's answers."""

    def column(metric: PairedMetric) -> Tensor | None:
        answers = metric.pairs.answers
        if answers is None:
            return None
        values: Tensor = getattr(answers, name)
        return values[torch.from_numpy(metric.rows).to(values.device)]

    return column


def _written(side: SideName) -> tuple[SampleValue, ...]:
    """What a side's written answers show of themselves."""
    return (
        SampleValue(f"{side}_length", Unit.CHARACTERS, length(side)),
        *(SampleValue(f"{side}_{sign}", Unit.MARK, mark(side, sign)) for sign in MARKED),
    )


MEAN = Aggregation.MEAN
SAMPLE_VALUES: tuple[SampleValue, ...] = (
    SampleValue("baseline", Unit.SCORE, lambda m: m.baseline_value),
    SampleValue("compressed", Unit.SCORE, lambda m: m.compressed_value),
    SampleValue("baseline_answer", Unit.CHOICE, lambda m: m.baseline_answer),
    SampleValue("compressed_answer", Unit.CHOICE, lambda m: m.compressed_answer),
    SampleValue("flips", Unit.MARK, _mark("flips"), MEAN, grouped=True),
    SampleValue(
        "correct_to_incorrect",
        Unit.MARK,
        _mark("correct_to_incorrect"),
        MEAN,
        grouped=True,
        shown_as="correct_to_incorrect_share",
    ),
    SampleValue(
        "incorrect_to_correct",
        Unit.MARK,
        _mark("incorrect_to_correct"),
        MEAN,
        grouped=True,
        shown_as="incorrect_to_correct_share",
    ),
    SampleValue("all_flips", Unit.MARK, _mark("all_flips"), MEAN, grouped=True),
    SampleValue(
        "answers_changed",
        Unit.MARK,
        lambda m: m.changed,
        MEAN,
        grouped=True,
        shown_as="answers_changed_share",
    ),
    SampleValue("expected_flips", Unit.PROBABILITY, _of_draws("flips")),
    SampleValue("flips_beyond_seeds", Unit.NONE, _of_draws("beyond")),
    SampleValue("top_margin", Unit.PROBABILITY, lambda m: m.margin),
    SampleValue(
        "choice_kl",
        Unit.NATS,
        lambda m: m.divergence.kl if m.divergence else None,
        MEAN,
        grouped=True,
    ),
    SampleValue(
        "choice_kl_reverse", Unit.NATS, lambda m: m.divergence.reverse_kl if m.divergence else None
    ),
    SampleValue(
        "jensen_shannon", Unit.NATS, lambda m: m.divergence.jensen_shannon if m.divergence else None
    ),
    SampleValue(
        "total_variation",
        Unit.PROBABILITY,
        lambda m: m.divergence.total_variation if m.divergence else None,
    ),
    SampleValue("token_kl", Unit.NATS, lambda m: m.token_kl, Aggregation.MEAN_OVER_REQUESTS),
    SampleValue("same_text", Unit.MARK, _same_text, MEAN, nearer=True),
    SampleValue("answer_kl", Unit.NATS, _along_answers("kl"), MEAN),
    SampleValue(
        "first_divergence",
        Unit.POSITION,
        _along_answers("parting"),
        Aggregation.MEDIAN,
        nearer=True,
    ),
    SampleValue("never_diverges", Unit.MARK, _along_answers("never"), MEAN, nearer=True),
    SampleValue("divergence_gap", Unit.NATS, _along_answers("gap")),
    SampleValue("flips_kl_correlation", Unit.NONE, _kl_and_flips, Aggregation.CORRELATION),
    SampleValue("perplexity_ratio", Unit.NONE, _text_scores, Aggregation.PERPLEXITY_RATIO),
    SampleValue("bits_per_byte_change", Unit.NONE, _bytes_scores, Aggregation.BITS_CHANGE),
    *_written("baseline"),
    *_written("compressed"),
    SampleValue("script_switched", Unit.MARK, script_switched),
    SampleValue("baseline_judge_score", Unit.GRADE, judged("baseline")),
    SampleValue("compressed_judge_score", Unit.GRADE, judged("compressed")),
    SampleValue("judge_preference", Unit.PREFERENCE, judged("preference")),
)

# What the harness's own table shows of them, by the key that it has there.
AGGREGATED: dict[str, SampleValue] = {
    value.table_key: value for value in SAMPLE_VALUES if value.aggregation is not None
}
# Marks of a sample, of which the harness shows the share under another key.
MARKS: dict[str, str] = {value.key: key for key, value in AGGREGATED.items() if key != value.key}
# How each is read, for what is built on them.
COLUMN: dict[str, Column] = {value.key: value.of for value in SAMPLE_VALUES}
