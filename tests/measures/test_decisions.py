"""Decisions over several tasks: scipy, exact enumeration of coins, false alarms and power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from math import comb, isnan, nan, sqrt

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lm_eval_flips.measures.decisions import (
    PooledDecisions,
    decide,
    fisher,
    fisher_of_counts,
    largest_loss,
    smallest,
)
from lm_eval_flips.measures.significance import mcnemar_loss

Counts = Mapping[str, tuple[int, int]]

CASES: tuple[Counts, ...] = (
    {"a": (9, 1), "b": (3, 3)},
    {"a": (3, 3), "b": (2, 2)},
    {"a": (1, 4), "b": (0, 2), "c": (2, 5)},  # nothing but gains
    {"a": (4, 0), "b": (1, 1), "c": (6, 3), "d": (0, 0)},
    {"a": (5, 4), "b": (8, 6), "c": (1, 0)},
    {"a": (0, 6)},
    {"a": (7, 2)},
)


def enumerated(counts: Counts) -> Fraction:
    """Over all outcomes of all tasks' coins, the chance of a largest loss as large, exactly.

    Two roots are compared by the squares of their excess, which are fractions.
    """
    pairs = [lost + won for lost, won in counts.values() if lost + won]

    def root(lost: int, n: int) -> Fraction:
        excess = Fraction(2 * lost - n)
        return excess * abs(excess) / n

    measured = max(root(lost, lost + won) for lost, won in counts.values() if lost + won)
    chance = Fraction()
    for outcome in product(*(range(n + 1) for n in pairs)):
        if max(map(root, outcome, pairs)) >= measured:
            weight = Fraction(1)
            for lost, n in zip(outcome, pairs, strict=True):
                weight *= Fraction(comb(n, lost), 2**n)
            chance += weight
    return chance


def coins(generator: np.random.Generator, pairs: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Lost and won of tasks under no change: every discordant pair a fair coin."""
    lost = generator.binomial(pairs, 0.5)
    return {
        f"task{i}": (int(k), n - int(k)) for i, (k, n) in enumerate(zip(lost, pairs, strict=True))
    }


def decided(counts: Counts) -> PooledDecisions:
    """All three decisions on right-or-wrong samples that count for themselves."""
    lost, won = (sum(column) for column in zip(*counts.values(), strict=True))
    return decide(
        pooled=mcnemar_loss(lost=lost, won=won),
        p_values={name: mcnemar_loss(lost=lo, won=wo) for name, (lo, wo) in counts.items()},
        counts=counts,
    )


# Fisher


@pytest.mark.parametrize("seed", range(4))
def test_fisher_is_scipys(seed: int) -> None:
    """Of two to eleven p-values, small ones among them."""
    p_values = np.random.default_rng(seed).random(2 + 3 * seed) ** 4
    expected = stats.combine_pvalues(p_values, method="fisher").pvalue
    assert fisher(p_values.tolist()) == pytest.approx(expected, rel=1e-10)
    moved = [*p_values[:-1].tolist(), p_values[-1] / 2]
    assert fisher(moved) < expected  # control: one that is smaller is seen


def test_fisher_of_one_is_that_one() -> None:
    """A single p-value is itself, and with any that are nan; none at all is nan."""
    assert fisher([0.03]) == pytest.approx(0.03, rel=1e-12)
    assert fisher([nan, 0.03, nan]) == pytest.approx(0.03, rel=1e-12)
    assert isnan(fisher([]))
    assert isnan(fisher([nan, nan]))


def test_fisher_holds_the_smallest_of_chances() -> None:
    """0 stays 0, 1 tells nothing against, and 1e-300 does not overflow."""
    assert fisher([0.0, 0.5]) == 0.0
    assert fisher([1.0, 1.0, 1.0]) == 1.0
    assert 0 < fisher([1e-300, 0.5]) < 1e-290


# The largest loss


