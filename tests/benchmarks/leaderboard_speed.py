"""`lm-eval-flips leaderboard` of many runs: all of them, then one that is new, then none.

    python tests/benchmarks/leaderboard_speed.py FOLDER --runs 50 --rounds 2

writes 50 compressed runs of 57 tasks and 14,000 samples into FOLDER if they are not there yet
(2 GB), and measures whole processes that write the page and the CSV. Goals on 2 cores: 20 s, and
3 s where one run is new.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lm_eval_flips.leaderboard.cache import FOLDER
from tests.generators.many_tasks import write_many

GOALS = {"all runs are new": "20 s", "one run is new": "3 s", "none is new": ""}


def seconds(folder: Path) -> float:
    """One board, as a process of its own."""
    command = [
        *(sys.executable, "-m", "lm_eval_flips", "leaderboard", str(folder)),
        *("--baseline", str(folder / "baseline"), "--equivalence-margin", "0.01"),
        *("--output", str(folder / "board.html"), "--csv", str(folder / "board.csv")),
    ]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def touch(run: Path) -> None:
    """Make a run a new one: its results file gets another time."""
    for file in run.rglob("results_*.json"):
        found = file.stat()
        os.utime(file, ns=(found.st_atime_ns, time.time_ns()))


def main() -> None:
    """Print the best and the worst of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if not options.folder.exists():
        write_many(options.folder, compressed=options.runs)
    costs: dict[str, list[float]] = {name: [] for name in GOALS}
    last = sorted(path for path in options.folder.iterdir() if path.is_dir())[-1]
    for _ in range(options.rounds):
        shutil.rmtree(options.folder / FOLDER, ignore_errors=True)
        costs["all runs are new"].append(seconds(options.folder))
        touch(last)
        costs["one run is new"].append(seconds(options.folder))
        costs["none is new"].append(seconds(options.folder))
    for name, found in costs.items():
        goal = f"   goal {GOALS[name]}" if GOALS[name] else ""
        print(f"{name:18s} {min(found):6.2f} to {max(found):6.2f} s{goal}")
    for name in ("board.html", "board.csv"):
        print(f"{name:18s} {(options.folder / name).stat().st_size / 1e6:6.2f} MB")


if __name__ == "__main__":
    main()
