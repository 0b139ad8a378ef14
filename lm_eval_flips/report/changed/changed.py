"""Comparison -> its changed samples with their texts, every file of the runs read once.

A sample is changed where its answer differs or its correctness does. The first binary metric of a
task and filter stands for its samples; where there is none, as of conversations, what a judge said
of them, and changed is what it holds for worse or better.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan

import torch
from torch import Tensor

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.pairs.judged import PREFERRED, SCORED
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.report.changed.choices import Choice, choice_shares
from lm_eval_flips.report.changed.judged import JudgedAnswers, judged_answers
from lm_eval_flips.report.changed.sample_text import (
    WHOLE,
    Key,
    Limits,
    SampleText,
    key_of,
    read_texts,
)
from lm_eval_flips.report.changed.written import WrittenAnswers, written_answers

LOST, WON = "correct_to_incorrect", "incorrect_to_correct"
WRONG, RIGHT = "wrong_to_wrong", "correct_to_correct"
WORSE, BETTER = "judged_worse", "judged_better"
WORDS = {
    LOST: "correct → incorrect",
    WON: "incorrect → correct",
    WRONG: "wrong → wrong",
    RIGHT: "correct → correct",
    WORSE: "judged worse",
    BETTER: "judged better",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a changed sample is: the compressed run's number, its metric, and the row there.

    ``margin`` is the baseline's top margin, nan where there are no choices.
    """

    run: int
    metric: PairedMetric = field(repr=False)
    row: int
    direction: str
    margin: float

    @property
    def flipped(self) -> bool:
        """Whether the correctness changed, not only the answer."""
        return self.direction in (LOST, WON)

    @property
    def doc_id(self) -> int:
        """The sample's doc_id."""
        return int(self.metric.pairs.doc_ids[self.place])  # not all of them for each

    @property
    def place(self) -> int:
        """The sample's place in its pairs."""
        return int(self.metric.rows[self.row])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedSample:
    """A changed sample with its text.

    ``choices`` are empty for generated text. ``answers`` are the baseline's and the compressed
    run's response, as filtered, and ``said`` all that they wrote; None where the choices tell.
    The distances (nats) are nan where they are undefined. ``written`` is what both answers show of
    themselves, None where there are choices; ``judged`` what a judge said of each, None where it
    gave them no score.
    """

    found: Found
    text: SampleText
    choices: tuple[Choice, ...]
    answers: tuple[str, str] | None
    said: tuple[str, str] | None
    choice_kl: float
    token_kl: float
    written: WrittenAnswers | None
    judged: JudgedAnswers | None


def find_changed(comparison: Comparison) -> list[Found]:
    """Every changed sample of every compressed run: flips first, then by falling top margin.

    Equal ones are in order of task and doc_id.
    """
    found = [
        own
        for number, run in enumerate(comparison.compressed)
        for metric in _standing(run.metrics)
        for own in _of_metric(number, metric)
    ]
    found.sort(
        key=lambda own: (
            not own.flipped,
            0.0 if isnan(own.margin) else -own.margin,
            own.metric.pairs.task,
            own.doc_id,
        )
    )
    return found


def _standing(metrics: Sequence[PairedMetric]) -> list[PairedMetric]:
    """The first binary metric of each task and filter, or a judge's where there is no other."""
    first: dict[tuple[str, str], PairedMetric] = {}
    for metric in metrics:
        if metric.flipped is not None or metric.metric in (SCORED, PREFERRED):
            first.setdefault((metric.pairs.task, metric.pairs.filter), metric)
    return list(first.values())


def _of_metric(run: int, metric: PairedMetric) -> Iterator[Found]:
    before, after, flipped = metric.baseline_correct, metric.compressed_correct, metric.flipped
    if before is None or after is None or flipped is None:
        yield from _judged(run, metric)
        return
    changed = flipped if metric.changed is None else flipped | metric.changed
    rows = changed.nonzero()[:, 0]
    margins = [nan] * len(rows) if metric.margin is None else metric.margin[rows].tolist()
    for row, margin, was, now in zip(
        rows.tolist(), margins, before[rows].tolist(), after[rows].tolist(), strict=True
    ):
        direction = {(True, False): LOST, (False, True): WON, (False, False): WRONG}
        yield Found(
            run=run,
            metric=metric,
            row=row,
            direction=direction.get((was, now), RIGHT),
            margin=margin,
        )


def _judged(run: int, metric: PairedMetric) -> Iterator[Found]:
    """The samples of a judge's metric that it does not hold for equally good."""
    moved = (metric.compressed_value - metric.baseline_value).cpu()
    for row in moved.nonzero()[:, 0].tolist():
        direction = BETTER if moved[row] > 0 else WORSE
        yield Found(run=run, metric=metric, row=row, direction=direction, margin=nan)


def read_changed(found: Sequence[Found], *, limits: Limits = WHOLE) -> list[ChangedSample]:
    """The samples with their texts, in the order given.

    Args:
        found: of ``find_changed``, or a part of it.
        limits: where to cut long texts.

    Raises:
        FlipsError: a samples file is gone or has changed since it was compared.
    """
    ours = read_texts([(own.metric.pairs, own.place) for own in found], limits, baseline=True)
    written = [own for own in found if own.metric.margin is None]
    theirs = read_texts([(own.metric.pairs, own.place) for own in written], limits, baseline=False)
    by_metric: dict[int, list[int]] = defaultdict(list)
    for number, own in enumerate(found):
        by_metric[id(own.metric)].append(number)
    samples: dict[int, ChangedSample] = {}
    for numbers in by_metric.values():
        alike = [found[number] for number in numbers]
        samples.update(zip(numbers, _samples(alike, ours, theirs), strict=True))
    return [samples[number] for number in range(len(found))]


def _samples(
    found: Sequence[Found], ours: Mapping[Key, SampleText], theirs: Mapping[Key, SampleText]
) -> Iterator[ChangedSample]:
    """Samples of one metric, whose numbers are taken out of the tensors at once."""
    metric = found[0].metric
    pairs = metric.pairs
    rows = torch.tensor([own.row for own in found])
    choice_kl = _at(None if metric.divergence is None else metric.divergence.kl, rows)
    token_kl = _at(metric.token_kl, rows)
    shares = choice_shares(metric, rows)
    written = written_answers(metric, rows)
    for place, own in enumerate(found):
        text = ours[key_of(pairs.baseline, own.place)]
        other = theirs.get(key_of(pairs.compressed, own.place))
        yield ChangedSample(
            found=own,
            text=text,
            choices=() if shares is None else shares.choices(place, text.choices),
            answers=None if other is None else (text.answer, other.answer),
            said=None if other is None else (text.said, other.said),
            choice_kl=choice_kl[place],
            token_kl=token_kl[place],
            written=written[place],
            judged=judged_answers(metric, own.row),
        )


def _at(values: Tensor | None, rows: Tensor) -> list[float]:
    if values is None:
        return [nan] * len(rows)
    found: list[float] = values[rows.to(values.device)].tolist()
    return found
