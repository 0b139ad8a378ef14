"""After how many questions is a limit decided, and how often wrongly? Real runs, and a simulation.

    python tests/benchmarks/until_decided.py runs/baseline runs/int8 runs/fp8 --orders 300
    python tests/benchmarks/until_decided.py --times 3000

With runs: each compressed run is judged in so many random orders of all its questions, as ``run
--until max-flips=LIMIT`` does. Without: so many orders of 2,961 questions of which exactly the
limit flips, looked at after every single one; a verdict of either kind is then a wrong one, up to
the last question, where all is known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lm_eval_flips import compare
from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.gate.evidence import LEVEL
from lm_eval_flips.measures.betting import Draws, p_at_least, p_at_most

WHOLE = 2961
MOST = np.iinfo(np.int64).max


def decided(marks: Tensor, limit: float) -> tuple[int, str]:
    """After how many draws in this order a limit on their share is decided, and how."""
    draws = Draws(values=marks.double(), whole=len(marks), low=0.0, high=1.0)
    kept, broken = p_at_least(draws, limit) <= LEVEL, p_at_most(draws, limit) <= LEVEL
    kept[-1], broken[-1] = marks.double().mean() <= limit, marks.double().mean() > limit
    firsts = [int(own.double().argmax()) + 1 if bool(own.any()) else MOST for own in (kept, broken)]
    return min(firsts), "pass" if firsts[0] < firsts[1] else "fail"


def wrong_verdicts(times: int, limit: float, whole: int = WHOLE) -> tuple[float, float]:
    """The share of orders in which the limit is called kept, and broken, before the last question.

    Exactly so many flip that the share is the limit, the next larger whole number for "kept" to be
    wrong and the next smaller for "broken".
    """
    source = torch.Generator().manual_seed(0)
    found = []
    for wrong, count in (("pass", int(limit * whole) + 1), ("fail", int(limit * whole))):
        marks = torch.zeros(whole).bool()
        marks[:count] = True
        hits = 0
        for _ in range(times):
            place, how = decided(marks[torch.randperm(whole, generator=source)], limit)
            hits += how == wrong and place < whole
        found.append(hits / times)
    return found[0], found[1]


def lines(paths: Sequence[Path], orders: int, limit: float) -> Iterator[str]:
    """A line a run: its flips, the median and the quartiles of questions, wrong verdicts."""
    yield f"{'run':<34}{'n':>6}{'flips':>9}{'median':>8}{'quartiles':>12}{'wrong':>7}"
    for run in compare(*map(str, paths)).compressed:
        marks = torch.cat([m.flipped for m in primaries(run.metrics) if m.flipped is not None])
        source = torch.Generator().manual_seed(0)
        found = [
            decided(marks[torch.randperm(len(marks), generator=source)], limit)
            for _ in range(orders)
        ]
        share = float(marks.double().mean())
        right = "pass" if share <= limit else "fail"
        low, middle, high = np.quantile([place for place, _ in found], (0.25, 0.5, 0.75))
        wrong = np.mean([how != right for _, how in found])
        yield (
            f"{Path(run.model).name[-33:]:<34}{len(marks):>6}{share:>9.2%}{middle:>8.0f}"
            f"{f'{low:.0f}, {high:.0f}':>12}{wrong:>7.1%}"
        )


def main() -> None:
    """Print a line for each run, or the two shares of wrong verdicts."""
    parser = argparse.ArgumentParser(description="Questions until a limit on flips is decided.")
    parser.add_argument("runs", nargs="*", type=Path, help="the baseline's, and compressed ones")
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--times", type=int, default=3000)
    parser.add_argument("--limit", type=float, default=0.1)
    asked = parser.parse_args()
    if asked.runs:
        for line in lines(asked.runs, asked.orders, asked.limit):
            print(line)
        return
    kept, broken = wrong_verdicts(asked.times, asked.limit)
    print(
        f"{asked.times} orders of {WHOLE}, exactly at {asked.limit:g}: "
        f"wrongly kept {kept:.2%}, wrongly broken {broken:.2%}"
    )


if __name__ == "__main__":
    main()
