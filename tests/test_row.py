"""Rows: one task, groups and pools, built from records through the real pairing.

Every expected number is computed from the raw scores by numpy, scipy, statsmodels or scikit-learn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, isnan, log, nan, sqrt
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import statsmodels.api as sm
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from lm_eval_flips.columns import Columns
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.measures.significance import Interval, paired_share_interval
from lm_eval_flips.paired_metric import PairedMetric, paired_metrics
from lm_eval_flips.pairing import pair
from lm_eval_flips.records import Record, Request
from lm_eval_flips.result import Row
from lm_eval_flips.row import measure
from lm_eval_flips.runs import TaskLog

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNDEFINED = pytest.approx((nan, nan), nan_ok=True)
CHOICES = ("elm", "maple", "oak", "hornbeam", "ash")
DEVICES = (
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache
def _kind(metrics: tuple[str, ...]) -> Any:
    return msgspec.defstruct("Logged", metrics, bases=(Record,), kw_only=True)


def _record(
    doc_id: int,
    *,
    requests: Sequence[Request],
    responses: list[Any],
    metrics: Mapping[str, Any],
    target: str,
    document: int | None = None,
    filter: str = "none",  # noqa: A002  (the harness's word)
) -> Any:
    """One line of a samples file, as the reader decodes it."""
    return _kind(tuple(metrics))(
        doc_id=doc_id,
        filter=filter,
        metrics=list(metrics),
        doc_hash=_hash(f"document {doc_id if document is None else document}"),
        prompt_hash=_hash(f"prompt {doc_id}"),
        target_hash=_hash(target),
        target=target,
        arguments={f"gen_args_{i}": request for i, request in enumerate(requests)},
        filtered_resps=responses,
        **metrics,
    )


def _paired(
    name: str,
    output_type: str,
    sides: Sequence[Iterable[Any]],
    *,
    filter: str = "none",  # noqa: A002
    lower_is_better: frozenset[str] = frozenset(),
    device: str = "cpu",
) -> dict[str, PairedMetric]:
    """Both runs' records of one task, read into columns and paired: its metrics by name."""
    task = TaskLog(
        name=name,
        path=Path(f"samples_{name}_2026-01-01T00-00-00.jsonl"),
        output_type=output_type,
        standard_scoring=True,
        delimiter=" ",
        fewshot_delimiter="\n\n",
        num_fewshot=0,
        expected=None,
        lower_is_better=lower_is_better,
        aggregations={},
    )
    samples = []
    for records in sides:
        columns = Columns(task, filter)
        for record in records:
            columns.add(record)
        samples.append(columns.samples())
    metrics = paired_metrics(pair(samples[0], samples[1], device=device))
    return {metric.metric: metric for metric in metrics}


