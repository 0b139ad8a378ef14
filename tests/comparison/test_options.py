"""The options of a comparison: one list, its defaults, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest

from lm_eval_flips.comparison.options import CompareOptions, Options
from lm_eval_flips.measures.bootstrap import Bootstrap


def test_the_keywords_and_the_record_are_the_same_list() -> None:
    """Neither has an option that the other lacks, and they stand in one order."""
    assert list(CompareOptions.__annotations__) == [field.name for field in fields(Options)]


def test_what_is_given_makes_the_same_record_again() -> None:
    """An identity; a record with another value is another one, so that it can fail."""
    asked = Options(metric="acc", on_nan="exclude", bootstrap=Bootstrap(replicates=300, seed=7))
    assert Options(**asked.given) == asked
    assert replace(asked, near_kl=0.5) != asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("on_mismatch='drop'", "on_mismatch 'drop' is none of: error, intersect"),
        ("on_nan='intersect'", "on_nan 'intersect' is none of: error, exclude"),
        ("on_nan='exclude', on_mismatch='intersect'", ""),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(options: str, message: str) -> None:
    """As from Python, where no parser stands before it; in a process without type checks."""
    code = (
        "from lm_eval_flips.comparison.options import FlipsError, Options\n"
        f"try:\n    Options({options})\nexcept FlipsError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert done.stdout.strip() == message


def test_an_unknown_option_is_an_error() -> None:
    """A misspelt one is never ignored."""
    misspelt: dict[str, Any] = {"noisefloor": "runs/again"}
    with pytest.raises(TypeError, match="noisefloor"):
        Options(**misspelt)


def test_the_options_load_no_torch() -> None:
    """Processes that are forked before torch is loaded read them; compare loads it."""
    code = (
        "import sys, lm_eval_flips.comparison.options\nassert 'torch' not in sys.modules\n"
        "import lm_eval_flips.comparison.compare\nassert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
