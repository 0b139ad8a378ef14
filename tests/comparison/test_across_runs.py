"""KL against flips and losses over compressed runs, by regime: scipy on numbers made by numpy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from lm_eval_flips import Comparison, compare
from lm_eval_flips.comparison.across_runs import by_task, choice_kl, regimes, token_kl
from lm_eval_flips.comparison.result import Regime
from lm_eval_flips.report.files.document import to_json
from tests.generators import logs
from tests.generators.distances import write_distances
from tests.generators.paired import Floats

N = 80
NOISE = (0.05, 0.1, 0.15, 0.2, 0.25, 0.6, 0.9, 1.2)
BORDER = 0.04  # nats; the first five lie below it


@dataclass(frozen=True)
class Point:
    """What a compressed run is over all questions: mean KL, share of flips, loss of the score."""

    kl: float
    flips: float
    loss: float


@dataclass(frozen=True)
class World:
    """A baseline and several compressed models on the same questions of three choices."""

    baseline: Floats
    compressed: tuple[Floats, ...]
    gold: np.ndarray

    def paths(self, folder: Path, *, parts: int = 1) -> list[Path]:
        """Their runs on disk, the questions in one task or in several."""
        found = []
        for place, scores in enumerate((self.baseline, *self.compressed)):
            records = [
                logs.choice(i, row.tolist(), gold=int(self.gold[i])) for i, row in enumerate(scores)
            ]
            tasks = {f"task{k}": records[k::parts] for k in range(parts)}
            found.append(logs.write_run(folder / f"run{place}", tasks, model=f"run{place}"))
        return found

    def points(self) -> list[Point]:
        """Every compressed model's numbers, by numpy and scipy."""
        right = self.baseline.argmax(1) == self.gold
        found = []
        for scores in self.compressed:
            now = scores.argmax(1) == self.gold
            kls = [
                stats.entropy(softmax(p), softmax(q))
                for p, q in zip(self.baseline, scores, strict=True)
            ]
            loss = right.mean() - now.mean()
            found.append(Point(float(np.mean(kls)), float((right ^ now).mean()), float(loss)))
        return found


def world(seed: int, noise: Sequence[float] = NOISE) -> World:
    """Models that are as much noisier; the baseline guesses, so that some get better by it."""
    generator = np.random.default_rng(seed)
    baseline = generator.normal(-5, 1, (N, 3))
    compressed = tuple(baseline + generator.normal(0, own, baseline.shape) for own in noise)
    guessed = generator.integers(3, size=N)
    gold = np.where(generator.random(N) < 0.1, baseline.argmax(1), guessed)
    return World(baseline, compressed, gold)


def scipys(points: Sequence[Point], what: str) -> float:
    """Spearman's correlation of KL with something, by scipy."""
    columns = [point.kl for point in points], [getattr(point, what) for point in points]
    return float(stats.spearmanr(*columns).statistic)


def by_name(found: Sequence[Regime]) -> dict[tuple[str, bool], Regime]:
    """Regimes by their distance, and whether they are of the runs that are near."""
    return {(own.distance, own.below is not None): own for own in found}


@pytest.fixture(scope="module")
def eight() -> World:
    """Eight compressed models, four of which are near."""
    return world(3)


