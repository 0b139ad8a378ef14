"""What is shown of a prompt, its choices and answers, and where it is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import compare
from lm_eval_flips.report.changed.changed import find_changed, read_changed
from lm_eval_flips.report.changed.sample_text import WHOLE, Limits, SampleText
from tests.generators import logs


def one_text(folder: Path, question: str, *, limits: Limits = WHOLE, **changes: Any) -> SampleText:
    """The text of the one changed sample with this prompt."""
    paths = [
        logs.write_run(folder / name, {"task": [logs.choice(0, row, question=question)]}, **changes)
        for name, row in (("a", [-1.0, -2.0]), ("b", [-2.0, -1.0]))
    ]
    (sample,) = read_changed(find_changed(compare(*paths, metric="acc")), limits=limits)
    return sample.text


def test_few_shot_examples_are_left_out(tmp_path: Path) -> None:
    """Only the question that was asked, and how many examples stood before it."""
    prompt = "Q: one?\nA: 1\n\nQ: two?\nA: 2\n\nQ: three?\nA:"
    text = one_text(tmp_path, prompt, n_shot={"task": 2})
    assert (text.question, text.shots, text.cut) == ("Q: three?\nA:", 2, 0)


def test_without_examples_the_whole_prompt_is_kept(tmp_path: Path) -> None:
    """A blank line alone is no sign of examples."""
    text = one_text(tmp_path, "A passage.\n\nQ: three?\nA:")
    assert (text.question, text.shots) == ("A passage.\n\nQ: three?\nA:", 0)


def test_a_long_prompt_keeps_its_end_and_says_what_was_cut(tmp_path: Path) -> None:
    """100 kB of passage, of which the question is the last line."""
    prompt = "x" * 100_000 + " the end?"
    text = one_text(tmp_path, prompt, limits=Limits(question=50, choice=2, answer=5))
    assert text.question == prompt[-50:]
    assert text.cut == len(prompt) - 50
    assert text.choices == ("ak", "lm")
    whole = one_text(tmp_path / "whole", prompt)
    assert (whole.question, whole.cut) == (prompt, 0)


def test_choices_that_are_contexts_are_shown_with_what_goes_on(tmp_path: Path) -> None:
    """As in winogrande: the choices are the beginnings, the ending is the same for all."""
    paths = [
        logs.write_run(tmp_path / name, {"task": [logs.inputs(0, row)]})
        for name, row in (("a", [-1.0, -2.0]), ("b", [-2.0, -1.0]))
    ]
    (sample,) = read_changed(find_changed(compare(*paths)))
    assert sample.text.choices == ("Story 0: Ann", "Story 0: Bob")
    assert sample.text.ending == "fell."


@pytest.mark.parametrize("said", ["four", ""])
def test_an_answer_may_be_empty(tmp_path: Path, said: str) -> None:
    """What was filtered and what was said are told apart."""
    paths = [
        logs.write_run(tmp_path / name, {"task": [logs.text(0, answer, said=[f"{answer}!"])]})
        for name, answer in (("a", "4"), ("b", said))
    ]
    (sample,) = read_changed(find_changed(compare(*paths)))
    assert sample.answers == ("4", said)
    assert sample.said == ("4!", f"{said}!")
