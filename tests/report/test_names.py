"""Names that fit stay apart: cut in the middle, by cells, never two alike."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from lm_eval_flips.report.names import shortened

SUBJECTS = [
    "mmlu_high_school_european_history",
    "mmlu_high_school_us_history",
    "mmlu_high_school_world_history",
    "mmlu_high_school_mathematics",
    "mmlu_college_mathematics",
    "arc_challenge, gemma-3-27b-it-gptq-w4a16",
    "arc_challenge, gemma-3-27b-it-gptq-w8a16",
    "arc_challenge, gemma-3-27b-it-awq-w4a16",
    "\u7a7a\u306f\u4f55\u8272\u3067\u3059\u304b_\u5929\u7a7a\u662f\u4ec0\u4e48\u989c\u8272",
    "short",
]


@pytest.mark.parametrize("width", [6, 8, 12, 17, 24, 36, 80])
def test_names_fit_and_stay_apart(width: int) -> None:
    """At every width as many names as before, none wider, those with room whole."""
    found = shortened(SUBJECTS, width)
    assert len(set(found)) == len(SUBJECTS)
    assert max(map(cell_len, found)) <= width
    assert all(
        cut == name for cut, name in zip(found, SUBJECTS, strict=True) if cell_len(name) <= width
    )


def test_cutting_the_end_would_not_tell_them_apart() -> None:
    """Control: the names of this test are alike in their beginnings."""
    assert len({name[:17] for name in SUBJECTS}) < len(SUBJECTS)


def test_equal_names_are_cut_alike() -> None:
    """A task of two metrics has two rows of one name."""
    first, second, other = shortened(["a_task_of_two_metrics"] * 2 + ["a_task_of_one_metric"], 12)
    assert first == second != other


def test_names_that_differ_nowhere_near_an_end_are_numbered() -> None:
    """One letter in the middle of sixty."""
    names = [f"{'a' * 30}{letter}{'b' * 30}" for letter in "xyz"]
    assert shortened(names, 8) == ["aaaaaa…1", "aaaaaa…2", "aaaaaa…3"]
