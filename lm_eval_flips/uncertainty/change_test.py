"""Did the score change, and did it get worse? The test that fits a row's samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.detectable import mcnemar_detectable, t_detectable
from lm_eval_flips.measures.direction import Direction
from lm_eval_flips.measures.flips import Flips
from lm_eval_flips.measures.permutation import sign_flips
from lm_eval_flips.measures.perplexity import PerplexityChange
from lm_eval_flips.measures.significance import (
    Freedom,
    binomial_test,
    mcnemar,
    mcnemar_loss,
    t_loss,
    t_test,
)
from lm_eval_flips.pairs.indicators import indicators
from lm_eval_flips.uncertainty.errors import Errors

MCNEMAR, PERMUTATION, STUDENT = "exact McNemar", "permutation", "t"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeTest:
    """A test of no change: two-sided, and one-sided of no loss; nan where nothing changed.

    ``method`` is "exact McNemar", "permutation" (of the signs of documents or clusters) or "t".
    ``n`` is the number of documents, or of clusters that were asked for. ``lost`` and ``won`` are
    what McNemar's counted of them, by their net change, else None; ``error`` and ``freedom`` are
    those of the change where another test was made. ``tasks_independent``: no document is in two
    tasks.
    """

    method: str
    two_sided: float
    loss: float
    n: int
    lost: int | None = None
    won: int | None = None
    error: float = nan
    freedom: Freedom = 0
    tasks_independent: bool = True

    def detectable(self, *, power: float = 0.8) -> float:
        """The change that this very test finds with a power; nan where it finds none.

        Of shares by McNemar's exact test, of others by Student's t from the error.
        """
        if self.lost is not None and self.won is not None:
            share = (self.lost + self.won) / self.n if self.n else nan
            return mcnemar_detectable(flips=share, n=self.n, power=power)
        return t_detectable(self.error, self.freedom, power=power)


def change_test(
    errors: Errors, flips: Flips | None, perplexity: PerplexityChange | None
) -> ChangeTest:
    """Test the change of a row's score.

    Exact McNemar where samples are right or wrong, a permutation test for other scores and for the
    clusters of a field, whose signs are assigned anew (two clusters cannot show more than p = 0.5),
    Student's t for perplexities and where tasks are the clusters. A document that stands in several
    samples is one pair: its net change.
    """
    tested = _tested(errors, flips, perplexity)
    return replace(tested, n=errors.documents, tasks_independent=errors.tasks_independent)


def _tested(errors: Errors, flips: Flips | None, perplexity: PerplexityChange | None) -> ChangeTest:
    if perplexity is not None:
        change, error = perplexity.loss_change, perplexity.standard_error
        return _by_t(-change, error, perplexity.freedom)
    if flips is not None and errors.by_document and errors.documents == errors.n:
        return _by_counts(flips.correct_to_incorrect, flips.incorrect_to_correct)
    gains = _gains(errors, flips)
    if errors.clustered_by_task:
        return _by_t(float(torch.cat(gains).mean()), *errors.of(gains))
    nets = torch.cat(errors.sums(gains))
    if flips is not None and errors.by_document:
        return _by_counts(int((nets < 0).sum()), int((nets > 0).sum()))
    error, freedom = errors.of(gains)
    # the signs of a single cluster say nothing of others
    signs = sign_flips(nets if errors.by_document or len(nets) > 1 else nets[:0])
    return ChangeTest(
        method=PERMUTATION,
        two_sided=signs.two_sided,
        loss=signs.one_sided,
        n=0,
        error=error,
        freedom=freedom,
    )


def _by_counts(lost: int, won: int) -> ChangeTest:
    return ChangeTest(
        method=MCNEMAR,
        two_sided=mcnemar(lost=lost, won=won),
        loss=mcnemar_loss(lost=lost, won=won),
        n=0,
        lost=lost,
        won=won,
    )


def _by_t(gain: float, error: float, freedom: Freedom) -> ChangeTest:
    return ChangeTest(
        method=STUDENT,
        two_sided=t_test(gain, error, freedom),
        loss=t_loss(gain, error, freedom),
        n=0,
        error=error,
        freedom=freedom,
    )


def _gains(errors: Errors, flips: Flips | None) -> list[Tensor]:
    """How much better each sample became: its correctness, or its score the right way up."""
    if flips is not None:
        return [
            m.compressed_correct.double() - m.baseline_correct.double()
            for m in errors.metrics
            if m.baseline_correct is not None and m.compressed_correct is not None
        ]
    return [
        (m.compressed_value - m.baseline_value).double() * (1 if m.higher_is_better else -1)
        for m in errors.metrics
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionTest:
    """Two-sided p of where flips go; nan without flips, or where chance is not known.

    ``no_preference``: losses are as likely as wins. ``random``: noise alone turned the answers.
    """

    no_preference: float
    random: float


def direction_test(errors: Errors, way: Direction, change: ChangeTest) -> DirectionTest:
    """Test where flips go, by the same clusters as the change of the score.

    That losses and wins are alike is what the test of the change asks. Losses are held against the
    share that noise would give: exactly where samples are independent within their tasks, else by
    a score test of as many independent flips as have this clustered error (Rao and Scott 1992,
    Biometrics 48), with Student's t.
    """
    flips, share = way.lost + way.won, way.random_loss_share
    if not flips or not 0 < share < 1:
        random = nan
    elif errors.by_document and errors.documents == errors.n:
        random = binomial_test(way.lost, flips, share)
    else:
        beyond = [
            of_task["correct_to_incorrect"].double() - share * of_task["flips"].double()
            for of_task in map(indicators, errors.metrics)
        ]
        error, freedom = errors.of(beyond)
        alone = sqrt(float(torch.cat(beyond).var()) / errors.n)
        wider = max(1.0, error / alone) if alone > 0 else nan
        by_chance = sqrt(share * (1 - share) / flips)
        random = t_test(way.loss_share - share, by_chance * wider, freedom)
    return DirectionTest(no_preference=change.two_sided if flips else nan, random=random)