@dataclass(frozen=True)
class Questions:
    """Log-likelihoods ``[n, choices]`` of both runs, -inf beyond a question's own choices."""

    baseline: Floats
    compressed: Floats
    gold: Ints
    documents: Ints | None = None

    def swapped(self) -> Questions:
        return Questions(self.compressed, self.baseline, self.gold, self.documents)

    def part(self, rows: slice) -> Questions:
        return Questions(self.baseline[rows], self.compressed[rows], self.gold[rows])

    def paired(
        self,
        name: str = "questions",
        metric: str = "acc",
        *,
        filter: str = "none",  # noqa: A002
        device: str = "cpu",
    ) -> PairedMetric:
        sides = (
            [self._record(i, scores, filter) for i, scores in enumerate(side)]
            for side in (self.baseline, self.compressed)
        )
        return _paired(name, "multiple_choice", list(sides), filter=filter, device=device)[metric]

    def _record(self, i: int, scores: Floats, label: str) -> Any:
        own = [float(score) for score in scores[: self._count(i)]]
        lengths = [len(choice) for choice in CHOICES[: len(own)]]
        return _record(
            i,
            requests=[Request(arg_0=f"Q{i}?", arg_1=f" {text}") for text in CHOICES[: len(own)]],
            responses=[[score, False] for score in own],
            metrics={
                "acc": float(np.argmax(own) == self.gold[i]),
                "acc_norm": float(np.argmax(np.divide(own, lengths)) == self.gold[i]),
            },
            target=str(self.gold[i]),
            document=None if self.documents is None else int(self.documents[i]),
            filter=label,
        )

    def _count(self, i: int) -> int:
        """A question's own choices end with the last that either run finds possible."""
        possible = np.isfinite(self.baseline[i]) | np.isfinite(self.compressed[i])
        return int(possible.nonzero()[0][-1]) + 1

    @property
    def correct(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        answers = self.baseline.argmax(-1), self.compressed.argmax(-1)
        return answers[0] == self.gold, answers[1] == self.gold

    @property
    def change(self) -> Floats:
        before, after = self.correct
        return after.astype(np.float64) - before

    @property
    def kl(self) -> Floats:
        return np.array(
            [
                stats.entropy(softmax(p), softmax(q))
                for p, q in zip(self.baseline, self.compressed, strict=True)
            ]
        )

    @property
    def indicators(self) -> dict[str, Floats]:
        """What is counted, by the name of its interval: 1 for a sample that counts."""
        before, after = self.correct
        changed = self.baseline.argmax(-1) != self.compressed.argmax(-1)
        found = {
            "correct_to_incorrect": before & ~after,
            "incorrect_to_correct": ~before & after,
            "flips": before ^ after,
            "answers_changed": changed,
            "all_flips": (before ^ after) | (~before & ~after & changed),
        }
        return {name: values.astype(np.float64) for name, values in found.items()}


def _questions(
    seed: int, n: int = 120, *, noise: float = 1.5, documents: Ints | None = None
) -> Questions:
    """Random questions with two to five choices, of which the baseline gets about half right."""
    generator = torch.Generator().manual_seed(seed)
    baseline = 2 * torch.randn(n, 5, generator=generator, dtype=torch.float64) - 20
    change = noise * torch.randn(n, 5, generator=generator, dtype=torch.float64)
    if documents is not None:  # samples of one document change alike
        change = change[documents] + 0.1 * change
        baseline = baseline[documents] + 0.1 * baseline
    choices = torch.randint(2, 6, (n,), generator=generator)
    beyond = torch.arange(5) >= choices[:, None]
    guess = torch.randint(1000, (n,), generator=generator) % choices
    best = baseline.masked_fill(beyond, -inf).argmax(-1)
    if documents is not None:
        guess = guess[documents] % choices
    gold = torch.where(guess % 2 == 0, best, guess)
    return Questions(
        baseline.masked_fill(beyond, -inf).numpy(),
        (baseline + change).masked_fill(beyond, -inf).numpy(),
        gold.numpy(),
        None if documents is None else np.asarray(documents),
    )


def _generated(
    name: str,
    baseline: Sequence[tuple[str, float]],
    compressed: Sequence[tuple[str, float]],
    *,
    metric: str = "exact_match",
    lower_is_better: bool = False,
) -> PairedMetric:
    """A task of generated text: each sample's answer and its logged score."""
    sides = [
        [
            _record(
                i,
                requests=[Request(arg_0=f"Q{i}?", arg_1={"until": ["\n"]})],
                responses=[text],
                metrics={metric: score},
                target="42",
            )
            for i, (text, score) in enumerate(side)
        ]
        for side in (baseline, compressed)
    ]
    lower = frozenset({metric}) if lower_is_better else frozenset[str]()
    return _paired(name, "generate_until", sides, lower_is_better=lower)[metric]


@dataclass(frozen=True)
class Texts:
    """Log-likelihoods of texts under both models, and their words; five bytes a word."""

    baseline: Floats
    compressed: Floats
    words: Floats

    def paired(
        self, name: str = "texts", metric: str = "word_perplexity", *, device: str = "cpu"
    ) -> PairedMetric:
        sides = [
            [
                _record(
                    i,
                    requests=[Request(arg_0=f"{name} {i}")],
                    responses=[float(value)],
                    metrics={
                        "word_perplexity": [float(value), float(self.words[i])],
                        "bits_per_byte": [float(value), 5 * float(self.words[i])],
                    },
                    target="",
                )
                for i, value in enumerate(side)
            ]
            for side in (self.baseline, self.compressed)
        ]
        return _paired(name, "loglikelihood_rolling", sides, device=device)[metric]


def _texts(seed: int, n: int = 40, *, worse: float = 0.05) -> Texts:
    generator = np.random.default_rng(seed)
    words = generator.integers(20, 400, n).astype(np.float64)
    loss = 3 + 0.3 * generator.normal(size=n)
    change = worse + 0.05 * generator.normal(size=n)
    return Texts(-loss * words, -(loss + change) * words, words)


def _regression(
    values: Floats, clusters: Ints, weights: Floats | None = None, x: Floats | None = None
) -> Any:
    """Mean (or ratio, given x) and cluster-robust errors on the t distribution, by statsmodels."""
    x = np.ones(len(values)) if x is None else x
    weights = np.ones(len(values)) if weights is None else weights
    return sm.WLS(values, x, weights=weights).fit(
        cov_type="cluster",
        cov_kwds={"groups": clusters, "use_correction": True, "df_correction": True},
        use_t=True,
    )


def _stratified(values: Sequence[Floats]) -> tuple[float, int]:
    """Error of the pooled mean of several strata, and its degrees of freedom, by the textbook."""
    total = sum(len(v) for v in values)
    variance = sum((len(v) / total) ** 2 * v.var(ddof=1) / len(v) for v in values)
    return sqrt(variance), sum(len(v) - 1 for v in values)


def _t_interval(mean: float, error: float, freedom: int) -> tuple[float, float]:
    low, high = stats.t(freedom, mean, error).interval(0.95)
    return float(low), float(high)


def _effective_wilson(share: float, n: int, error: float, freedom: int) -> Any:
    """Wilson's interval of as many independent samples as have this error (statsmodels).

    At the level at which the normal quantile is Student's t of the degrees of freedom.
    """
    effective = min(n, share * (1 - share) / error**2)
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, freedom))
    found = proportion_confint(share * effective, effective, alpha=alpha, method="wilson")
    return pytest.approx(found, rel=1e-8)


def _assert_equal(found: Row, expected: Row, *, names: Iterable[str]) -> None:
    for name in names:
        assert getattr(found, name) == getattr(expected, name), name


# One task


