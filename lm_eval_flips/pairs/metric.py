"""One metric of one task, sample by sample in both runs: what every measure is computed from.

Here the metric's meaning is settled: what it compares and answers (``answers``), and which of its
values are right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.logs.metric_columns import PERPLEXITIES
from lm_eval_flips.measures.direction import signed_margin
from lm_eval_flips.measures.divergence import Divergence
from lm_eval_flips.measures.margin import top_margin
from lm_eval_flips.measures.noise_direction import NoiseFlips, noise_flips
from lm_eval_flips.measures.tokens import request_means, sample_means
from lm_eval_flips.pairs.answers import answer, as_compared
from lm_eval_flips.pairs.choice_distances import divergence_of
from lm_eval_flips.pairs.correctness import (
    check_correctness,
    only_zeros_and_ones,
    right_of,
    shared_samples,
)
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.sides import Side
from lm_eval_flips.pairs.tokens import TokenValues

Pick = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairedMetric:
    """One metric of the samples that have it, as tensors with a row a sample.

    ``correct`` is None for a metric that is not binary; ``changed`` None where the log names no
    answer; ``divergence`` and ``margin`` None where there are no choices; ``units`` None where the
    metric is not a perplexity. ``answer`` is the place of the choice, where there are choices;
    ``tokens`` the distances over the vocabulary, None where none were measured. ``margin_change``
    is the change of the signed margin of the baseline's answer, None where there is none; ``noise``
    the flips that noise alone would bring, None where the right choices are not known.
    ``as_correctness`` says that the values are not the metric's, but whether each is right.
    """

    pairs: Pairs
    metric: str
    rows: NDArray[np.int64]
    baseline_value: Tensor
    compressed_value: Tensor
    baseline_correct: Tensor | None
    compressed_correct: Tensor | None
    baseline_answer: Tensor | None
    compressed_answer: Tensor | None
    changed: Tensor | None
    divergence: Divergence | None
    margin: Tensor | None
    margin_change: Tensor | None
    units: Tensor | None
    clusters: Tensor
    tokens: TokenValues | None
    noise: NoiseFlips | None
    as_correctness: bool = False

    @property
    def token_kl(self) -> Tensor | None:
        """Each sample's KL over the vocabulary: the mean of its requests' means, in nats.

        Where only first positions are known, the mean of those. None where none were measured.
        """
        if self.tokens is None:
            return None
        of_requests = request_means(self.tokens.values["kl"], self.tokens.counts)
        return sample_means(of_requests, self.tokens.samples, samples=len(self.rows))

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is a better one; not so for perplexities and rates of errors."""
        if self.as_correctness:
            return True
        lower = self.metric in self.pairs.baseline.task.lower_is_better
        return not lower and self.units is None

    @property
    def choices(self) -> Tensor | None:
        """Number of choices of each sample; None where there are none."""
        if self.baseline_answer is None:
            return None
        return self.pairs.choices[torch.from_numpy(self.rows).to(self.pairs.choices.device)]

    @property
    def doc_ids(self) -> NDArray[np.int64]:
        """The samples' doc_ids."""
        return self.pairs.doc_ids[self.rows]

    @property
    def cluster_field(self) -> str | None:
        """What was asked to make samples dependent; None where nothing was."""
        return self.pairs.cluster_field

    def correctness(self) -> PairedMetric:
        """The same with what is right as its values, 1 or 0: of what metrics' values mean nothing.

        As is where answers are not right or wrong.
        """
        before, after = self.baseline_correct, self.compressed_correct
        if before is None or after is None:
            return self
        return replace(
            self,
            baseline_value=before.double(),
            compressed_value=after.double(),
            as_correctness=True,
        )

    def at(self, rows: Tensor) -> PairedMetric:
        """The same with only these rows' documents and clusters, for errors of their values."""
        return replace(self, rows=self.rows[rows.cpu().numpy()], clusters=self.clusters[rows])

    @property
    def flipped(self) -> Tensor | None:
        """Whether the correctness changed; None for a metric that is not binary."""
        if self.baseline_correct is None or self.compressed_correct is None:
            return None
        return self.baseline_correct ^ self.compressed_correct


