"""Flips of answers that are drawn several times: by hand, by expectation, and their coverage."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch

from lm_eval_flips.measures.several_draws import DrawnFlips, drawn_flips
from tests.benchmarks.several_draws import WORLDS, World, tally

APART = torch.ones(3, 3).bool() & ~torch.eye(3).bool()


def of(ours: list[list[int]], theirs: list[list[int]], independent: torch.Tensor) -> DrawnFlips:
    """The measure on whole numbers."""
    return drawn_flips(
        baseline=torch.tensor(ours).double(),
        compressed=torch.tensor(theirs).double(),
        independent=independent,
    )


@pytest.mark.parametrize("independent", [APART, torch.ones(3, 3).bool()])
def test_every_pair_of_draws_is_counted_once(independent: torch.Tensor) -> None:
    """Against loops over the pairs, in plain Python."""
    ours, theirs = [[1, 0, 1], [0, 0, 0], [1, 1, 1]], [[0, 0, 1], [1, 0, 0], [1, 1, 1]]
    found = of(ours, theirs, independent)
    for row, (b, c) in enumerate(zip(ours, theirs, strict=True)):
        pairs = [(i, j) for i, j in product(range(3), repeat=2) if independent[i, j]]
        lost = sum(b[i] > c[j] for i, j in pairs) / len(pairs)
        won = sum(b[i] < c[j] for i, j in pairs) / len(pairs)
        among = [sum(x != y for x, y in combinations(side, 2)) / 3 for side in (b, c)]
        assert float(found.lost[row]) == pytest.approx(lost)
        assert float(found.won[row]) == pytest.approx(won)
        assert float(found.baseline[row]) == pytest.approx(among[0])
        assert float(found.beyond[row]) == pytest.approx(lost + won - sum(among) / 2)


@pytest.mark.parametrize(("p", "q", "draws"), [(0.3, 0.3, 2), (0.9, 0.4, 2), (0.5, 0.7, 3)])
def test_nothing_is_biased(p: float, q: float, draws: int) -> None:
    """Over all outcomes by their chance: p(1 - q) + q(1 - p), 2p(1 - p), and (p - q) squared."""
    outcomes = list(product([0, 1], repeat=2 * draws))
    chances = torch.tensor(
        [
            torch.tensor([(p if x else 1 - p) for x in out[:draws]]).prod()
            * torch.tensor([(q if x else 1 - q) for x in out[draws:]]).prod()
            for out in outcomes
        ],
        dtype=torch.float64,
    )
    found = of(
        [list(out[:draws]) for out in outcomes],
        [list(out[draws:]) for out in outcomes],
        ~torch.eye(draws).bool(),
    )
    assert float((chances * found.flips).sum()) == pytest.approx(p * (1 - q) + q * (1 - p))
    assert float((chances * found.baseline).sum()) == pytest.approx(2 * p * (1 - p))
    assert float((chances * found.beyond).sum()) == pytest.approx((p - q) ** 2, abs=1e-6)


def test_a_model_drawn_from_once_has_no_floor() -> None:
    """Nothing tells how much it draws, and so what lies beyond."""
    found = of([[1, 0]], [[1]], torch.ones(2, 1).bool())
    assert float(found.flips) == 0.5
    assert found.compressed.isnan().all()
    assert found.beyond.isnan().all()


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_intervals_hold_and_the_same_model_is_not_told_apart(world: World) -> None:
    """150 draws of 200 documents: 95 % intervals in 90 % and more, false alarms below 6 %."""
    found = tally(world, documents=200, draws=3, times=150)
    for name, share in found.coverage.items():
        assert share >= 0.90, name
    if world.change == 0:
        assert found.alarms < 0.06


def test_what_the_simulation_would_find() -> None:
    """Controls: draws of one seed against each other, and one draw against one draw."""
    same = World("mixed", 0.0)
    coupled = tally(same, documents=200, draws=3, times=60, coupled=True, apart=False)
    assert coupled.coverage["flips"] < 0.8
    apart = tally(same, documents=200, draws=3, times=60, coupled=True)
    assert apart.coverage["flips"] > 0.9
    assert tally(same, documents=200, draws=3, times=60, one_draw=True).alarms == 1
