"""Make the pictures of the README, as SVG, from the runs that the quickstart leaves.

    bash examples/quickstart.sh
    python examples/pictures.py quickstart/runs

The folder holds the run of the baseline, a second one as its noise floor, and every other one is a
compressed model. The same runs give the same files to the last byte.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import vl_convert

from lm_eval_flips import Comparison, compare
from lm_eval_flips.report.charts import charts_of

BASELINE, FLOOR = "baseline", "noise-floor"
PICTURES = ("flips-score-change", "losses-gains", "change-rate-top-margin")


def compared(runs: Path) -> Comparison:
    """Compare every compressed run of a quickstart with its baseline."""
    others = sorted(
        folder
        for folder in runs.iterdir()
        if folder.is_dir() and folder.name not in (BASELINE, FLOOR)
    )
    floor = runs / FLOOR
    return compare(
        runs / BASELINE, *reversed(others), noise_floor=floor if floor.is_dir() else None
    )


def write_pictures(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the README's pictures as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = charts_of(comparison)
    files = []
    for slug in PICTURES:
        files.append(folder / f"{slug}.svg")
        files[-1].write_text(vl_convert.vegalite_to_svg(charts[slug].file_spec()), encoding="utf-8")
    return files


def main() -> None:
    """Write the pictures and print their names and captions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="the quickstart's runs")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "pictures")
    options = parser.parse_args()
    comparison = compared(options.runs)
    captions = charts_of(comparison)
    for file in write_pictures(comparison, options.output):
        print(f"{file.name}: {captions[file.stem].caption}")


if __name__ == "__main__":
    main()