@pytest.mark.parametrize("counts", CASES)
def test_largest_loss_is_exact_by_enumeration(counts: Counts) -> None:
    """Every outcome of every task's coins, in fractions."""
    p, _ = largest_loss(counts)
    assert p == pytest.approx(float(enumerated(counts)), rel=1e-12)


def test_the_enumeration_can_fail() -> None:
    """Control for the test above: one pair more that was lost has another chance."""
    assert largest_loss({"a": (10, 1), "b": (3, 3)})[0] != pytest.approx(
        float(enumerated(CASES[0])), rel=0.1
    )


@pytest.mark.parametrize("counts", [{"a": (14, 5), "b": (30, 22), "c": (9, 9)}, CASES[2]])
def test_largest_loss_is_that_of_fair_coins(counts: Counts) -> None:
    """100,000 throws of all tasks' coins: as large a loss in as many."""
    generator = np.random.default_rng(1)
    pairs = np.array([lost + won for lost, won in counts.values()])
    lost = generator.binomial(pairs, 0.5, (100_000, len(pairs)))
    largest = ((2 * lost - pairs) / np.sqrt(pairs)).max(1)
    measured = max((lo - wo) / sqrt(lo + wo) for lo, wo in counts.values())
    found = np.mean(largest >= measured - 1e-9)
    p, _ = largest_loss(counts)
    assert p == pytest.approx(found, abs=4 * sqrt(p * (1 - p) / 100_000))


@pytest.mark.parametrize(("lost", "won"), [(9, 1), (3, 3), (1, 8), (5, 0), (0, 5), (60, 40)])
def test_largest_loss_of_one_task_is_mcnemars(lost: int, won: int) -> None:
    """The largest of one is that one: the one-sided binomial test."""
    p, task = largest_loss({"only": (lost, won)})
    assert p == pytest.approx(mcnemar_loss(lost=lost, won=won), rel=1e-12)
    assert task == "only"


def test_a_largest_loss_that_nothing_could_show_is_none() -> None:
    """57 tasks of one pair each: were all lost, the largest would still be chance; so no p."""
    for lost in (57, 20):
        counts = {str(i): (int(i < lost), int(i >= lost)) for i in range(57)}
        p, task = largest_loss(counts)
        assert isnan(p)
        assert task is None
    # control: one task with eight pairs among them could
    p, task = largest_loss({**{str(i): (1, 0) for i in range(57)}, "far": (8, 0)})
    assert p == pytest.approx(1 / 256)
    assert task == "far"


@pytest.mark.parametrize("lost", [1, 4, 10])
def test_fisher_of_tasks_with_a_pair_each_is_a_sign_test(lost: int) -> None:
    """Ten tasks of one pair: as the binomial of the tasks lost; chi-squared sees nothing there."""
    counts = [(int(i < lost), int(i >= lost)) for i in range(10)]
    expected = stats.binomtest(lost, 10, alternative="greater").pvalue
    assert fisher_of_counts(counts) == pytest.approx(expected, rel=1e-6)
    assert fisher_of_counts([(1, 0)] * 57) == pytest.approx(0.5**57, rel=1e-6)
    assert fisher([0.5] * 57) > 0.9  # what 57 lost answers were called


def test_fisher_of_counts_is_the_sum_over_all_outcomes() -> None:
    """Every outcome of four tasks, its chance and its sum of logarithms, by scipy."""
    counts = [(12, 5), (3, 4), (1, 0), (7, 2)]

    def logs(lost: int, pairs: int) -> float:
        return float(-2 * np.log(stats.binom.cdf(pairs - lost, pairs, 0.5)))

    measured = sum(logs(lost, lost + won) for lost, won in counts)
    expected = 0.0
    for outcome in product(*(range(lost + won + 1) for lost, won in counts)):
        parts = [(k, lost + won) for k, (lost, won) in zip(outcome, counts, strict=True)]
        if sum(logs(*part) for part in parts) >= measured - 1e-9:
            expected += float(np.prod([stats.binom.pmf(k, pairs, 0.5) for k, pairs in parts]))
    assert fisher_of_counts(counts) == pytest.approx(expected, rel=0.01)
    assert fisher_of_counts([*counts, (0, 0)]) == fisher_of_counts(counts)
    assert isnan(fisher_of_counts([(0, 0)]))


