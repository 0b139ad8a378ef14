"""Every number of a row uses the row's errors: margins, direction, correlations; copies add none.

Oracles are statsmodels' regressions clustered by document, and a row without the copies.
"""

from __future__ import annotations

from math import atanh, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import softmax
from torch.utils._python_dispatch import TorchDispatchMode

from lm_eval_flips import Row
from lm_eval_flips.comparison.numbers import SPEC
from lm_eval_flips.comparison.row import measure
from lm_eval_flips.measures.auroc import auroc_influence
from lm_eval_flips.measures.correlation import spearman_influence
from lm_eval_flips.uncertainty.row_errors import RowErrors
from tests.generators import paired
from tests.generators.paired import Floats, Questions

COPIES = 8


def copied(asked: Questions, copies: int = COPIES) -> Row:
    """Each question logged so often, under its one document."""
    n = len(asked.gold)
    whole = Questions(
        np.tile(asked.baseline, (copies, 1)),
        np.tile(asked.compressed, (copies, 1)),
        np.tile(asked.gold, copies),
        np.tile(np.arange(n), copies),
    )
    return measure([whole.paired()], name="copied")


def top_margins(asked: Questions) -> Floats:
    """The baseline's, by numpy."""
    ordered = np.sort(softmax(asked.baseline, axis=1), axis=1)
    margins: Floats = ordered[:, -1] - ordered[:, -2]
    return margins


# Copies of a document are no evidence


def test_copies_of_documents_make_no_number_surer() -> None:
    """Logged eight times, no interval is narrower than the single row's, up to Student's t."""
    asked = paired.questions(41, 100)
    once, often = measure([asked.paired()], name="once"), copied(asked)
    assert set(once.intervals) == set(often.intervals)
    for key, interval in once.intervals.items():
        wide, same = paired.width(interval), paired.width(often.intervals[key])
        if key.endswith(("median", "p99")):  # an end may lie beyond the samples
            assert not same < 0.5 * wide, key
        else:
            assert same == pytest.approx(wide, rel=0.08), key


def test_copies_of_documents_make_no_preference_surer() -> None:
    """That losses are as likely as wins is asked of documents, as the score's change is."""
    asked = paired.questions(41, 100)
    once, often = measure([asked.paired()], name="once"), copied(asked)
    assert often.p_no_preference == pytest.approx(once.p_no_preference, rel=1e-12)
    assert often.p_no_preference == often.p_value
    way, copies = once.direction, often.direction
    assert way is not None
    assert copies is not None
    flips, share = way.lost + way.won, copies.random_loss_share  # by draws of its own
    score = (way.lost - share * flips) / sqrt(flips * share * (1 - share))
    assert often.p_random == pytest.approx(2 * stats.t.sf(abs(score), 99), rel=0.02)
    naive = measure(
        [
            Questions(
                np.tile(asked.baseline, (COPIES, 1)),
                np.tile(asked.compressed, (COPIES, 1)),
                np.tile(asked.gold, COPIES),
            ).paired()
        ],
        name="naive",
    )
    # control: as other documents the same answers are far surer
    assert naive.p_no_preference < once.p_no_preference / 5
    assert naive.p_random < often.p_random / 5
    for key in ("choice_kl_with_flipped", "choice_kl_detects_flips", "changed_of_correct"):
        assert paired.width(naive.intervals[key]) < 0.5 * paired.width(once.intervals[key]), key


# Margins


def test_margins_have_the_clustered_errors_of_statsmodels() -> None:
    """Rates have Wilson's interval of as many samples; mean margins Student's of a ratio."""
    documents = np.arange(120) // 4
    asked = paired.questions(7, documents=documents)
    row = measure([asked.paired()], name="questions")
    changed, margin = asked.indicators["answers_changed"], top_margins(asked)
    correct = asked.correct[0].astype(float)
    for name, among in (("correct", correct), ("incorrect", 1 - correct)):
        fit = paired.regression(changed * among, documents, x=among)
        expected = paired.effective_wilson(fit.params[0], int(among.sum()), fit.bse[0], 29)
        assert row.intervals[f"changed_of_{name}"] == expected, name
        fit = paired.regression(margin * among, documents, x=among)
        ends = tuple(fit.conf_int()[0])
        assert row.intervals[f"margin_of_{name}"] == pytest.approx(ends, rel=1e-7), name


def test_bins_have_the_clustered_errors_of_statsmodels() -> None:
    """Each bin's rate too; an empty one has none."""
    documents = np.arange(120) // 4
    asked = paired.questions(7, documents=documents)
    row = measure([asked.paired()], name="questions")
    assert row.margins is not None
    changed, margin = asked.indicators["answers_changed"], top_margins(asked)
    tested = 0
    for own in row.margins.bins:
        among = ((margin >= own.low) & (margin < own.high)).astype(float)
        if not 0 < (changed * among).sum() < among.sum():
            continue
        fit = paired.regression(changed * among, documents, x=among)
        expected = paired.effective_wilson(fit.params[0], int(among.sum()), fit.bse[0], 29)
        assert own.rate.interval == expected
        tested += 1
    assert tested > 3