def test_task_counted_by_hand() -> None:
    """Six questions: 4 then 3 right, 2 lost, 1 won, 1 from wrong to wrong; every share by hand."""
    p = {
        "sure of 0": [0.7, 0.2, 0.1],
        "sure of 1": [0.2, 0.7, 0.1],
        "sure of 2": [0.1, 0.2, 0.7],
        "torn to 0": [0.5, 0.4, 0.1],
        "torn to 1": [0.4, 0.5, 0.1],
    }
    answers = (
        ("sure of 0", "sure of 0"),
        ("sure of 0", "torn to 0"),
        ("torn to 0", "torn to 1"),  # lost
        ("torn to 0", "sure of 2"),  # lost
        ("torn to 1", "torn to 0"),  # won
        ("torn to 1", "sure of 2"),  # wrong to wrong
    )
    found = measure(
        [
            Questions(
                np.log([p[before] for before, _ in answers]),
                np.log([p[after] for _, after in answers]),
                np.zeros(6, np.int64),
            ).paired()
        ],
        name="trees",
    )
    assert (found.name, found.filter, found.metric, found.n) == ("trees", "none", "acc", 6)
    assert (found.baseline_score, found.compressed_score) == pytest.approx((4 / 6, 3 / 6))
    assert found.score_change == pytest.approx(-1 / 6)
    flips = found.flips
    assert flips is not None
    assert (flips.correct_to_incorrect, flips.incorrect_to_correct) == (2, 1)
    assert (flips.wrong_to_wrong, flips.answers_changed, flips.baseline_correct) == (1, 4, 4)
    assert (flips.flips, flips.all_flips) == pytest.approx((3 / 6, 4 / 6))
    assert found.p_value == 1.0
    margins = found.margins
    assert margins is not None
    assert margins.mean_correct == pytest.approx((0.5 + 0.5 + 0.1 + 0.1) / 4)
    assert margins.mean_incorrect == pytest.approx(0.1)
    assert (margins.correct.share, margins.incorrect.share) == (0.5, 1.0)
    assert found.distances is not None
    torn = 0.1 * log(5 / 4)  # KL of (.5, .4, .1) from (.4, .5, .1)
    assert found.distances.n == 6
    assert found.distances.choice_kl.max > torn
    assert found.error_method == "independent samples"
    assert found.perplexity is None


@pytest.mark.parametrize("device", DEVICES)
def test_task_matches_scipy_statsmodels_and_sklearn(device: str) -> None:
    """Every number of a task of 120 questions equals an independent library's."""
    asked = _questions(1)
    before, after = asked.correct
    found = measure([asked.paired(device=device)], name="questions")
    flipped, changed = asked.indicators["flips"], asked.indicators["answers_changed"]
    assert found.flips is not None
    assert found.distances is not None
    assert found.correlation is not None
    assert found.score_change == pytest.approx(after.mean() - before.mean(), rel=1e-12)
    assert found.distances.choice_kl.mean == pytest.approx(asked.kl.mean(), rel=1e-9)
    assert found.distances.choice_kl.p99 == pytest.approx(np.quantile(asked.kl, 0.99), rel=1e-9)
    assert found.distances.choice_kl_reverse.mean == pytest.approx(asked.swapped().kl.mean())
    shannon = [
        jensenshannon(softmax(p), softmax(q)) ** 2
        for p, q in zip(asked.baseline, asked.compressed, strict=True)
    ]
    assert found.distances.jensen_shannon.median == pytest.approx(np.median(shannon), rel=1e-9)
    assert found.correlation.changed.statistic == pytest.approx(
        stats.spearmanr(asked.kl, changed).statistic, rel=1e-9
    )
    assert found.correlation.flipped.statistic == pytest.approx(
        stats.spearmanr(asked.kl, flipped).statistic, rel=1e-9
    )
    assert found.correlation.detects_flips.statistic == pytest.approx(
        roc_auc_score(flipped, asked.kl), rel=1e-9
    )
    table = [
        [(before & after).sum(), (before & ~after).sum()],
        [(~before & after).sum(), (~before & ~after).sum()],
    ]
    assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)


@pytest.mark.parametrize("device", DEVICES)
def test_intervals_of_independent_samples_match_scipy_and_statsmodels(device: str) -> None:
    """Means have scipy's t intervals, shares statsmodels' Wilson, quantiles scipy's."""
    asked = _questions(2)
    found = measure([asked.paired(device=device)], name="questions")
    intervals = dict(found.intervals)
    for name, values in asked.indicators.items():
        expected = proportion_confint(values.sum(), 120, method="wilson")
        assert intervals.pop(name) == pytest.approx(expected, rel=1e-9), name
    ci = stats.ttest_1samp(asked.kl, 0).confidence_interval(0.95)
    assert intervals.pop("choice_kl") == pytest.approx((ci.low, ci.high), rel=1e-9)
    lost, won = int((asked.change < 0).sum()), int((asked.change > 0).sum())
    expected = paired_share_interval(lost=lost, won=won, n=120)
    assert intervals.pop("score_change") == pytest.approx(tuple(expected), rel=1e-12)
    for name, share in (("choice_kl_median", 0.5), ("choice_kl_p99", 0.99)):
        ends: Any = stats.quantile_test(asked.kl, p=share).confidence_interval(0.95)
        expected = (ends.low, ends.high)
        assert intervals.pop(name) == pytest.approx(expected, rel=1e-9, nan_ok=True), name
    assert not intervals


