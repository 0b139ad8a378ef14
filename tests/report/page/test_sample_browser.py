"""The browser's data: each text once, every sample with its own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_eval_flips import compare
from lm_eval_flips.report.changed.changed import find_changed, read_changed
from lm_eval_flips.report.page.embedded import json_text
from lm_eval_flips.report.page.sample_browser import browser_data
from tests.generators import reports


def test_texts_stand_once_and_numbers_for_each_run(tmp_path: Path) -> None:
    """Three runs that change the same questions share their texts."""
    comparison = compare(*reports.ordinary(tmp_path, {"q8": 0.5, "q4": 1.5, "q3": 3.0}))
    found = find_changed(comparison)
    data = browser_data(comparison, found)
    assert data["runs"] == ["q8", "q4", "q3"]
    keys = [(text["task"], text["filter"], text["doc"]) for text in data["documents"]]
    assert len(keys) == len(set(keys)) < len(found)
    for shown, sample in zip(data["samples"], read_changed(found), strict=True):
        text = data["documents"][shown["document"]]
        assert (text["task"], text["doc"]) == (
            sample.found.metric.pairs.task,
            sample.found.doc_id,
        )
        assert shown["run"] == sample.found.run
        assert text["question"] == sample.text.question
        if sample.choices:
            assert shown["p"] == pytest.approx([c.compressed for c in sample.choices], rel=1e-3)
            assert text["p"] == pytest.approx([c.baseline for c in sample.choices], rel=1e-3)
            assert shown["choice_kl"] == pytest.approx(sample.choice_kl, rel=1e-5)
            assert text["margin"] == pytest.approx(sample.found.margin, rel=1e-5)
            first, second = shown["answers"]
            assert sample.choices[first].baseline_answer
            assert sample.choices[second].compressed_answer
        else:
            assert shown["answers"] == list(sample.answers or ())
            assert text["margin"] is None
    json.loads(json_text(data))


def test_long_prompts_do_not_fill_the_page(tmp_path: Path) -> None:
    """100 kB of prompt become 3 kB, with the number of characters that are left out."""
    comparison = compare(*reports.hostile(tmp_path))
    data = browser_data(comparison, find_changed(comparison))
    (text,) = [text for text in data["documents"] if text.get("cut")]
    assert text["question"].endswith("and what is the end?")
    assert text["cut"] == reports.LONG + 20 - 3000
    assert len(json_text(data)) < 60_000


def test_a_conversation_has_its_turns_and_an_answer_its_signs(tmp_path: Path) -> None:
    """By hand: three turns of a rendered template; a loop in which no answer was found."""
    comparison = compare(*reports.conversations(tmp_path))
    data = browser_data(comparison, find_changed(comparison))
    first = data["documents"][0]
    assert first["turns"] == [["user", "What is 0?"], ["assistant", "4"], ["user", "And 1?"]]
    assert "<|im_start|>" not in first["question"]
    sample = data["samples"][0]
    assert sample["signs"] == [[], ["invalid", "looped", "truncated"]]
    assert sample["lengths"] == [len(text) for text in sample["said"]]


def test_choices_have_neither(tmp_path: Path) -> None:
    """Control: nothing is written there."""
    comparison = compare(*reports.ordinary(tmp_path, {"q4": 1.5}), tasks="arc")
    data = browser_data(comparison, find_changed(comparison))
    assert not any("turns" in text for text in data["documents"])
    assert not any("signs" in sample or "lengths" in sample for sample in data["samples"])
