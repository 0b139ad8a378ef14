"""Paired metrics built from records through the real columns and pairing, and textbook oracles.

A record is what the reader decodes from one line of a samples file; no file is written. Oracles are
numpy's, scipy's or statsmodels', computed from the raw scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, nan, sqrt
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
import statsmodels.api as sm
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.special import softmax
from statsmodels.stats.proportion import proportion_confint

from lm_eval_flips.comparison.result import Row
from lm_eval_flips.comparison.row import measure
from lm_eval_flips.logs.columns import Columns
from lm_eval_flips.logs.records import Record, Request
from lm_eval_flips.logs.task_log import TaskLog
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.pairs.logged_metrics import paired_metrics
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import pair
from tests.generators.devices import DEVICES as DEVICES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNDEFINED = pytest.approx((nan, nan), nan_ok=True)
CHOICES = ("elm", "maple", "oak", "hornbeam", "ash")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache
def _kind(metrics: tuple[str, ...]) -> Any:
    fields: list[Any] = [*metrics, ("resps", Any, None)]
    return msgspec.defstruct("Logged", fields, bases=(Record,), kw_only=True)


def record(
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


def _answers(records: Sequence[Any]) -> str:
    logged = [[getattr(own, name) for name in own.metrics] for own in records]
    return _hash(repr([(own.filtered_resps, own.target) for own in records]) + repr(logged))


def task_metrics(
    name: str,
    output_type: str,
    sides: Sequence[Iterable[Any]],
    *,
    filter: str = "none",  # noqa: A002
    lower_is_better: frozenset[str] = frozenset(),
    on_nan: Literal["error", "exclude"] = "error",
    device: str = "cpu",
) -> dict[str, PairedMetric]:
    """Both runs' records of one task, read into columns and paired: its metrics by name.

    Documents are the task's own, which are told by what the baseline answers; those of a task whose
    name ends with "*" are the same for all such tasks.
    """
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
    logged = [list(records) for records in sides]
    salt = "" if name.endswith("*") else f"{name} {_answers(logged[0])}"
    for records in logged:
        for line in records:
            line.doc_hash = _hash(f"{salt} {line.doc_hash}")
        columns = Columns(task, filter)
        columns.add(records)
        samples.append(columns.samples())
    metrics = paired_metrics(pair(samples[0], samples[1], on_nan=on_nan, device=device))
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
        return task_metrics(name, "multiple_choice", list(sides), filter=filter, device=device)[
            metric
        ]

    def _record(self, i: int, scores: Floats, label: str) -> Any:
        own = [float(score) for score in scores[: self._count(i)]]
        lengths = [len(choice) for choice in CHOICES[: len(own)]]
        return record(
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
    def margin_change(self) -> Floats:
        """Change of what the baseline's answer is ahead of the best other one, in probability."""
        found = []
        for p, q in zip(self.baseline, self.compressed, strict=True):
            answer = p.argmax()
            sides = [softmax(scores) for scores in (p, q)]
            ahead = [side[answer] - np.delete(side, answer).max() for side in sides]
            found.append(ahead[1] - ahead[0])
        return np.array(found)

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
            "wrong_to_wrong": ~before & ~after & changed,
            "all_flips": (before ^ after) | (~before & ~after & changed),
        }
        return {name: values.astype(np.float64) for name, values in found.items()}

    @property
    def shares(self) -> dict[str, Floats]:
        """The same by the names of the shares that are counted from them."""
        return {
            name if "flips" in name else f"{name}_share": marks
            for name, marks in self.indicators.items()
        }