def test_tasks_without_a_discordant_pair_count_for_nothing() -> None:
    """They can neither be the largest nor make it likelier; nothing but such is nan."""
    plain = largest_loss({"a": (9, 1), "b": (3, 3)})
    assert largest_loss({"z": (0, 0), "a": (9, 1), "y": (0, 0), "b": (3, 3)}) == plain
    p, task = largest_loss({"z": (0, 0), "y": (0, 0)})
    assert isnan(p)
    assert task is None
    assert largest_loss({})[1] is None


def test_of_equal_losses_the_first_is_named() -> None:
    """Also where equal is not alike: 6 of 9 lost are as far from half as 1 of 1."""
    assert largest_loss({"a": (2, 2), "b": (6, 1), "c": (6, 1)})[1] == "b"
    assert largest_loss({"one": (1, 0), "nine": (6, 3)})[1] == "one"
    assert largest_loss({"nine": (6, 3), "one": (1, 0)})[1] == "nine"
    there = largest_loss({"one": (1, 0), "nine": (6, 3)})[0]
    assert there == pytest.approx(float(enumerated({"one": (1, 0), "nine": (6, 3)})), rel=1e-12)


def test_a_chance_below_the_last_digit_of_one_is_told() -> None:
    """Sixty lost and none won: 2^-60, not 0; of three such tasks three times that."""
    assert largest_loss({"a": (60, 0)})[0] == pytest.approx(2.0**-60, rel=1e-12)
    three = largest_loss({"a": (60, 0), "b": (30, 30), "c": (60, 0)})[0]
    assert three == pytest.approx(2 * 2.0**-60 + _as_large(60, sqrt(60)), rel=1e-9)
    assert smallest({"a": 1e-20, "b": 0.4, "c": 0.9})[0] == pytest.approx(3e-20, rel=1e-12)


def _as_large(pairs: int, root: float) -> float:
    """Chance that a fair coin's standardised excess is as large, by scipy."""
    return float(stats.binom.sf(np.ceil((pairs + root * sqrt(pairs)) / 2 - 1e-9) - 1, pairs, 0.5))


# The smallest p


@pytest.mark.parametrize("seed", range(3))
def test_smallest_is_sidaks(seed: int) -> None:
    """Statsmodels' adjustment of the smallest of several; its task is named."""
    p_values = np.random.default_rng(seed).random(6) ** 2
    named = {f"task{i}": float(p) for i, p in enumerate(p_values)}
    found, task = smallest(named)
    assert found == pytest.approx(multipletests(p_values, method="sidak")[1].min(), rel=1e-10)
    assert task == f"task{p_values.argmin()}"


def test_smallest_leaves_out_what_could_not_be_tested() -> None:
    """Nan counts for nothing, also as the first; one is itself; nothing else is nan."""
    assert smallest({"z": nan, "a": 0.02, "b": 0.3}) == smallest({"a": 0.02, "b": 0.3})
    assert smallest({"a": 0.02})[0] == pytest.approx(0.02, rel=1e-12)
    assert smallest({"a": 1.0, "b": 1.0})[0] == 1.0
    assert smallest({"a": 0.0, "b": 1.0})[0] == 0.0
    p, task = smallest({"z": nan})
    assert isnan(p)
    assert task is None


# All three together


