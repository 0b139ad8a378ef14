"""What to say of a folder that holds no run of the harness."""

from __future__ import annotations

from pathlib import Path

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.names import OLD_SAMPLES_NAME, SAMPLES_NAME
from lm_eval_flips.logs.results import old_samples


def nothing_in(folder: Path) -> FlipsError:
    """What lies in a folder instead of a run, and what to give."""
    loose = sorted(file for file in folder.iterdir() if SAMPLES_NAME.fullmatch(file.name))
    if loose:
        return FlipsError(
            f"'{folder}' has samples but no results_*.json; give one samples file instead, "
            f"such as '{loose[0]}'"
        )
    old = sorted(file for file in folder.iterdir() if OLD_SAMPLES_NAME.fullmatch(file.name))
    if old:
        return old_samples(old[0])
    deeper = sorted({f"{file.parent.parent}" for file in folder.glob("*/*/results_*.json")})
    if deeper:
        return FlipsError(f"'{folder}' holds several runs; give one of them: {named(deeper)}")
    dumps = sorted(f"{file}" for file in folder.glob("*.json") if _may_be_results(file))
    if dumps:
        return FlipsError(
            f"'{folder}' holds no results_*.json with a date in its name; if one of its files is "
            f"what simple_evaluate returned, give that file: {named(dumps)}"
        )
    return FlipsError(
        f"'{folder}' holds no results_*.json of lm_eval; run lm_eval with --log_samples "
        "--output_path and give that folder"
    )


def _may_be_results(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return b'"results"' in content.read(1 << 12)
