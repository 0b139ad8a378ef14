"""The flipped samples as text: the surest first, with question, choices and both answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_flips import compare
from lm_eval_flips.report.text.flipped import flipped_samples
from tests.generators import logs


def test_the_flips_that_the_baseline_was_surest_of_come_first(tmp_path: Path) -> None:
    """Three flips by falling top margin, those that did not flip left out."""
    margins = {0: -1.1, 1: -4.0, 2: -2.0}
    paths = []
    for name in ("base", "int4"):
        records = [
            logs.choice(i, [-1.0, low] if name == "base" else [low, -1.0], question=f"Q{i}?")
            for i, low in margins.items()
        ]
        records.append(logs.choice(3, [-1.0, -9.0 if name == "base" else -8.0], question="Q3?"))
        paths.append(logs.write_run(tmp_path / name, {"task": records}))
    found = list(flipped_samples(compare(*paths), limit=2))
    assert [sample.doc_id for sample in found] == [1, 2]
    assert found[0].direction == "correct → incorrect"
    assert "Q1?" in found[0].question
    first, second = found[0].choices
    assert (first.text, first.baseline_answer, first.compressed_answer) == ("oak", True, False)
    assert (second.text, second.baseline_answer, second.compressed_answer) == ("elm", False, True)
    assert first.baseline == pytest.approx(second.compressed)
    assert first.baseline + second.baseline == pytest.approx(1.0)


def test_generated_answers_are_shown_side_by_side(tmp_path: Path) -> None:
    """Both texts, no probabilities."""
    paths = [
        logs.write_run(tmp_path / name, {"task": [logs.text(0, said), logs.text(1, "4")]})
        for name, said in (("a", "4"), ("b", "five"))
    ]
    (sample,) = flipped_samples(compare(*paths), limit=5)
    assert [choice.text for choice in sample.choices] == ["4", "five"]
    assert sample.target == "4"
