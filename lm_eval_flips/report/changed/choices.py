"""The choices of some samples with both runs' probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from lm_eval_flips.pairs.answers import as_compared
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.sides import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A choice with its probability in both runs: 0..1, nan where the log does not tell."""

    text: str
    baseline: float
    compressed: float
    baseline_answer: bool
    compressed_answer: bool
    gold: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceShares:
    """A row a sample: probabilities ``[samples, choices]`` of both runs, and what is right.

    ``answers`` are the places of both runs' answers, -1 for none.
    """

    baseline: list[list[float]]
    compressed: list[list[float]]
    answers: tuple[list[int], list[int]]
    gold: list[list[bool]]

    def choices(self, sample: int, texts: Sequence[str]) -> tuple[Choice, ...]:
        """A sample's choices, as many as it has texts."""
        before, after = (answer[sample] for answer in self.answers)
        return tuple(
            Choice(
                text=text,
                baseline=self.baseline[sample][place],
                compressed=self.compressed[sample][place],
                baseline_answer=place == before,
                compressed_answer=place == after,
                gold=self.gold[sample][place],
            )
            for place, text in enumerate(texts)
        )


def choice_shares(metric: PairedMetric, rows: Tensor) -> ChoiceShares | None:
    """Probabilities as the metric compares them, of some rows; None where there are no choices.

    A cloze has one choice: its continuation, with the probability of the whole of it, which is a
    run's answer where it is the likeliest word for word.
    """
    pairs = metric.pairs
    if pairs.kind not in ("choices", "cloze"):
        return None
    places = torch.from_numpy(metric.rows)[rows].to(pairs.choices.device)
    sides = [_shares(metric, side, places) for side in (pairs.baseline, pairs.compressed)]
    gold = pairs.gold[places].bool()
    if pairs.kind == "cloze":
        gold = torch.ones_like(gold)
        right = (metric.baseline_correct, metric.compressed_correct)
        answers = [_at(None if own is None else own.long() - 1, rows) for own in right]
    else:
        answers = [_at(own, rows) for own in (metric.baseline_answer, metric.compressed_answer)]
    return ChoiceShares(
        baseline=sides[0].tolist(),
        compressed=sides[1].tolist(),
        answers=(answers[0], answers[1]),
        gold=gold.tolist(),
    )


def _shares(metric: PairedMetric, side: Side, places: Tensor) -> Tensor:
    """``[samples, choices]``, 0..1; nan where the compared numbers are not known."""
    pairs = metric.pairs
    if pairs.kind == "cloze":
        return side.loglikelihoods[places].exp()
    scores = as_compared(pairs, side, metric.metric)
    if scores is None:
        return torch.full_like(side.loglikelihoods[places], nan)
    return scores[places].softmax(-1)


def _at(answers: Tensor | None, rows: Tensor) -> list[int]:
    if answers is None:
        return [-1] * len(rows)
    found: list[int] = answers[rows.to(answers.device)].tolist()
    return found
