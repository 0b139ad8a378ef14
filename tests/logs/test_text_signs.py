"""What answers show of themselves: by a search of all units, by hand, and from files."""

from __future__ import annotations

from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.logs.text_signs import is_looped, script_of, truncated
from tests.generators import logs

EXTRACTS = {"name": "strict", "filter": [{"function": "regex"}, {"function": "take_first"}]}
LONG = "We count the apples of each of the three baskets one after the other. "


def looped_by_search(text: str) -> bool:
    """Every unit tried: its copies, the last of which may be cut, reach 60 characters and three."""
    for unit in range(1, len(text) // 3 + 1):
        size = unit
        while size < len(text) and text[len(text) - size - 1] == text[len(text) - size - 1 + unit]:
            size += 1
        if size >= max(3 * unit, 60):
            return True
    return False


def test_loops_are_those_that_a_search_of_all_units_finds() -> None:
    """Random texts of few letters, with and without a tail of copies."""
    generator = np.random.default_rng(0)
    seen = {True: 0, False: 0}
    for _ in range(600):
        letters = "".join(generator.choice(list("ab c"), generator.integers(0, 90)))
        unit = "".join(generator.choice(list("ab c"), generator.integers(1, 40)))
        copies = unit * int(generator.integers(0, 30))
        text = letters + copies[: len(copies) - int(generator.integers(0, len(unit)))]
        assert is_looped(text) == looped_by_search(text), text
        seen[is_looped(text)] += 1
    assert min(seen.values()) > 100


def test_an_answer_is_cut_only_where_the_log_can_tell() -> None:
    """A token has a byte at least, and a word a token."""
    assert truncated("x" * 255, 256, looped=False) == 0
    assert isnan(truncated("x" * 256, 256, looped=False))
    assert truncated("é" * 128, 256, looped=True) == 1  # bytes, not characters
    assert truncated("w " * 256, 256, looped=False) == 1
    assert isnan(truncated("w " * 255, 256, looped=False))
    assert isnan(truncated("w " * 255, None, looped=True))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Die Antwort lautet: zweiundvierzig", "The answer is forty-two, I think", True),
        (
            "答案是四十二因为六乘以七等于四十二所以是这个",
            "答えは四十二です。なぜなら六かける七だから",
            True,
        ),
        ("The answer is forty-two, I think", "答案是四十二因为六乘以七等于四十二所以是这个", False),
        ("The answer is forty-two, I think", "Ответ: сорок два, потому что так", False),
        ("The area is πππππ of a circle of this radius", "The answer is forty-two, I think", True),
    ],
)
def test_scripts_are_told_apart(one: str, other: str, same: bool) -> None:
    """By most letters; a language of the same script is not seen."""
    assert (script_of(one) == script_of(other)) is same


def read(folder: Path, answers: list[tuple[str, str]], **config: Any) -> dict[str, list[float]]:
    """The signs of samples with these answers and responses, under the filter "strict"."""
    records = [
        logs.text(i, answer, said=[said], filter="strict")
        for i, (answer, said) in enumerate(answers)
    ]
    for record in records:
        record["arguments"]["gen_args_0"]["arg_1"]["max_gen_toks"] = 64
    run = load_run(logs.write_run(folder, {"sums": records}, configs={"sums": config}))
    samples = read_samples(run.tasks["sums"])["strict"]
    return {name: values.tolist() for name, values in samples.signs.items()}


ANSWERS = [
    ("4", "So it is 4."),
    ("", "  \n"),
    ("[invalid]", "I do not know."),
    ("[invalid]", LONG * 3),
    ("[invalid]", LONG + LONG[:30]),
    ("4", "The answer is 4. " * 9),
]


def test_signs_are_read_from_a_file(tmp_path: Path) -> None:
    """Counted by hand; a fallback of the task's own is known, as the usual one is."""
    signs = read(tmp_path, ANSWERS, filter_list=[EXTRACTS])
    assert signs["length"] == [len(said) for _, said in ANSWERS]
    assert signs["empty"] == [0, 1, 0, 0, 0, 0]
    assert signs["looped"] == [0, 0, 0, 1, 0, 1]
    assert signs["invalid"] == [0, 0, 1, 1, 1, 0]
    assert signs["truncated"] == pytest.approx([0, 0, 0, 1, nan, 0], nan_ok=True)
    own = {"function": "regex", "fallback": "nothing"}
    words = [
        ("nothing", said) if answer == "[invalid]" else (answer, said) for answer, said in ANSWERS
    ]
    given = read(tmp_path / "own", words, filter_list=[{"name": "strict", "filter": [own]}])
    assert given["invalid"] == signs["invalid"]


def test_a_filter_that_extracts_nothing_finds_nothing_invalid(tmp_path: Path) -> None:
    """Control: the same answers under one that only takes the first response."""
    first = {"name": "strict", "filter": [{"function": "take_first"}]}
    signs = read(tmp_path, ANSWERS, filter_list=[first])
    assert not {"invalid", "truncated"} & set(signs)
    assert "looped" in signs


def test_choices_show_no_signs(tmp_path: Path) -> None:
    """Nothing is written there."""
    run = load_run(logs.write_run(tmp_path, {"arc": [logs.choice(0, [-1.0, -2.0])]}))
    assert read_samples(run.tasks["arc"])["none"].signs == {}
