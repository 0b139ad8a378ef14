"""Which samples changed, in which order, and with which numbers: held against the raw records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from lm_eval_flips import FlipsError, compare
from lm_eval_flips.logs import reading
from lm_eval_flips.report.changed import sample_text
from lm_eval_flips.report.changed.changed import LOST, RIGHT, WON, WRONG, find_changed, read_changed
from tests.generators import logs, reports


def test_every_changed_sample_is_found_once_with_its_direction(tmp_path: Path) -> None:
    """Recounted from the scores by numpy: flips first, then by falling top margin."""
    comparison = compare(*reports.ordinary(tmp_path, {"int4": 1.5}), metric="acc", tasks="arc")
    before, after = (np.array(reports.scores(0, 60, noise=noise)) for noise in (0.0, 1.5))
    gold = np.arange(60) % 4
    answers = before.argmax(-1), after.argmax(-1)
    shares = np.sort(softmax(before, -1), -1)
    margin = shares[:, -1] - shares[:, -2]
    changed = np.flatnonzero(answers[0] != answers[1])
    right = answers[0] == gold, answers[1] == gold
    flipped = right[0] ^ right[1]
    expected = sorted(changed.tolist(), key=lambda i: (not flipped[i], -margin[i]))
    found = find_changed(comparison)
    assert [own.doc_id for own in found] == expected
    directions = {(True, False): LOST, (False, True): WON, (False, False): WRONG}
    assert [own.direction for own in found] == [
        directions[bool(right[0][i]), bool(right[1][i])] for i in expected
    ]
    assert [own.margin for own in found] == pytest.approx(margin[expected].tolist())
    row = comparison.compressed[0].tasks[0].flips
    assert row is not None
    counts = Counter(own.direction for own in found)
    assert counts == {
        LOST: row.correct_to_incorrect,
        WON: row.incorrect_to_correct,
        WRONG: row.wrong_to_wrong,
    }


def test_the_numbers_of_a_sample_are_those_of_its_log_likelihoods(tmp_path: Path) -> None:
    """Both probabilities of every choice and the KL by scipy, for acc_norm too."""
    paths = reports.ordinary(tmp_path, {"int4": 1.5})
    lengths = np.array([len(choice) for choice in ("oak", "elm", "ash", "fir")])
    for metric, divisor in (("acc", 1), ("acc_norm", lengths)):
        comparison = compare(*paths, metric=metric, tasks="arc")
        before, after = (
            softmax(np.array(reports.scores(0, 60, noise=noise)) / divisor, -1)
            for noise in (0.0, 1.5)
        )
        # whatever the metric, the KL is of the log-likelihoods as they are
        raw = [softmax(np.array(reports.scores(0, 60, noise=noise)), -1) for noise in (0.0, 1.5)]
        samples = read_changed(find_changed(comparison))
        assert len(samples) > 10
        for sample in samples:
            i = sample.found.doc_id
            assert [choice.baseline for choice in sample.choices] == pytest.approx(before[i])
            assert [choice.compressed for choice in sample.choices] == pytest.approx(after[i])
            assert sample.choice_kl == pytest.approx(entropy(raw[0][i], raw[1][i]))
            assert [choice.gold for choice in sample.choices] == [i % 4 == k for k in range(4)]
            assert [choice.baseline_answer for choice in sample.choices].index(True) == before[
                i
            ].argmax()
            assert [choice.compressed_answer for choice in sample.choices].index(True) == after[
                i
            ].argmax()
            assert sample.text.question.startswith(f"Question {i} of arc")


def test_generated_text_has_answers_and_all_that_was_said(tmp_path: Path) -> None:
    """No choices and no margin; what stayed right in other words is a change, but no flip."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {
                "task": [
                    logs.text(0, said, said=[f"So {said}."], exact_match=1.0),
                    logs.text(1, said),
                ]
            },
        )
        for name, said in (("a", "4"), ("b", "four"))
    ]
    flipped, kept = read_changed(find_changed(compare(*paths)))
    assert flipped.found.direction == LOST
    assert kept.found.direction == RIGHT
    assert kept.answers == ("4", "four")
    assert kept.said == ("So 4.", "So four.")
    assert kept.choices == ()
    assert np.isnan(kept.choice_kl)
    assert np.isnan(kept.found.margin)


def test_a_cloze_shows_its_continuation_with_both_probabilities(tmp_path: Path) -> None:
    """The exponential of the log-likelihood; the answer of the run that found it likeliest."""
    paths = [
        logs.write_run(tmp_path / name, {"task": [logs.cloze(0, value, greedy=greedy)]})
        for name, value, greedy in (("a", -0.5, True), ("b", -1.5, False))
    ]
    (sample,) = read_changed(find_changed(compare(*paths)))
    (choice,) = sample.choices
    assert choice.text == "end"
    assert (choice.baseline, choice.compressed) == pytest.approx((np.exp(-0.5), np.exp(-1.5)))
    assert (choice.gold, choice.baseline_answer, choice.compressed_answer) == (True, True, False)


def test_perplexities_have_no_changed_samples(tmp_path: Path) -> None:
    """Nothing there is right or wrong."""
    paths = [
        logs.write_run(tmp_path / name, {"task": [logs.rolling(i, value, "a b c") for i in (0, 1)]})
        for name, value in (("a", -5.0), ("b", -6.0))
    ]
    assert find_changed(compare(*paths)) == []


def test_every_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs: the baseline's three files, and the compressed ones only for what they wrote."""
    comparison = compare(*reports.ordinary(tmp_path, {"q8": 0.5, "q4": 1.5, "q3": 3.0}))
    opened: list[str] = []

    def counted(task: Any, lines: Any) -> Any:
        opened.append(str(task.path))
        return reading.each_line(task, lines)

    monkeypatch.setattr(sample_text, "each_line", counted)
    samples = read_changed(find_changed(comparison))
    assert len({sample.found.run for sample in samples}) == 3
    assert len(opened) == len(set(opened)) == 3 + 3


@pytest.mark.parametrize("harm", ["removed", "shortened", "mixed", "cut"])
def test_a_file_that_changed_since_is_an_error(tmp_path: Path, harm: str) -> None:
    """Gone, too short, with other documents, or not JSON: one line that says which file."""
    comparison = compare(*reports.ordinary(tmp_path, {"int4": 1.5}), tasks="arc")
    (file,) = (tmp_path / "base").rglob("samples_arc_*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    if harm == "removed":
        file.unlink()
    elif harm == "shortened":
        file.write_text("".join(lines[:3]))
    elif harm == "mixed":
        file.write_text("".join(reversed(lines)))
    else:
        file.write_text("".join(line[:40] + "\n" for line in lines))
    message = {
        "removed": "cannot be read again",
        "shortened": "is shorter than it was",
        "mixed": "holds other samples than when it was compared",
        "cut": "cannot be read again",
    }
    with pytest.raises(FlipsError, match=message[harm]):
        read_changed(find_changed(comparison))