def paired_metric(
    pairs: Pairs, metric: str, *, graded: bool = False, right_from: float | None = None
) -> PairedMetric:
    """One metric of the pairs, over the samples for which both runs logged it.

    Args:
        pairs: the samples of both runs.
        metric: the metric's name.
        graded: whether it grades although these two runs hold but 0 and 1.
        right_from: the value from which a graded answer counts as right (up to which, where less
            is better); None for graded answers that are neither right nor wrong.

    Raises:
        FlipsError: a logged correctness contradicts the log-likelihoods it was made from.
    """
    kept = shared_samples(pairs, metric)
    everything = bool(kept.all())
    rows = kept.nonzero()[:, 0]

    def pick(values: Tensor) -> Tensor:
        return values if everything else values[rows]

    both = (pairs.baseline, pairs.compressed)
    left, right = (pick(side.metrics[metric]) for side in both)
    lower = metric in pairs.baseline.task.lower_is_better
    units = _units(pairs, metric, pick)
    right_values: float | None = None if units is not None else right_from
    if not graded and only_zeros_and_ones(pairs, metric):
        right_values = 0.0 if lower else 1.0
    binary = right_values is not None
    ours, theirs = (_compared(pairs, side, metric, pick) for side in both)
    answers = [answer(scores, metric) for scores in (ours, theirs)]
    if binary and right_from is None:
        check_correctness(pairs, metric)
    changed = _changed(pairs, pick, answers, binary=binary, values=(left, right))
    return PairedMetric(
        pairs=pairs,
        metric=metric,
        rows=rows.cpu().numpy(),
        baseline_value=left,
        compressed_value=right,
        baseline_correct=right_of(left, right_values, lower=lower),
        compressed_correct=right_of(right, right_values, lower=lower),
        baseline_answer=answers[0],
        compressed_answer=answers[1],
        changed=changed,
        divergence=divergence_of(pairs, None if everything else rows),
        margin=None if ours is None else top_margin(ours),
        margin_change=_margin_change(ours, theirs, answers[0]),
        units=units,
        clusters=pick(pairs.clusters),
        tokens=_tokens(pairs.tokens, None if everything else rows),
        noise=_noise(ours, pick(pairs.gold) > 0, changed),
    )


def _compared(pairs: Pairs, side: Side, metric: str, pick: Pick) -> Tensor | None:
    scores = as_compared(pairs, side, metric)
    return None if scores is None else pick(scores)


def _tokens(tokens: TokenValues | None, rows: Tensor | None) -> TokenValues | None:
    return tokens if tokens is None or rows is None else tokens.of_samples(rows)


def _margin_change(
    ours: Tensor | None, theirs: Tensor | None, answered: Tensor | None
) -> Tensor | None:
    if ours is None or theirs is None or answered is None:
        return None
    return signed_margin(theirs, answered) - signed_margin(ours, answered)


def _noise(scores: Tensor | None, gold: Tensor, changed: Tensor | None) -> NoiseFlips | None:
    if scores is None or changed is None or not gold.any(-1).all():
        return None
    return noise_flips(scores, gold, changed=int(changed.sum()))


def _units(pairs: Pairs, metric: str, pick: Pick) -> Tensor | None:
    """Words, bytes or samples that a perplexity counts; None where the metric is no perplexity."""
    if metric in PERPLEXITIES:
        units = pairs.baseline.units.get(metric)
        if units is None or (units := pick(units)).isnan().any():
            return None
        return units
    cloze = pairs.kind == "cloze" and metric == "perplexity"
    return torch.ones_like(pick(pairs.baseline.metrics[metric])) if cloze else None


def _changed(
    pairs: Pairs,
    pick: Pick,
    answers: list[Tensor | None],
    *,
    binary: bool,
    values: tuple[Tensor, Tensor],
) -> Tensor | None:
    if not binary:
        return None
    if answers[0] is not None and answers[1] is not None:
        # a task that scores in its own way may judge the same best choice differently
        return (answers[0] != answers[1]) | (values[0] != values[1])
    if pairs.kind == "text":
        left, right = pick(pairs.baseline.answer), pick(pairs.compressed.answer)
        return (left != right).any(-1)
    # a cloze answer is only known as right or wrong
    return values[0] != values[1] if pairs.kind == "cloze" else None