def test_oracle_checks_can_fail() -> None:
    """Control for the tests above: one answer changed for another moves the oracles away."""
    asked = _questions(2)
    place = int((asked.indicators["flips"] == 0).argmax())
    worse = asked.compressed.copy()
    worse[place] = asked.baseline[place]
    worse[place, asked.gold[place]] += 50 if not asked.correct[0][place] else -50
    spoilt = Questions(asked.baseline, worse, asked.gold)
    found = measure([spoilt.paired()], name="questions")
    expected = proportion_confint(asked.indicators["flips"].sum(), 120, method="wilson")
    assert found.intervals["flips"] != pytest.approx(expected, rel=1e-3)
    assert found.distances is not None
    assert found.distances.choice_kl.mean != pytest.approx(asked.kl.mean(), rel=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_swapping_runs_swaps_the_directions(device: str) -> None:
    """Exchanging the runs negates the change, swaps lost with won and KL with reverse KL."""
    asked = _questions(3)
    there = measure([asked.paired(device=device)], name="questions")
    back = measure([asked.swapped().paired(device=device)], name="questions")
    assert back.score_change == -there.score_change
    assert there.flips is not None
    assert back.flips is not None
    assert there.flips.correct_to_incorrect == back.flips.incorrect_to_correct
    assert there.distances is not None
    assert back.distances is not None
    assert there.distances.choice_kl == back.distances.choice_kl_reverse
    assert there.distances.total_variation == back.distances.total_variation
    assert there.p_value == pytest.approx(back.p_value, rel=1e-12)
    low, high = there.intervals["score_change"]
    assert back.intervals["score_change"] == pytest.approx((-high, -low), rel=1e-9)
    for left, right in (
        ("correct_to_incorrect", "incorrect_to_correct"),
        ("flips", "flips"),
        ("all_flips", "all_flips"),
        ("answers_changed", "answers_changed"),
    ):
        assert there.intervals[left] == back.intervals[right]


@pytest.mark.parametrize("device", DEVICES)
def test_identical_runs_flip_nothing(device: str) -> None:
    """A run compared with itself has no flip, a KL of exactly 0, and nothing to test."""
    asked = _questions(4)
    same = Questions(asked.baseline, asked.baseline.copy(), asked.gold)
    found = measure([same.paired(device=device)], name="questions")
    assert found.flips is not None
    assert found.distances is not None
    assert found.correlation is not None
    assert (found.flips.flips, found.flips.all_flips, found.score_change) == (0.0, 0.0, 0.0)
    kl = found.distances.choice_kl
    assert (kl.mean, kl.median, kl.p99, kl.max) == (0.0, 0.0, 0.0, 0.0)
    assert isnan(found.p_value)
    assert isnan(found.correlation.flipped.statistic)
    assert isnan(found.correlation.detects_flips.statistic)
    assert found.intervals["flips"] == pytest.approx(
        proportion_confint(0, 120, method="wilson"), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("device", DEVICES)
def test_identical_runs_check_can_fail(device: str) -> None:
    """Control for the test above: one answer lost out of 120 must be seen everywhere."""
    asked = _questions(4)
    compressed = asked.baseline.copy()
    place = int(asked.correct[0].argmax())
    compressed[place, asked.gold[place]] -= 50
    found = measure(
        [Questions(asked.baseline, compressed, asked.gold).paired(device=device)], name="questions"
    )
    assert found.flips is not None
    assert found.distances is not None
    assert found.correlation is not None
    assert found.flips.correct_to_incorrect == 1
    assert found.score_change == pytest.approx(-1 / 120)
    assert found.distances.choice_kl.max > 1
    assert found.correlation.detects_flips.statistic == 1.0
    assert found.p_value == 1.0


def test_normalised_metric_compares_normalised_loglikelihoods() -> None:
    """acc_norm's answers and KL are those of the log-likelihoods per character."""
    asked = _questions(5)
    lengths = np.array([len(choice) for choice in CHOICES])
    scaled = Questions(asked.baseline / lengths, asked.compressed / lengths, asked.gold)
    found = measure([asked.paired(metric="acc_norm")], name="questions")
    assert found.distances is not None
    assert found.flips is not None
    assert found.metric == "acc_norm"
    assert found.distances.choice_kl.mean == pytest.approx(scaled.kl.mean(), rel=1e-9)
    assert found.flips.answers_changed == scaled.indicators["answers_changed"].sum()
    raw = measure([asked.paired()], name="questions")
    assert raw.distances is not None
    assert raw.distances.choice_kl.mean != pytest.approx(scaled.kl.mean(), rel=0.1)


def test_choice_ruled_out_by_the_compressed_run_makes_the_mean_kl_infinite() -> None:
    """One infinite KL is shown as such: mean and max inf without an interval, median finite."""
    asked = _questions(6)
    compressed = asked.compressed.copy()
    compressed[0, int(asked.baseline[0].argmax())] = -inf
    found = measure([Questions(asked.baseline, compressed, asked.gold).paired()], name="questions")
    assert found.distances is not None
    assert (found.distances.choice_kl.mean, found.distances.choice_kl.max) == (inf, inf)
    assert 0 < found.distances.choice_kl.median < inf
    assert found.intervals["choice_kl"] == UNDEFINED
    assert found.intervals["choice_kl_median"].high < inf


def test_one_sample_has_shares_but_no_error() -> None:
    """A single lost answer: share 1 with Wilson's interval; a mean of one has none."""
    lost = Questions(np.log([[0.6, 0.4]]), np.log([[0.4, 0.6]]), np.array([0]))
    found = measure([lost.paired()], name="one")
    assert found.n == 1
    assert found.flips is not None
    assert found.flips.flips == 1.0
    assert found.p_value == 1.0
    assert found.intervals["choice_kl"] == UNDEFINED
    assert found.intervals["choice_kl_median"] == UNDEFINED
    low, high = found.intervals["score_change"]  # of a share, as wide as one answer leaves it
    assert low == -1.0
    assert high > 0.5
    assert found.intervals["flips"] == pytest.approx(
        proportion_confint(1, 1, method="wilson"), rel=1e-9
    )
    assert found.correlation is not None
    assert isnan(found.correlation.flipped.statistic)
    assert found.margins is not None
    assert isnan(found.margins.mean_incorrect)


# Samples that share a document


@pytest.mark.parametrize("device", DEVICES)
def test_samples_of_one_document_are_one_cluster(device: str) -> None:
    """Where documents repeat, errors equal statsmodels' clustered by document."""
    documents = np.arange(120) // 4
    asked = _questions(7, documents=documents)
    found = measure([asked.paired(device=device)], name="questions")
    assert found.error_method == "clustered by document (30 of 120 samples)"
    for name, values in (("score_change", asked.change), ("choice_kl", asked.kl)):
        fit = _regression(values, documents)
        assert found.intervals[name] == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-8), name
    for name, values in asked.indicators.items():
        fit = _regression(values, documents)
        expected = _effective_wilson(values.mean(), 120, fit.bse[0], 29)
        assert found.intervals[name] == expected, name


def test_samples_of_one_document_widen_the_intervals() -> None:
    """Control for the test above: the same answers to different documents look more certain."""
    documents = np.arange(120) // 4
    asked = _questions(7, documents=documents)
    clustered = measure([asked.paired()], name="questions").intervals
    alone = Questions(asked.baseline, asked.compressed, asked.gold)
    independent = measure([alone.paired()], name="questions").intervals
    for name in ("score_change", "choice_kl", "flips", "answers_changed"):
        assert _width(clustered[name]) > 1.2 * _width(independent[name]), name


def _thrice(asked: Questions) -> Questions:
    """Each question logged three times, under one document."""
    return Questions(
        np.tile(asked.baseline, (3, 1)),
        np.tile(asked.compressed, (3, 1)),
        np.tile(asked.gold, 3),
        np.tile(np.arange(len(asked.gold)), 3),
    )


def test_repeating_every_document_adds_no_evidence() -> None:
    """Each question logged three times under its one document keeps the change's interval."""
    asked = _questions(8, 60)
    once = measure([asked.paired()], name="questions")
    found = measure([_thrice(asked).paired()], name="questions")
    assert found.error_method == "clustered by document (60 of 180 samples)"
    assert found.intervals["choice_kl"] == pytest.approx(
        tuple(once.intervals["choice_kl"]), rel=1e-9
    )
    ci = stats.ttest_1samp(asked.change, 0).confidence_interval(0.95)
    assert found.intervals["score_change"] == pytest.approx((ci.low, ci.high), rel=1e-9)


def test_repeating_every_document_leaves_the_p_value() -> None:
    """Three copies of every answer are no more significant than one."""
    asked = _questions(8, 60)
    once = measure([asked.paired()], name="questions")
    found = measure([_thrice(asked).paired()], name="questions")
    assert once.p_value < 0.05
    assert found.p_value > once.p_value / 10


def test_repeating_every_document_leaves_the_interval_of_the_median() -> None:
    """Three copies of every answer bound the median no better than one."""
    asked = _questions(8, 60)
    once = measure([asked.paired()], name="questions").intervals["choice_kl_median"]
    found = measure([_thrice(asked).paired()], name="questions").intervals["choice_kl_median"]
    # nan, no interval at all, would do as well
    assert not _width(found) < 0.8 * _width(once)


def test_a_single_document_has_no_error() -> None:
    """Ten samples of one document say nothing about other documents: every interval is nan."""
    asked = _questions(9, 10, documents=np.zeros(10, np.int64))
    found = measure([asked.paired()], name="questions")
    assert found.error_method == "clustered by document (1 of 10 samples)"
    for name in ("score_change", "choice_kl", "flips", "answers_changed"):
        assert found.intervals[name] == UNDEFINED, name


# Groups and pools


def _tasks(count: int, *, first_seed: int = 20) -> list[Questions]:
    """Tasks of 20, 25, 30, ... questions, each noisier than the one before."""
    return [_questions(first_seed + i, 20 + 5 * i, noise=0.5 + 2 * i / count) for i in range(count)]


def _pooled(tasks: Sequence[Questions], *, device: str = "cpu") -> Row:
    paired = [asked.paired(f"task{i}", device=device) for i, asked in enumerate(tasks)]
    return measure(paired, name="pooled")


@pytest.mark.parametrize("device", DEVICES)
def test_few_tasks_are_strata(device: str) -> None:
    """Over fewer than ten tasks the errors within each are added up."""
    tasks = _tasks(3)
    found = _pooled(tasks, device=device)
    assert found.error_method == "stratified by task (3)"
    n = sum(len(asked.gold) for asked in tasks)
    for name, parts in (
        ("score_change", [asked.change for asked in tasks]),
        ("choice_kl", [asked.kl for asked in tasks]),
    ):
        expected = _t_interval(float(np.concatenate(parts).mean()), *_stratified(parts))
        assert found.intervals[name] == pytest.approx(expected, rel=1e-8), name
    for name in tasks[0].indicators:
        parts = [asked.indicators[name] for asked in tasks]
        share = float(np.concatenate(parts).mean())
        expected = _effective_wilson(share, n, *_stratified(parts))
        assert found.intervals[name] == expected, name


@pytest.mark.parametrize("device", DEVICES)
def test_many_tasks_are_clusters(device: str) -> None:
    """Over ten or more tasks errors equal statsmodels' clustered by task."""
    tasks = _tasks(10)
    found = _pooled(tasks, device=device)
    assert found.error_method == "clustered by task (10)"
    place = np.repeat(np.arange(10), [len(asked.gold) for asked in tasks])
    for name, parts in (
        ("score_change", [asked.change for asked in tasks]),
        ("choice_kl", [asked.kl for asked in tasks]),
    ):
        fit = _regression(np.concatenate(parts), place)
        assert found.intervals[name] == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-8), name
    for name in tasks[0].indicators:
        values = np.concatenate([asked.indicators[name] for asked in tasks])
        fit = _regression(values, place)
        expected = _effective_wilson(values.mean(), len(values), fit.bse[0], 9)
        assert found.intervals[name] == expected, name


