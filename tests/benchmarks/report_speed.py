"""Measures a report: making it, its size, its first paint, and how fast its filters answer.

    python tests/benchmarks/report_speed.py [--samples 14000] [--compressed 1] [--rounds 3]

writes runs of 57 tasks (``many_tasks.py``), makes their report by the command line in a process of
its own, and opens it in headless Chromium. A filter's response is from its event to the frame after
the rows were drawn anew. The best of the rounds counts, for the
machine may be busy with something else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.browsing import chromium, opened
from tests.generators.many_tasks import write_many

ANSWER = """async ([id, value]) => {
  const node = document.querySelector(id);
  const changed = new Promise((done) => {
    const watch = new MutationObserver(() => (watch.disconnect(), done()));
    watch.observe(document.querySelector("#sample-table tbody"), { childList: true });
  });
  const started = performance.now();
  if (node.type === "checkbox") node.checked = !node.checked;
  else node.value = value;
  node.dispatchEvent(new Event("input", { bubbles: true }));
  await changed;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - started;
}"""
FILTERS: Mapping[str, tuple[str, str]] = {
    "search": ("#sample-search", "e a"),
    "search for less": ("#sample-search", "mmlu_anatomy"),
    "search cleared": ("#sample-search", ""),
    "task": ("#sample-task", "mmlu_virology"),
    "task cleared": ("#sample-task", ""),
    "direction": ("#sample-directions input", ""),
    "margin": ("#margin-low", "0.05"),
    "KL": ("#kl-low", "0.02"),
}
SORT = """() => {
  const node = document.querySelector("#sample-order");
  const started = performance.now();
  node.value = "choice_kl desc";
  node.dispatchEvent(new Event("input", { bubbles: true }));
  return new Promise((done) =>
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - started))));
}"""


def command(arguments: list[str]) -> float:
    """Seconds of one command in a process of its own."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lm_eval_flips", *arguments], check=True, stdout=-3)
    return time.perf_counter() - started


def look(file: Path) -> dict[str, float]:
    """Milliseconds of the first paint, and of every filter and a sort, in one window."""
    found: dict[str, float] = {}
    with chromium() as browser, opened(browser, file) as shown:
        page: Any = shown.page
        paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        found["first paint"] = page.evaluate(paint)
        for name, (place, value) in FILTERS.items():
            found[name] = page.evaluate(ANSWER, [place, value])
        found["sort"] = page.evaluate(SORT)
    return found


def main() -> None:
    """Print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=57)
    parser.add_argument("--samples", type=int, default=14_000)
    parser.add_argument("--compressed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = [
            str(path)
            for path in write_many(
                folder,
                tasks=options.tasks,
                samples=options.samples,
                compressed=options.compressed,
            )
        ]
        file = folder / "report.html"
        seconds: dict[str, list[float]] = {"compare": [], "report": []}
        looks = []
        for _ in range(options.rounds):
            seconds["compare"].append(command(["compare", *runs]))
            made = ["report", *runs, "--output", str(file), "--overwrite"]
            seconds["report"].append(command(made))
            looks.append(look(file))
        for name, taken in seconds.items():
            print(f"{name:<20} {min(taken):6.2f} s   of {[round(own, 2) for own in taken]}")
        print(f"{'file':<20} {file.stat().st_size / 1e6:6.2f} MB")
        for name in looks[0]:
            every = [round(own[name]) for own in looks]
            print(f"{name:<20} {min(every):6} ms  of {every}")


if __name__ == "__main__":
    main()