def test_all_three_are_put_together() -> None:
    """Pooled as given, Fisher of all, the largest by counts; without counts the smallest p."""
    p_values = {"a": 0.0107, "b": 0.65, "c": nan}
    counts = {"a": (9, 1), "b": (3, 3), "c": (0, 0)}
    found = decide(pooled=0.04, p_values=p_values, counts=counts)
    assert (found.n, found.pooled) == (2, 0.04)
    assert found.fisher == fisher_of_counts(counts.values())
    assert (found.largest, found.largest_task) == largest_loss(counts)
    without = decide(pooled=0.04, p_values=p_values, counts=None)
    assert (without.largest, without.largest_task) == smallest(p_values)
    assert without.largest != pytest.approx(found.largest, rel=1e-3)
    assert without.fisher == stats.combine_pvalues([0.0107, 0.65]).pvalue
    assert without.n == found.n


def test_where_nothing_changed_nothing_is_decided() -> None:
    """No task has a discordant pair: nan each, no task, none that was tested."""
    found = decided({"a": (0, 0), "b": (0, 0)})
    assert (found.n, found.largest_task) == (0, None)
    assert isnan(found.pooled)
    assert isnan(found.fisher)
    assert isnan(found.largest)


@pytest.mark.simulation
@pytest.mark.parametrize("pairs", [(4, 7), (5, 9, 12, 20, 31), (30,) * 12])
def test_no_change_raises_few_false_alarms(pairs: tuple[int, ...]) -> None:
    """At 5 % each of the three in at most 5 % of 2,000 draws, plus three standard errors."""
    generator, draws = np.random.default_rng(len(pairs)), 2000
    found = [decided(coins(generator, pairs)) for _ in range(draws)]
    sidak = [
        smallest({str(i): p for i, p in enumerate(generator.random(len(pairs)))})[0]
        for _ in range(draws)
    ]
    limit = 0.05 + 3 * sqrt(0.05 * 0.95 / draws)
    for name in ("pooled", "fisher", "largest"):
        assert np.mean([getattr(own, name) < 0.05 for own in found]) <= limit, name
    assert np.mean(np.array(sidak) < 0.05) <= limit
    # control: the smallest p as it is, of many tasks, alarms far more often
    naive = [1 - (1 - p) ** (1 / len(pairs)) < 0.05 for p in sidak]
    assert np.mean(naive) > limit


def _found(draws: int, losses: Sequence[float], pairs: int = 40) -> dict[str, float]:
    """How often each decision finds tasks of which these shares of the discordant pairs are lost."""
    generator = np.random.default_rng(7)
    found = []
    for _ in range(draws):
        lost = generator.binomial(pairs, losses)
        found.append(decided({f"task{i}": (int(k), pairs - int(k)) for i, k in enumerate(lost)}))
    return {
        name: float(np.mean([getattr(own, name) < 0.05 for own in found]))
        for name in ("pooled", "fisher", "largest")
    }


def test_a_loss_in_one_task_is_found_by_the_largest() -> None:
    """One of twelve tasks lost 85 % of its discordant pairs: the pool dilutes it."""
    found = _found(300, [0.85, *[0.5] * 11])
    assert found["largest"] > 0.9
    assert found["largest"] > found["fisher"] > found["pooled"]


def test_an_even_loss_is_found_by_the_pool() -> None:
    """All twelve tasks lost 56 %: no single one shows it."""
    found = _found(300, [0.56] * 12)
    assert found["pooled"] > 0.8
    assert found["pooled"] > found["fisher"] > found["largest"]


@pytest.mark.simulation
def test_the_task_with_the_loss_is_named() -> None:
    """In nearly all draws."""
    generator = np.random.default_rng(8)
    named = [largest_loss(coins(generator, [40] * 5) | {"bad": (36, 4)})[1] for _ in range(200)]
    assert named.count("bad") > 195


def test_a_gain_elsewhere_hides_no_loss_of_one_task() -> None:
    """One task lost as much as another won: pooled nothing changed, the largest sees it."""
    found = decided({"lost": (30, 5), "won": (5, 30)})
    assert found.pooled > 0.5
    assert found.largest < 0.001
    assert found.largest_task == "lost"
