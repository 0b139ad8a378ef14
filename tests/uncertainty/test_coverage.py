"""A small, seeded version of the simulation in benchmarks/coverage.py, which prints it all."""

from __future__ import annotations

from math import sqrt

import pytest

from lm_eval_flips.measures.bootstrap import Bootstrap
from tests.benchmarks.coverage import World, alarms, coverages

pytestmark = pytest.mark.simulation
DRAWS = 80
FEW_BIT = World(noise=0.5, worse=0.1)


@pytest.mark.parametrize(
    ("world", "n", "tasks"),
    [
        (World(noise=0.1), 1000, 1),
        (FEW_BIT, 300, 1),
        (World(noise=0.5, worse=0.1, cluster=4, shared=0.6), 400, 1),
        (FEW_BIT, 600, 5),
        (FEW_BIT, 600, 12),
    ],
    ids=["8-bit", "4-bit", "repeats", "strata", "clusters"],
)
def test_intervals_hold_the_truth(world: World, n: int, tasks: int) -> None:
    """About 95 % of them; a share of 80 draws strays by 2.4 points."""
    error = sqrt(0.95 * 0.05 / DRAWS)
    for found in coverages(world, n, draws=DRAWS, tasks=tasks):
        assert found.given > 0.95 * DRAWS, found
        assert found.share > 0.93 - 2.5 * error, found
        if found.name != "choice_kl_p99":  # open to one side where the samples bound it no further
            assert found.share < 0.97 + 2.5 * error, found


def test_intervals_of_copies_taken_for_samples_do_not() -> None:
    """Control: every sample four times, as if it were four; the count notices."""
    copied = World(noise=0.5, worse=0.1, cluster=4, shared=0.999999)
    kept = {own.name: own for own in coverages(copied, 400, draws=DRAWS)}
    blind = {own.name: own for own in coverages(copied, 400, draws=DRAWS, blind=True)}
    assert kept["choice_kl"].share > 0.9
    assert blind["choice_kl"].share < kept["choice_kl"].share - 0.05


def test_bootstrap_intervals_hold_the_truth() -> None:
    """Of the mean, the median and, open where few samples lie beyond, the 99th percentile."""
    bootstrap = Bootstrap(replicates=400)
    found = {
        own.name: own.share
        for own in coverages(FEW_BIT, 300, draws=DRAWS, bootstrap=bootstrap)
        if own.name.startswith("choice_kl")
    }
    assert found["choice_kl"] > 0.9
    assert found["choice_kl_median"] > 0.9
    assert found["choice_kl_p99"] > 0.93


@pytest.mark.parametrize(("tasks", "draws"), [(1, 300), (5, 60), (12, 40)])
def test_tests_raise_few_false_alarms(tasks: int, draws: int) -> None:
    """At 5 %, where neither run is better; 60 draws stray by 3 points."""
    world = World(noise=0.5, mirrored=True)
    for name, share in alarms(world, 60 * tasks, draws=draws, tasks=tasks).items():
        assert share < 0.05 + 3 * sqrt(0.05 * 0.95 / draws), name


def test_tests_find_a_model_that_is_worse() -> None:
    """Control: the same count, where the compressed run is worse, is high."""
    found = alarms(World(noise=0.5, worse=0.4), 400, draws=25, tasks=4)
    assert found["exact McNemar, worse"] > 0.9
    assert found["permutation of scores, worse"] > 0.9
    assert found["Fisher, worse"] > 0.9
