"""Do intervals of flips of drawn answers hold, and is a model told apart from itself? A simulation.

    python tests/benchmarks/several_draws.py --times 1000

Documents have success rates under both models, drawn from a world whose truth is known; of each
model several answers are drawn. Counts how often the 95 % intervals hold the truth, and how often
two models are told apart by ``flips_beyond_seeds``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lm_eval_flips.measures.several_draws import drawn_flips
from lm_eval_flips.measures.shares import share_interval
from lm_eval_flips.measures.significance import mean_interval

RATES = {"mixed": (1.0, 1.0), "sure": (0.3, 0.3), "rare": (0.15, 0.6)}  # beta's two parameters
TRUTH = 400_000  # documents that true values are taken from
NAMES = ("flips", "lost", "baseline", "beyond")


@dataclass(frozen=True)
class World:
    """Documents' success rates by a beta curve, of which half fall by ``change``."""

    rates: str
    change: float

    def draw(self, n: int, source: np.random.Generator) -> tuple[NDArray[np.float64], ...]:
        """Both models' success rates of n documents."""
        ours = source.beta(*RATES[self.rates], n)
        falls = source.random(n) < 0.5
        return ours, np.where(falls, np.clip(ours - self.change, 0, 1), ours)

    @lru_cache  # noqa: B019  (worlds are few)
    def truth(self) -> dict[str, float]:
        """What holds of all documents."""
        p, q = self.draw(TRUTH, np.random.default_rng(1))
        lost, won = p * (1 - q), q * (1 - p)
        among = 2 * p * (1 - p)
        found = {"flips": lost + won, "lost": lost, "baseline": among, "beyond": (p - q) ** 2}
        return {name: float(values.mean()) for name, values in found.items()}


WORLDS = [World(rates, change) for rates in RATES for change in (0.0, 0.2)]


@dataclass(frozen=True)
class Tally:
    """How often each interval held the truth, and how often something was beyond the draws."""

    coverage: Mapping[str, float]
    alarms: float


def tally(
    world: World,
    *,
    documents: int,
    draws: int,
    times: int,
    coupled: bool = False,
    apart: bool = True,
    one_draw: bool = False,
) -> Tally:
    """Draw so many times, and count.

    Args:
        world: where from.
        documents: of each time.
        draws: of each model.
        times: how often.
        coupled: draws of one seed share their random numbers.
        apart: pairs of one seed are left out.
        one_draw: hold one draw against one draw, as flips are of runs at temperature 0.
    """
    source, truth = np.random.default_rng(0), world.truth()
    held, alarms = dict.fromkeys(NAMES, 0), 0
    independent = ~torch.eye(draws).bool() if apart else torch.ones(draws, draws).bool()
    for _ in range(times):
        p, q = world.draw(documents, source)
        numbers = source.random((2, documents, draws))
        theirs = numbers[0] if coupled else numbers[1]
        sides = [torch.from_numpy(numbers[0] < p[:, None]), torch.from_numpy(theirs < q[:, None])]
        found = drawn_flips(
            baseline=sides[0].double(), compressed=sides[1].double(), independent=independent
        )
        if one_draw:
            alarms += bool((sides[0][:, 0] != sides[1][:, 0]).any())
            continue
        for name in NAMES:
            values = getattr(found, name)
            mean, error = float(values.mean()), float(values.std()) / documents**0.5
            if name == "beyond":
                low, high = mean_interval(mean, error, documents - 1)
                alarms += low > 0
            else:
                low, high = share_interval(mean, documents, error, documents - 1, fractions=True)
            held[name] += low <= truth[name] <= high
    return Tally({name: count / times for name, count in held.items()}, alarms / times)


def main() -> None:
    """Print a line for each world, number of documents and of draws."""
    parser = argparse.ArgumentParser(description="Coverage of flips of drawn answers.")
    parser.add_argument("--times", type=int, default=1000)
    arguments = parser.parse_args()
    print(
        f"{'world':<12}{'documents':>10}{'draws':>6}", *(f"{name:>9}" for name in NAMES), "  apart"
    )
    for world in WORLDS:
        for documents in (100, 400):
            for draws in (2, 3, 5):
                found = tally(world, documents=documents, draws=draws, times=arguments.times)
                shares = (f"{found.coverage[name]:>9.1%}" for name in NAMES)
                name = f"{world.rates} {world.change:g}"
                print(f"{name:<12}{documents:>10}{draws:>6}", *shares, f"{found.alarms:>7.1%}")


if __name__ == "__main__":
    main()
