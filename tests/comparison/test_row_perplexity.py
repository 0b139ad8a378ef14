"""Rows of perplexities: words, bytes and cloze samples, by statsmodels, scipy and identities."""

from __future__ import annotations

from math import exp, inf, isnan, log

import numpy as np
import pytest
from scipy import stats

from lm_eval_flips.comparison.row import measure
from lm_eval_flips.logs.records import Request
from tests.generators import paired
from tests.generators.paired import DEVICES, Texts


@pytest.mark.parametrize("device", DEVICES)
def test_word_perplexity_matches_statsmodels(device: str) -> None:
    """Scores are exp(loss per word); ratio, interval and p are those of a weighted regression."""
    texts = paired.texts(40)
    found = measure([texts.paired(device=device)], name="wikitext")
    before = exp(-texts.baseline.sum() / texts.words.sum())
    after = exp(-texts.compressed.sum() / texts.words.sum())
    assert found.baseline_score == pytest.approx(before, rel=1e-9)
    assert found.compressed_score == pytest.approx(after, rel=1e-9)
    fit = paired.regression(
        texts.baseline - texts.compressed, np.arange(40), 1 / texts.words, texts.words
    )
    low, high = fit.conf_int()[0]
    assert found.perplexity is not None
    assert found.perplexity.ratio == pytest.approx(after / before, rel=1e-9)
    assert found.intervals["perplexity_ratio"] == pytest.approx((exp(low), exp(high)), rel=1e-9)
    scaled = before * (exp(low) - 1), before * (exp(high) - 1)
    assert found.intervals["score_change"] == pytest.approx(scaled, rel=1e-8)
    assert found.p_value == pytest.approx(float(fit.pvalues[0]), rel=1e-8)
    bits = low / log(2), high / log(2)
    assert found.intervals["bits_change"] == pytest.approx(bits, rel=1e-9)
    assert set(found.intervals) == {"score_change", "perplexity_ratio", "bits_change"}
    assert (found.flips, found.distances, found.margins) == (None, None, None)
    assert found.error_method == "independent samples"


def test_bits_per_byte_are_log2_of_the_perplexity_of_bytes() -> None:
    """Scores are bits; the change's interval is in bits too, and holds the change."""
    texts = paired.texts(41)
    found = measure([texts.paired(metric="bits_per_byte")], name="wikitext")
    bits = -np.array([texts.baseline.sum(), texts.compressed.sum()]) / (5 * texts.words.sum())
    bits /= log(2)
    assert [found.baseline_score, found.compressed_score] == pytest.approx(bits, rel=1e-9)
    words = measure([texts.paired()], name="wikitext")
    assert found.p_value == pytest.approx(words.p_value, rel=1e-9)
    assert found.perplexity is not None
    low, high = found.intervals["score_change"]
    assert low < found.score_change < high
    assert found.perplexity.bits_interval() == (low, high)


def test_cloze_perplexity_counts_samples() -> None:
    """A cloze task's perplexity is exp(-mean log-likelihood); its acc is flips without choices."""
    generator = np.random.default_rng(42)
    before = -generator.exponential(2.0, 50)
    after = before - 0.1 + 0.2 * generator.normal(size=50)
    sides = [
        [
            paired.record(
                i,
                requests=[Request(arg_0=f"The word {i} is", arg_1=" tree")],
                responses=[[float(value), bool(value > -1)]],
                metrics={"perplexity": float(value), "acc": float(value > -1)},
                target=" tree",
            )
            for i, value in enumerate(side)
        ]
        for side in (before, after)
    ]
    metrics = paired.task_metrics("lambada", "loglikelihood", sides)
    found = measure([metrics["perplexity"]], name="lambada")
    assert found.baseline_score == pytest.approx(exp(-before.mean()), rel=1e-9)
    assert found.compressed_score == pytest.approx(exp(-after.mean()), rel=1e-9)
    assert found.p_value == pytest.approx(stats.ttest_rel(before, after).pvalue, rel=1e-9)
    answers = measure([metrics["acc"]], name="lambada")
    assert answers.flips is not None
    assert answers.flips.correct_to_incorrect == ((before > -1) & (after <= -1)).sum()
    assert answers.flips.wrong_to_wrong is None
    assert answers.distances is None


def test_identical_texts_have_ratio_one_and_no_p_value() -> None:
    """A run compared with itself has a ratio of exactly 1 and nothing to test."""
    texts = paired.texts(43)
    same = Texts(texts.baseline, texts.baseline.copy(), texts.words)
    found = measure([same.paired()], name="wikitext")
    assert found.perplexity is not None
    assert (found.perplexity.ratio, found.score_change) == (1.0, 0.0)
    assert isnan(found.p_value)
    moved = same.compressed.copy()
    moved[3] -= 1
    control = measure([Texts(same.baseline, moved, same.words).paired()], name="wikitext")
    assert control.score_change > 0
    assert 0 < control.p_value <= 1


def test_swapping_texts_inverts_the_ratio() -> None:
    """Exchanging the runs inverts the ratio and its interval and keeps the p-value."""
    texts = paired.texts(44)
    there = measure([texts.paired()], name="wikitext")
    back = measure([Texts(texts.compressed, texts.baseline, texts.words).paired()], name="wikitext")
    low, high = there.intervals["perplexity_ratio"]
    assert back.intervals["perplexity_ratio"] == pytest.approx((1 / high, 1 / low), rel=1e-9)
    assert back.p_value == pytest.approx(there.p_value, rel=1e-8)
    assert back.score_change == pytest.approx(-there.score_change, rel=1e-9)


def test_texts_without_a_word_have_no_score() -> None:
    """Without a single word the perplexity is undefined: nan, not infinite."""
    nothing = Texts(np.array([-1.0, -2.0]), np.array([-1.5, -2.0]), np.zeros(2))
    found = measure([nothing.paired()], name="wikitext")
    assert isnan(found.baseline_score)
    assert isnan(found.compressed_score)
    assert isnan(found.p_value)


def test_broken_model_does_not_crash_the_row() -> None:
    """A compressed model 800 nats a word worse has an infinite perplexity and ratio."""
    texts = paired.texts(45, 5)
    broken = Texts(texts.baseline, texts.baseline - 800 * texts.words, texts.words)
    found = measure([broken.paired()], name="wikitext")
    assert found.compressed_score == inf
    assert found.perplexity is not None
    assert found.perplexity.ratio == inf


def test_row_of_unlike_perplexities_is_no_perplexity() -> None:
    """Measured together all the same, words and bytes have no perplexity, no ratio, in any order."""
    words, bytes_ = paired.texts(70).paired("a"), paired.texts(71).paired("b", "bits_per_byte")
    there, back = measure([words, bytes_], name="pile"), measure([bytes_, words], name="pile")
    for row in (there, back):
        assert (row.metric, row.perplexity) == ("mixed", None)
        assert set(row.intervals) == {"score_change"}
    assert there.score_change == pytest.approx(back.score_change, rel=1e-9)
    alike = measure([words, paired.texts(71).paired("b")], name="pile")
    assert alike.perplexity is not None
    assert (alike.metric, set(alike.intervals)) == (
        "word_perplexity",
        {"score_change", "perplexity_ratio", "bits_change"},
    )