def test_clusters_of_tasks_check_can_fail() -> None:
    """Control for the two tests above: ten tasks as strata, or nine as clusters, do not agree."""
    tasks = _tasks(10)
    kl = [asked.kl for asked in tasks]
    strata = _t_interval(float(np.concatenate(kl).mean()), *_stratified(kl))
    assert _pooled(tasks).intervals["choice_kl"] != pytest.approx(strata, rel=0.05)
    nine = _pooled(tasks[:9])
    assert nine.error_method == "stratified by task (9)"
    place = np.repeat(np.arange(9), [len(asked.gold) for asked in tasks[:9]])
    fit = _regression(np.concatenate(kl[:9]), place)
    assert nine.intervals["choice_kl"] != pytest.approx(tuple(fit.conf_int()[0]), rel=0.05)


def test_strata_keep_their_documents_together() -> None:
    """Within the tasks of a stratified pool, samples of one document still are one cluster."""
    documents = np.arange(60) // 3
    tasks = [_questions(seed, 60, documents=documents) for seed in (30, 31)]
    found = _pooled(tasks)
    errors = [_regression(asked.change, documents).bse[0] / 2 for asked in tasks]
    change = np.concatenate([asked.change for asked in tasks]).mean()
    expected = _t_interval(float(change), sqrt(sum(error**2 for error in errors)), 2 * 19)
    assert found.intervals["score_change"] == pytest.approx(expected, rel=1e-8)


