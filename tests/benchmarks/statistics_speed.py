"""`compare` with clusters, bootstrap and a permutation test, against the plain one on the same logs.

    python tests/benchmarks/statistics_speed.py --samples 100000

Whole processes; the ratio is taken round by round, so that it holds when the machine's speed
drifts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.compare_speed import run, show
from tests.generators.long_logs import write_runs

OPTIONS = {
    "plain": ["--metric", "acc"],
    "permutation": ["--metric", "f1"],
    "clustered": ["--metric", "acc", "--cluster", "passage"],
    "bootstrapped": ["--metric", "acc", "--bootstrap", "2000"],
    "all three": ["--cluster", "passage", "--bootstrap", "2000"],
}


def main() -> None:
    """Print the cost of each, and its ratio to the plain comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = write_runs(Path(folder), samples=options.samples, graded=True)
        command = [sys.executable, "-m", "lm_eval_flips", "compare", *map(str, runs)]
        costs = {
            name: [run([*command, *extra]) for _ in range(options.rounds)]
            for name, extra in OPTIONS.items()
        }
    for name, found in costs.items():
        show(name, found)
        ratios = [
            own.seconds / plain.seconds for own, plain in zip(found, costs["plain"], strict=True)
        ]
        print(f"{'':24s} {statistics.median(ratios):6.2f} of plain")


if __name__ == "__main__":
    main()