def questions(
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


def generated(
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
            record(
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
    return task_metrics(name, "generate_until", sides, lower_is_better=lower)[metric]


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
                record(
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
        return task_metrics(name, "loglikelihood_rolling", sides, device=device)[metric]


def texts(seed: int, n: int = 40, *, worse: float = 0.05) -> Texts:
    """Texts of 20 to 400 words, on average ``worse`` nats a word worse in the compressed run."""
    generator = np.random.default_rng(seed)
    words = generator.integers(20, 400, n).astype(np.float64)
    loss = 3 + 0.3 * generator.normal(size=n)
    change = worse + 0.05 * generator.normal(size=n)
    return Texts(-loss * words, -(loss + change) * words, words)


@dataclass(frozen=True)
class Fit:
    """A mean, or a ratio, with its clustered error, degrees of freedom and p, one entry each."""

    params: Floats
    bse: Floats
    freedom: float

    @property
    def tvalues(self) -> Floats:
        return self.params / self.bse

    @property
    def pvalues(self) -> Floats:
        return np.array(2 * stats.t.sf(abs(self.params / self.bse), self.freedom))

    def conf_int(self, alpha: float = 0.05) -> Floats:
        half = stats.t.ppf(1 - alpha / 2, self.freedom) * self.bse
        return np.stack([self.params - half, self.params + half], 1)


def clustered(values: Floats, clusters: Ints) -> tuple[float, float]:
    """Error of a mean and its degrees of freedom, as Bell and McCaffrey define them: by matrices.

    Each cluster's block of I - H to the power of -1/2, and the trace of the products.
    """
    n = len(values)
    maker = np.eye(n) - 1 / n
    variance, vectors = 0.0, []
    for label in np.unique(clusters):
        own = clusters == label
        roots, bases = np.linalg.eigh(maker[np.ix_(own, own)])
        weight = (bases / np.sqrt(roots)) @ bases.T @ np.full(own.sum(), 1 / n)
        variance += float(weight @ (maker @ values)[own]) ** 2
        vectors.append(maker[:, own] @ weight)
    products = np.array(vectors) @ np.array(vectors).T
    return sqrt(variance), float(np.trace(products) ** 2 / (products**2).sum())


def regression(
    values: Floats, clusters: Ints, weights: Floats | None = None, x: Floats | None = None
) -> Fit:
    """Mean (or ratio, given x) with CR2 errors; the ratio's are those of its scores' mean."""
    n = len(values)
    x = np.ones(n) if x is None else x
    weights = np.ones(n) if weights is None else weights
    fit = sm.WLS(values, x, weights=weights).fit()
    error, freedom = clustered(weights * x * fit.resid, np.asarray(clusters))
    return Fit(fit.params, np.array([error * n / float((weights * x * x).sum())]), freedom)


def stratified(values: Sequence[Floats]) -> tuple[float, int]:
    """Error of the pooled mean of several strata, and its degrees of freedom, by the textbook."""
    total = sum(len(v) for v in values)
    variance = sum((len(v) / total) ** 2 * v.var(ddof=1) / len(v) for v in values)
    return sqrt(variance), sum(len(v) - 1 for v in values)


def t_interval(mean: float, error: float, freedom: float) -> tuple[float, float]:
    """Student's t interval by scipy."""
    low, high = stats.t(freedom, mean, error).interval(0.95)
    return float(low), float(high)


def effective_wilson(share: float, n: int, error: float, freedom: float) -> Any:
    """Wilson's interval of as many independent samples as have this error (statsmodels).

    At the level at which the normal quantile is Student's t of the degrees of freedom.
    """
    effective = min(n, share * (1 - share) / error**2)
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, freedom))
    found = proportion_confint(share * effective, effective, alpha=alpha, method="wilson")
    return pytest.approx(found, rel=1e-8)


def change_ends(
    change: Floats, error_of: Callable[[Floats], tuple[float, float]], n: int
) -> tuple[float, float]:
    """Zou and Donner's interval of a net change, by statsmodels' Wilson limits of what is worth.

    ``error_of`` gives a column's error and degrees of freedom, n the clusters where it has none.
    """
    lost, won = (change < 0).astype(float), (change > 0).astype(float)
    (e_lost, freedom), (e_won, _), (e_both, _) = map(error_of, (lost, won, change))
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, freedom))

    def limits(share: float, error: float) -> tuple[float, float]:
        worth = min(n, share * (1 - share) / error**2) if error * share * (1 - share) > 0 else n
        low, high = proportion_confint(share * worth, worth, alpha=alpha, method="wilson")
        return float(low), float(high)

    q, p = lost.mean(), won.mean()
    (l_lost, u_lost), (l_won, u_won) = limits(q, e_lost), limits(p, e_won)
    both = 2 * e_lost * e_won
    r = np.clip((e_lost**2 + e_won**2 - e_both**2) / both, -1, 1) if both > 0 else 0.0
    down = (p - l_won) ** 2 + (u_lost - q) ** 2 - 2 * r * (p - l_won) * (u_lost - q)
    up = (u_won - p) ** 2 + (q - l_lost) ** 2 - 2 * r * (u_won - p) * (q - l_lost)
    return float(p - q - sqrt(down)), float(p - q + sqrt(up))


def distance_ends(
    values: Floats, error: float, freedom: float, units: Floats | None = None
) -> tuple[float, float]:
    """Interval of a mean of distances: the logarithm's low end, Student's with one value more.

    That value is as rare as one in nine times as many units: Weissman's, from the ten largest.
    """
    units = values if units is None else units
    mean, n = float(values.mean()), len(units)
    far = float(stats.t.ppf(0.975, freedom))
    largest = np.sort(units[units > 0])[::-1][:11]
    hill = min(2.0, float(np.mean(np.log(largest[:-1] / largest[-1]))))
    more = (largest[0] * 9**hill - units.mean()) / (len(values) * (1 + 1 / n))
    low = mean * np.exp(-far * error / mean)
    return float(low), float(mean + more + far * np.hypot(error, more))


def thrice(asked: Questions) -> Questions:
    """Each question logged three times, under one document."""
    return Questions(
        np.tile(asked.baseline, (3, 1)),
        np.tile(asked.compressed, (3, 1)),
        np.tile(asked.gold, 3),
        np.tile(np.arange(len(asked.gold)), 3),
    )


def tasks(count: int, *, first_seed: int = 20) -> list[Questions]:
    """Tasks of 20, 25, 30, ... questions, each noisier than the one before."""
    return [questions(first_seed + i, 20 + 5 * i, noise=0.5 + 2 * i / count) for i in range(count)]


def pooled(tasks: Sequence[Questions], *, device: str = "cpu") -> Row:
    """The row of several tasks together."""
    metrics = [asked.paired(f"task{i}", device=device) for i, asked in enumerate(tasks)]
    return measure(metrics, name="pooled")


def width(interval: Interval) -> float:
    """High end minus low end."""
    return interval.high - interval.low