def test_pooled_counts_add_up() -> None:
    """Counts and bins of a pool are the sums over its tasks, scores the mean over all samples."""
    tasks = _tasks(4)
    rows = [measure([asked.paired()], name="task") for asked in tasks]
    found = _pooled(tasks)
    assert found.n == sum(row.n for row in rows)
    assert found.baseline_score == pytest.approx(
        sum(row.baseline_score * row.n for row in rows) / found.n, rel=1e-12
    )
    flips = [row.flips for row in rows if row.flips is not None]
    assert found.flips is not None
    for name in ("n", "correct_to_incorrect", "incorrect_to_correct", "wrong_to_wrong"):
        assert getattr(found.flips, name) == sum(getattr(part, name) for part in flips)
    distances = [row.distances for row in rows if row.distances is not None]
    assert found.distances is not None
    assert found.distances.n == found.n
    assert found.distances.choice_kl.max == max(part.choice_kl.max for part in distances)
    margins = [row.margins for row in rows if row.margins is not None]
    assert found.margins is not None
    for i, margin_bin in enumerate(found.margins.bins):
        assert margin_bin.rate.n == sum(part.bins[i].rate.n for part in margins)
        assert margin_bin.rate.changed == sum(part.bins[i].rate.changed for part in margins)


def test_splitting_a_task_changes_its_error_alone() -> None:
    """One task, or the same samples as two tasks pooled: the same counts, scores and distances."""
    asked = _questions(10)
    whole = measure([asked.paired()], name="pooled")
    parts = _pooled([asked.part(slice(None, 50)), asked.part(slice(50, None))])
    _assert_equal(
        parts, whole, names=("n", "metric", "filter", "baseline_score", "compressed_score", "flips")
    )
    assert parts.p_value == whole.p_value
    assert parts.correlation == whole.correlation
    assert parts.margins is not None
    assert whole.margins is not None
    assert parts.margins.bins == whole.margins.bins
    assert parts.distances is not None
    assert whole.distances is not None
    assert parts.distances.choice_kl.mean == pytest.approx(whole.distances.choice_kl.mean)
    assert (parts.error_method, whole.error_method) == (
        "stratified by task (2)",
        "independent samples",
    )