@pytest.fixture(scope="module")
def compared(eight: World, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Their comparison on acc."""
    paths = eight.paths(tmp_path_factory.mktemp("eight"))
    return compare(*paths, metric="acc", near_kl=BORDER)


def test_both_regimes_are_scipys(eight: World, compared: Comparison) -> None:
    """Over all runs, and over those below a border: KL with flips, and with the loss."""
    points = eight.points()
    near = [point for point in points if point.kl < BORDER]
    assert len(near) == 5
    found = compared.regimes
    assert [(own.distance, own.below) for own in found] == [
        ("choice_kl", None),
        ("choice_kl", BORDER),
    ]
    for regime, own in zip(found, (points, near), strict=True):
        assert (regime.flips.n, regime.net_loss.n) == (len(own), len(own))
        assert regime.flips.statistic == pytest.approx(scipys(own, "flips"), rel=1e-10)
        assert regime.net_loss.statistic == pytest.approx(scipys(own, "loss"), rel=1e-10)


def test_the_regimes_check_can_fail(eight: World, compared: Comparison) -> None:
    """Control: far from the baseline KL orders runs as their flips do; near it, and losses, not so."""
    everywhere, near = compared.regimes
    assert everywhere.flips.statistic > 0.9
    assert near.flips.statistic != pytest.approx(everywhere.flips.statistic, abs=0.05)
    assert everywhere.net_loss.statistic != pytest.approx(everywhere.flips.statistic, abs=0.05)
    gains = [-point.loss for point in eight.points()]
    assert np.sign(everywhere.net_loss.statistic) != np.sign(
        stats.spearmanr([point.kl for point in eight.points()], gains).statistic
    )


@pytest.mark.parametrize("below", [0.0, 0.001, 0.05, 10.0])
def test_the_border_of_nearness_is_given(eight: World, below: float, tmp_path: Path) -> None:
    """As many runs lie below it: none, which is nan with n = 0, up to all of them."""
    found = compare(*eight.paths(tmp_path), metric="acc", near_kl=below).regimes
    everywhere, near = found
    points = [point for point in eight.points() if point.kl < below]
    assert (near.below, near.flips.n, near.net_loss.n) == (below, len(points), len(points))
    if len(points) < 5:
        assert isnan(near.flips.statistic)
        assert isnan(near.net_loss.statistic)
    else:
        assert near.flips.statistic == pytest.approx(scipys(points, "flips"), rel=1e-10)
    assert everywhere.flips.n == 8
    if len(points) == 8:
        assert near == replace(everywhere, below=below)


def test_a_run_at_the_border_is_not_near(compared: Comparison) -> None:
    """Near is smaller than the border, to the last digit."""
    kls = sorted(kl for run in compared.compressed if (kl := choice_kl(run.pooled)) is not None)
    for place, kl in enumerate(kls):
        (_, near) = regimes(compared.compressed, near_kl=kl)
        assert near.flips.n == place
        (_, near) = regimes(compared.compressed, near_kl=float(np.nextafter(kl, 1)))
        assert near.flips.n == place + 1


def test_fewer_than_three_runs_have_no_regime(eight: World, tmp_path: Path) -> None:
    """Two points always lie on a line; of three or four it is said that they are too few."""
    paths = eight.paths(tmp_path)
    two, three = (compare(*paths[:count], metric="acc") for count in (3, 4))
    assert two.regimes == ()
    assert two.across_runs == {}
    (regime,) = three.regimes
    assert regime.flips.n == 3
    assert isnan(regime.flips.statistic)
    assert regimes(()) == ()
    assert by_task((), choice_kl) == {}


def test_every_task_and_the_pool_are_correlated_as_scipy_does(eight: World, tmp_path: Path) -> None:
    """Under the task's, filter's and metric's name; of the parts of the questions it holds."""
    found = compare(*eight.paths(tmp_path, parts=2), metric="acc").across_runs
    assert set(found) == {"task0,none,acc", "task1,none,acc", "pooled"}
    for key, rows in (
        ("task0,none,acc", slice(0, None, 2)),
        ("task1,none,acc", slice(1, None, 2)),
        ("pooled", slice(None)),
    ):
        part = World(
            eight.baseline[rows], tuple(own[rows] for own in eight.compressed), eight.gold[rows]
        )
        assert found[key].n == 8
        assert found[key].statistic == pytest.approx(scipys(part.points(), "flips"), rel=1e-10)


def test_a_loss_is_a_fall_or_where_less_is_better_a_rise(compared: Comparison) -> None:
    """The same runs with scores that should be low: losses are gains, flips stay."""
    turned = [
        replace(run, pooled=replace(run.pooled, higher_is_better=False))
        for run in compared.compressed
    ]
    for there, back in zip(compared.regimes, regimes(turned, near_kl=BORDER), strict=True):
        assert back.net_loss.statistic == pytest.approx(-there.net_loss.statistic, rel=1e-12)
        assert back.flips == there.flips
        assert there.net_loss.statistic != 0


def perplexities(folder: Path, losses: Sequence[float], kls: Sequence[float]) -> Comparison:
    """Texts under models that lose so many nats a text, at such distances over the vocabulary."""
    texts = [logs.rolling(i, -20.0 - i, f"page {i} of five words") for i in range(6)]
    paths = [logs.write_run(folder / "base", {"wiki": texts}, model="base")]
    for place, (loss, kl) in enumerate(zip(losses, kls, strict=True)):
        moved = [
            logs.rolling(i, -20.0 - i - loss * (1 + i / 10), f"page {i} of five words")
            for i in range(6)
        ]
        path = logs.write_run(folder / f"q{place}", {"wiki": moved}, model=f"q{place}")

        def at(doc: int, choice: int, kl: float = kl) -> list[float]:
            return [kl * (1 + doc / 100), kl]

        write_distances(path, baseline=texts, compressed=moved, kl=at)
        paths.append(path)
    return compare(*paths, metric="word_perplexity")


def test_a_perplexity_that_rises_is_a_loss(tmp_path: Path) -> None:
    """Without choices or flips: the distance over the vocabulary, against what was lost."""
    losses = (0.4, 0.1, -0.2, 0.9, 0.3, 0.2)
    kls = (0.3, 0.015, 0.01, 0.2, 0.012, 0.1)
    comparison = perplexities(tmp_path, losses, kls)
    found = by_name(regimes(comparison.compressed, near_kl=0.25))
    assert set(found) == {("token_kl", False), ("token_kl", True)}
    everywhere, near = found["token_kl", False], found["token_kl", True]
    expected = stats.spearmanr(kls, losses).statistic
    assert everywhere.net_loss.statistic == pytest.approx(expected, rel=1e-10)
    assert (everywhere.net_loss.n, near.net_loss.n) == (6, 5)
    expected = stats.spearmanr(kls[1:], losses[1:]).statistic
    assert near.net_loss.statistic == pytest.approx(expected, rel=1e-12)
    for regime in (everywhere, near):
        assert regime.flips.n == 0
        assert isnan(regime.flips.statistic)


def test_a_distance_that_one_run_lacks_has_no_regime(compared: Comparison, tmp_path: Path) -> None:
    """Over other runs it would be another correlation, under the same name."""
    runs = list(compared.compressed)
    assert [token_kl(run.pooled) for run in runs] == [None] * 8
    runs[2] = replace(runs[2], pooled=replace(runs[2].pooled, distances=None))
    assert choice_kl(runs[2].pooled) is None
    assert regimes(runs) == ()
    assert "pooled" not in by_task(runs, choice_kl)
    assert by_task(runs, choice_kl).keys() == {"task0,none,acc"}  # its own rows have it


def test_the_document_has_both_regimes(eight: World, compared: Comparison) -> None:
    """With null for what is undefined: no run lies below nothing."""
    document = json.loads(to_json(compared))["correlation"]
    everywhere, near = document["regimes"]
    assert (everywhere["distance"], everywhere["below"]) == ("choice_kl", None)
    assert (near["below"], near["flips"]["n"]) == (BORDER, 5)
    expected = scipys(eight.points(), "loss")
    assert everywhere["net_loss"]["spearman"] == pytest.approx(expected, rel=1e-10)
    nowhere = replace(compared, regimes=regimes(compared.compressed, near_kl=0.0))
    near = json.loads(to_json(nowhere))["correlation"]["regimes"][1]
    assert near["flips"]["n"] == 0
    assert near["flips"]["spearman"] is None
