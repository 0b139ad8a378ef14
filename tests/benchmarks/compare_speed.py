"""`lm-eval-flips compare` against `errorbars compare` (PyPI errorbars 0.2.4) on the same logs.

    pip install errorbars==0.2.4
    python tests/benchmarks/compare_speed.py --samples 100000 --rounds 5

Whole processes, in turn A B A B; the ratio is taken round by round, so that it holds when the
machine's speed drifts. Peak memory is the largest single process's, as the kernel accounts it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.generators.long_logs import write_runs


class Cost(NamedTuple):
    """One finished process: wall seconds, and megabytes at its peak."""

    seconds: float
    megabytes: float


def run(command: list[str]) -> Cost:
    """Run a command to its end, its output thrown away."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} failed with status {status}")
    return Cost(time.perf_counter() - started, usage.ru_maxrss / 1024)


def show(name: str, costs: list[Cost]) -> None:
    """Minimum, median and maximum of the rounds."""
    seconds = sorted(cost.seconds for cost in costs)
    memory = max(cost.megabytes for cost in costs)
    print(
        f"{name:24s} {seconds[0]:6.2f} {statistics.median(seconds):6.2f} {seconds[-1]:6.2f} s"
        f"   peak {memory:6.0f} MB"
    )


def main() -> None:
    """Print the costs and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="without errorbars")
    options = parser.parse_args()
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        runs = [str(path) for path in write_runs(Path(folder), samples=options.samples)]
        ours = [str(tools / "lm-eval-flips"), "compare", *runs]
        theirs = [str(tools / "errorbars"), "compare", *runs]
        run(ours)  # warms the page cache
        costs: list[Cost] = []
        others: list[Cost] = []
        for _ in range(options.rounds):
            costs.append(run(ours))
            if not options.alone:
                others.append(run(theirs))
    print(f"{options.samples} samples, {options.rounds} rounds          min    med    max")
    show("lm-eval-flips compare", costs)
    if others:
        show("errorbars compare", others)
        ratios = [a.seconds / b.seconds for a, b in zip(costs, others, strict=True)]
        middle = statistics.median(ratios)
        print(f"ratio of wall time: median {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