def test_order_of_the_tasks_does_not_matter() -> None:
    """Pooling the tasks backwards gives the same row, to rounding."""
    tasks = _tasks(4)
    there, back = _pooled(tasks), _pooled(tasks[::-1])
    _assert_equal(back, there, names=("n", "flips", "p_value", "error_method"))
    for name, interval in there.intervals.items():
        assert back.intervals[name] == pytest.approx(interval, rel=1e-9, nan_ok=True), name


def test_mixed_metrics_and_filters_are_called_mixed() -> None:
    """A pool of different metrics or filters says so instead of naming one of them."""
    asked = _questions(11)
    found = measure(
        [asked.paired("a", "acc"), asked.paired("b", "acc_norm", filter="strict")], name="pooled"
    )
    assert (found.metric, found.filter) == ("mixed", "mixed")
    same = measure([asked.paired("a", "acc"), asked.paired("b", "acc")], name="pooled")
    assert (same.metric, same.filter) == ("acc", "none")


def test_pool_with_generated_text_measures_choices_where_there_are_any() -> None:
    """Flips count every sample; distances and margins those with choices; AllFlips is undefined."""
    asked = _questions(12, 40)
    text = _generated(
        "gsm8k",
        [("42", 1.0), ("41", 0.0), ("7", 0.0), ("42", 1.0)],
        [("42", 1.0), ("42", 1.0), ("8", 0.0), ("43", 0.0)],
    )
    found = measure([asked.paired("arc"), text], name="pooled")
    alone = measure([asked.paired("arc")], name="arc")
    assert found.n == 44
    assert found.flips is not None
    assert alone.flips is not None
    assert found.flips.correct_to_incorrect == alone.flips.correct_to_incorrect + 1
    assert found.flips.incorrect_to_correct == alone.flips.incorrect_to_correct + 1
    assert alone.flips.answers_changed is not None
    assert found.flips.answers_changed == alone.flips.answers_changed + 3
    assert found.flips.wrong_to_wrong is None
    assert "all_flips" not in found.intervals
    _assert_equal(found, alone, names=("distances", "margins", "correlation"))
    assert found.intervals["choice_kl"] == alone.intervals["choice_kl"]


# Metrics without choices


def test_generated_text_counts_flips_and_changed_answers() -> None:
    """Of five answers one is lost, one won, one changed while wrong; there is no distance."""
    found = measure(
        [
            _generated(
                "gsm8k",
                [("42", 1.0), ("42", 1.0), ("41", 0.0), ("7", 0.0), ("8", 0.0)],
                [("42", 1.0), ("40", 0.0), ("42", 1.0), ("9", 0.0), ("8", 0.0)],
            )
        ],
        name="gsm8k",
    )
    assert found.flips is not None
    assert (found.flips.correct_to_incorrect, found.flips.incorrect_to_correct) == (1, 1)
    assert (found.flips.answers_changed, found.flips.wrong_to_wrong) == (3, None)
    assert (found.distances, found.margins, found.correlation) == (None, None, None)
    expected = proportion_confint(3, 5, method="wilson")
    assert found.intervals["answers_changed"] == pytest.approx(expected, rel=1e-9)
    assert set(found.intervals) == {
        "score_change",
        "correct_to_incorrect",
        "incorrect_to_correct",
        "flips",
        "answers_changed",
    }


def test_metric_whose_lower_value_is_better_is_correct_at_zero() -> None:
    """For an error rate 0 is correct: 0 to 1 is lost, although the score rose."""
    found = measure(
        [
            _generated(
                "toxic",
                [("a", 0.0), ("b", 0.0), ("c", 1.0)],
                [("d", 1.0), ("b", 0.0), ("c", 1.0)],
                metric="error",
                lower_is_better=True,
            )
        ],
        name="toxic",
    )
    assert found.flips is not None
    assert (found.flips.correct_to_incorrect, found.flips.incorrect_to_correct) == (1, 0)
    assert found.flips.baseline_correct == 2
    assert found.score_change == pytest.approx(1 / 3)


