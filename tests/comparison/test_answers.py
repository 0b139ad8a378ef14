"""Texts and where they part, from two runs' files to a row's numbers: by hand; what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.report.files.per_sample import to_table
from tests.generators import logs
from tests.generators.distances import write_answer_distances

BEFORE = ["4", "so it is 5", "6", "7, not 8", "9 9", "10"]
AFTER = ["4", "so it is 6", "6", "7", "9 8", "11"]
KL = [[0.0], [0.5, 1.5, 1.0], [0.25], [2.0, 4.0], [0.5, 0.5, 0.5], [8.0]]
PARTING = [None, 2, None, 1, 2, 0]


def records(answers: Sequence[str]) -> list[logs.Record]:
    """Generated samples that said these answers."""
    return [
        logs.text(doc, answer, said=[answer], exact_match=float(answer == "4"))
        for doc, answer in enumerate(answers)
    ]


def compared(
    folder: Path,
    *,
    measured: int = 6,
    baseline: Sequence[str] = BEFORE,
    compressed: Sequence[str] = AFTER,
    near_ties: float = 0.0,
) -> Comparison:
    """Two runs of one task, the first answers measured between what these texts say."""
    base = logs.write_run(folder / "before", {"sums": records(BEFORE)}, model="org/base")
    results = logs.write_run(folder / "after", {"sums": records(AFTER)}, model="org/int4")
    if measured:
        write_answer_distances(
            results,
            baseline=records(baseline)[:measured],
            compressed=records(compressed)[:measured],
            kl=KL.__getitem__,
            parting=PARTING.__getitem__,
            near_ties=near_ties,
        )
    return compare(base.parent.parent, results.parent.parent)


def test_a_row_s_numbers_are_those_counted_by_hand(tmp_path: Path) -> None:
    """Means over samples, the median of those that part, and Wilson's interval of a share."""
    (row,) = compared(tmp_path).compressed[0].tasks
    numbers = row.numbers
    kl = [float(np.mean(own)) for own in KL]
    assert numbers["answer_kl"].value == pytest.approx(np.mean(kl))
    expected = stats.t.interval(0.95, 5, np.mean(kl), stats.sem(kl))
    assert tuple(numbers["answer_kl"].interval) == pytest.approx(expected)
    assert numbers["first_divergence"].value == np.median([2, 1, 2, 0])
    assert numbers["first_divergence"].unit == "tokens"
    assert numbers["never_diverges"].value == pytest.approx(2 / 6)
    expected = proportion_confint(2, 6, method="wilson")
    assert tuple(numbers["never_diverges"].interval) == pytest.approx(expected)
    same = sum(a == b for a, b in zip(BEFORE, AFTER, strict=True))
    assert numbers["same_text"].value == pytest.approx(same / 6)
    assert row.warnings == ()


def test_texts_are_compared_without_any_measurement(tmp_path: Path) -> None:
    """Any two logs; what was not measured is nan, not 0."""
    (row,) = compared(tmp_path, measured=0).compressed[0].tasks
    assert row.numbers["same_text"].value == pytest.approx(2 / 6)
    for key in ("answer_kl", "first_divergence", "never_diverges"):
        assert not row.numbers[key].known


def test_samples_that_were_not_measured_do_not_count(tmp_path: Path) -> None:
    """Numbers are of the others, a warning names them, and the file has null."""
    result = compared(tmp_path, measured=4)
    (row,) = result.compressed[0].tasks
    assert row.numbers["answer_kl"].value == pytest.approx(np.mean([np.mean(k) for k in KL[:4]]))
    assert row.numbers["never_diverges"].value == pytest.approx(2 / 4)
    assert row.numbers["first_divergence"].value == 1.5
    (told,) = (one for one in row.warnings if one.code == "answers-not-measured")
    assert str(told) == "answer KL of sums lacks 2 of 6 samples: doc 4, 5"
    table = to_table(result).to_pydict()
    assert table["exact_match.never_diverges"] == [True, False, True, False, None, None]
    assert table["exact_match.first_divergence"] == [None, 2, None, 1, None, None]
    assert table["exact_match.answer_kl"][4:] == [None, None]
    assert table["exact_match.same_text"] == [True, False, True, False, False, False]


def test_near_ties_of_the_baseline_are_told(tmp_path: Path) -> None:
    """With their share and how near, and only where there are any."""
    (row,) = compared(tmp_path, near_ties=0.03).compressed[0].tasks
    (told,) = (one for one in row.warnings if one.code == "near-ties")
    assert "3.00 %" in str(told)
    assert "0.25 nats" in str(told)


def test_distances_along_another_baseline_s_answers_are_left_out(tmp_path: Path) -> None:
    """The rest is compared, and a warning says why these are not shown."""
    result = compared(tmp_path, baseline=[*BEFORE[:-1], "another answer"])
    (row,) = result.compressed[0].tasks
    assert not row.numbers["answer_kl"].known
    (told,) = (one for one in result.warnings if one.code == "answers-left-out")
    assert "other answers, of 'org/base', than this baseline's (doc 5)" in str(told)


def test_distances_of_another_compressed_run_are_an_error(tmp_path: Path) -> None:
    """They would be shown beside texts that they do not belong to."""
    with pytest.raises(
        FlipsError, match=r"other answers than the compressed run logged \(doc 1, 3"
    ):
        compared(tmp_path, compressed=BEFORE)
