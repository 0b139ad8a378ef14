"""What is shown of a prompt, its choices and answers, and where it is cut."""

from __future__ import annotations

import json
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


TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": 'Q: how many "crates" in 2 boats?\nA:', "type": "text"},
    {"role": "assistant", "content": "6"},
    {"role": "user", "content": [{"type": "text", "text": "Q: in 4 boats?"}, {"type": "image"}]},
]


@pytest.mark.parametrize(
    "context",
    [TURNS, json.dumps(TURNS), [json.dumps(TURNS)]],
    ids=["messages", "their JSON", "a list of their JSON"],
)
def test_a_conversation_shows_its_last_question(tmp_path: Path, context: Any) -> None:
    """However an API's prompt is logged: no source code of it, and no examples."""
    paths = []
    for name, answer in (("a", "4"), ("b", "5")):
        record = logs.text(0, answer, said=[answer])
        record["arguments"]["gen_args_0"]["arg_0"] = context
        paths.append(logs.write_run(tmp_path / name, {"task": [record]}, n_shot={"task": 1}))
    (sample,) = read_changed(find_changed(compare(*paths)))
    assert sample.text.question == "Q: in 4 boats?\n[image]"
    assert (sample.text.shots, sample.text.cut) == (1, 0)


def test_a_conversation_without_examples_is_shown_whole(tmp_path: Path) -> None:
    """Turns before the last are then part of the question, with who said what."""
    paths = []
    for name, answer in (("a", "4"), ("b", "5")):
        record = logs.text(0, answer, said=[answer])
        record["arguments"]["gen_args_0"]["arg_0"] = json.dumps([*TURNS[1:3], TURNS[1]])
        paths.append(logs.write_run(tmp_path / name, {"task": [record]}))
    (sample,) = read_changed(find_changed(compare(*paths)))
    question = TURNS[1]["content"]
    assert sample.text.question == f"user: {question}\nassistant: 6\nuser: {question}"


def test_a_prompt_that_looks_like_messages_is_a_prompt(tmp_path: Path) -> None:
    """Control: a list of other things, in a question about JSON."""
    for number, prompt in enumerate(('[{"a": 1}] is what?', '[{"a": 1}]', "[1, 2]")):
        assert one_text(tmp_path / str(number), prompt).question == prompt