def test_score_that_is_not_binary_has_scipys_paired_t_test() -> None:
    """A score between 0 and 1 has no flips; change, interval and p equal scipy's ttest_rel."""
    generator = np.random.default_rng(13)
    before = generator.random(30)
    after = np.clip(before - 0.05 + 0.1 * generator.normal(size=30), 0, 1)
    found = measure(
        [
            _generated(
                "squad",
                [("x", float(score)) for score in before],
                [("y", float(score)) for score in after],
                metric="f1",
            )
        ],
        name="squad",
    )
    expected = stats.ttest_rel(after, before)
    ci = expected.confidence_interval(0.95)
    assert found.flips is None
    assert found.score_change == pytest.approx((after - before).mean(), rel=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert set(found.intervals) == {"score_change"}
    assert found.intervals["score_change"] == pytest.approx((ci.low, ci.high), rel=1e-9)
    assert found.p_value != pytest.approx(stats.ttest_ind(after, before).pvalue, rel=0.1)


def test_score_of_one_sample_has_no_p_value() -> None:
    """One sample has no error, and so neither interval nor p."""
    found = measure([_generated("squad", [("x", 0.5)], [("y", 0.4)], metric="f1")], name="squad")
    assert found.score_change == pytest.approx(-0.1)
    assert isnan(found.p_value)
    assert found.intervals["score_change"] == UNDEFINED


# Perplexities


@pytest.mark.parametrize("device", DEVICES)
def test_word_perplexity_matches_statsmodels(device: str) -> None:
    """Scores are exp(loss per word); ratio, interval and p are those of a weighted regression."""
    texts = _texts(40)
    found = measure([texts.paired(device=device)], name="wikitext")
    before = exp(-texts.baseline.sum() / texts.words.sum())
    after = exp(-texts.compressed.sum() / texts.words.sum())
    assert found.baseline_score == pytest.approx(before, rel=1e-9)
    assert found.compressed_score == pytest.approx(after, rel=1e-9)
    fit = _regression(
        texts.baseline - texts.compressed, np.arange(40), 1 / texts.words, texts.words
    )
    low, high = fit.conf_int()[0]
    assert found.perplexity is not None
    assert found.perplexity.ratio == pytest.approx(after / before, rel=1e-9)
    assert found.intervals["perplexity_ratio"] == pytest.approx((exp(low), exp(high)), rel=1e-9)
    scaled = before * (exp(low) - 1), before * (exp(high) - 1)
    assert found.intervals["score_change"] == pytest.approx(scaled, rel=1e-8)
    assert found.p_value == pytest.approx(float(fit.pvalues[0]), rel=1e-8)
    assert set(found.intervals) == {"score_change", "perplexity_ratio"}
    assert (found.flips, found.distances, found.margins) == (None, None, None)
    assert found.error_method == "independent samples"


def test_bits_per_byte_are_log2_of_the_perplexity_of_bytes() -> None:
    """Scores are bits; the change's interval is in bits too, and holds the change."""
    texts = _texts(41)
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
            _record(
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
    metrics = _paired("lambada", "loglikelihood", sides)
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
    texts = _texts(43)
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
    texts = _texts(44)
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
    texts = _texts(45, 5)
    broken = Texts(texts.baseline, texts.baseline - 800 * texts.words, texts.words)
    found = measure([broken.paired()], name="wikitext")
    assert found.compressed_score == inf
    assert found.perplexity is not None
    assert found.perplexity.ratio == inf


def test_many_perplexities_are_clustered_by_task() -> None:
    """A pool of ten perplexities has the error that its error_method names: clustered by task."""
    tasks = [_texts(50 + i, 12, worse=0.02 * i) for i in range(10)]
    found = measure([texts.paired(f"pile{i}") for i, texts in enumerate(tasks)], name="pile")
    words = np.concatenate([texts.words for texts in tasks])
    change = np.concatenate([texts.baseline - texts.compressed for texts in tasks])
    fit = _regression(change, np.repeat(np.arange(10), 12), 1 / words, words)
    low, high = fit.conf_int()[0]
    assert found.perplexity is not None
    assert found.perplexity.loss_change == pytest.approx(float(fit.params[0]), rel=1e-9)
    assert found.error_method == "clustered by task (10)"
    assert found.intervals["perplexity_ratio"] == pytest.approx((exp(low), exp(high)), rel=1e-8)


def test_few_perplexities_are_stratified_by_task() -> None:
    """A pool of two perplexities has the error that its error_method names: within the tasks."""
    tasks = [_texts(60, 12, worse=0.0), _texts(61, 20, worse=0.4)]
    found = measure([texts.paired(f"pile{i}") for i, texts in enumerate(tasks)], name="pile")
    words = sum(texts.words.sum() for texts in tasks)
    ratio = sum((texts.baseline - texts.compressed).sum() for texts in tasks) / words
    rest = [texts.baseline - texts.compressed - ratio * texts.words for texts in tasks]
    error, freedom = _stratified(rest)
    error *= 32 / words
    low, high = _t_interval(float(ratio), float(error), freedom)
    assert found.error_method == "stratified by task (2)"
    assert found.intervals["perplexity_ratio"] == pytest.approx((exp(low), exp(high)), rel=1e-8)


def test_order_of_unlike_perplexities_does_not_matter() -> None:
    """Words and bytes do not add up: a pool of both is the same in any order, or undefined."""
    words, bytes_ = _texts(70).paired("a"), _texts(71).paired("b", "bits_per_byte")
    there, back = measure([words, bytes_], name="pile"), measure([bytes_, words], name="pile")
    assert there.metric == "mixed"
    scores = there.baseline_score, there.compressed_score
    expected = pytest.approx((back.baseline_score, back.compressed_score), rel=1e-9, nan_ok=True)
    assert scores == expected


def test_unconditional_nan_is_refused() -> None:
    """A nan that acc_mutual_info would subtract makes a sample as unusable as any other nan."""
    requests = [Request(arg_0=asked, arg_1=text) for asked in ("Q", "") for text in (" a", " b")]
    sides = [
        [
            _record(
                0,
                requests=requests,
                responses=[[value, False] for value in (-1.0, -2.0, -3.0, unconditional)],
                metrics={"acc": 1.0, "acc_mutual_info": score},
                target="0",
            )
        ]
        for unconditional, score in ((-2.5, 1.0), (nan, 0.0))
    ]
    with pytest.raises(FlipsError, match="unconditional log-likelihood is not finite"):
        _paired("mutual", "multiple_choice", sides)


def _width(interval: Interval) -> float:
    return interval.high - interval.low