# Direction


def test_direction_at_random_has_the_clustered_error_of_statsmodels() -> None:
    """Where documents repeat: chance's own error, as much wider as the clusters make it."""
    documents = np.arange(120) // 4
    asked = paired.questions(7, documents=documents)
    row = measure([asked.paired()], name="questions")
    assert row.direction is not None
    marks = asked.indicators
    beyond = marks["correct_to_incorrect"] - row.direction.random_loss_share * marks["flips"]
    fit = paired.regression(beyond, documents)
    wider = max(1.0, fit.bse[0] / (beyond.std(ddof=1) / sqrt(120)))
    share, flips = row.direction.random_loss_share, marks["flips"].sum()
    error = sqrt(share * (1 - share) / flips) * wider
    statistic = (row.direction.loss_share - share) / error
    assert row.p_random == pytest.approx(2 * stats.t.sf(abs(statistic), 29), rel=1e-7)
    alone = measure([Questions(asked.baseline, asked.compressed, asked.gold).paired()], name="q")
    lost, flips = int(marks["correct_to_incorrect"].sum()), int(marks["flips"].sum())
    law = stats.binom(flips, row.direction.random_loss_share)
    exact = min(1, 2 * min(law.cdf(lost), law.sf(lost - 1)))
    assert alone.p_random == pytest.approx(exact, rel=1e-9)
    assert row.p_random != pytest.approx(exact, rel=1e-2)


# Correlations


def test_correlations_are_wider_by_their_influences_error() -> None:
    """By statsmodels' clustered error of the mean influence over that of independent samples."""
    documents = np.arange(120) // 4
    asked = paired.questions(7, documents=documents)
    row = measure([asked.paired()], name="questions")
    alone = measure([Questions(asked.baseline, asked.compressed, asked.gold).paired()], name="q")
    kl, flipped = torch.from_numpy(asked.kl), torch.from_numpy(asked.indicators["flips"]) > 0
    ratio = stats.t.ppf(0.975, 29) / stats.norm.ppf(0.975)
    for key, influence in (
        ("choice_kl_with_flipped", spearman_influence(kl, flipped.double()).numpy()),
        ("choice_kl_detects_flips", auroc_influence(kl, flipped).numpy()),
    ):
        fit = paired.regression(influence, documents)
        wider = max(1.0, fit.bse[0] / (influence.std(ddof=1) / sqrt(120))) * ratio
        plain, found = alone.intervals[key], row.intervals[key]
        if key.endswith("flipped"):
            widths = [atanh(high) - atanh(low) for low, high in (plain, found)]
        else:
            widths = [high - low for low, high in (plain, found)]
        assert widths[1] / widths[0] == pytest.approx(wider, rel=1e-6), key
        assert wider > 1.02


# One source, built once


def test_records_hold_the_row_s_own_intervals() -> None:
    """A correlation's or a rate's interval is the row's under its key, not one of its own."""
    row = copied(paired.questions(41, 100))
    assert row.correlation is not None
    assert row.margins is not None
    assert row.correlation.flipped.interval == row.intervals["choice_kl_with_flipped"]
    assert row.correlation.detects_flips.interval == row.intervals["choice_kl_detects_flips"]
    assert row.margins.correct.interval == row.intervals["changed_of_correct"]


def test_every_number_of_choices_has_an_interval_or_says_why_not() -> None:
    """Under its own key; those without one are named with the reason in the list."""
    row = measure([paired.questions(2).paired()], name="questions")
    for key, number in row.numbers.items():
        if number.known:
            assert (key in row.intervals) == (not SPEC[key].no_interval), key


def test_errors_of_the_same_metrics_are_built_once() -> None:
    """And those of fewer metrics anew."""
    metrics = [paired.questions(i, 20).paired(f"task{i}") for i in range(3)]
    errors = RowErrors(metrics)
    assert errors.of(list(metrics)) is errors.whole
    assert errors.of(metrics[:2]) is not errors.whole
    assert errors.of(metrics[:2]) is errors.of(metrics[:2])


class Synchronisations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what a GPU would have to be waited for: numbers that are read, sizes found out."""

    WAITS = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Run it, and count it."""
        self.count += any(name in func.__name__ for name in self.WAITS)
        return func(*args, **(kwargs or {}))


def test_a_row_is_seldom_waited_for() -> None:
    """With all its intervals a row reads fewer numbers than it did for a third of them."""
    metrics = [paired.questions(50 + i, 40).paired(f"task{i}") for i in range(3)]
    with Synchronisations() as waits:
        measure(metrics, name="pooled")
    assert 0 < waits.count < 179
