"""The list of per-sample values: keys, shapes, and where each is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr

from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.pairs.logged_metrics import paired_metrics
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import pair
from lm_eval_flips.pairs.sample_values import AGGREGATED, MARKS, SAMPLE_VALUES, Unit
from tests.generators import logs

BEFORE = [[-1.0, -2.0, -3.0], [-1.0, -2.5, -2.0], [-3.0, -1.0, -1.5], [-2.0, -1.0, -4.0]]
AFTER = [[-2.0, -1.0, -3.0], [-1.5, -2.5, -2.0], [-1.0, -2.0, -1.5], [-2.0, -3.0, -1.0]]
GOLD = [0, 0, 0, 0]  # lost, kept, won, wrong to another wrong


@pytest.fixture
def metric(tmp_path: Path) -> PairedMetric:
    """Four questions: an answer lost, one kept, one won, one wrong in two ways."""
    sides = []
    for name, scores in (("before", BEFORE), ("after", AFTER)):
        records = [
            logs.choice(i, own, gold=gold, metrics=("acc",))
            for i, (own, gold) in enumerate(zip(scores, GOLD, strict=True))
        ]
        run = load_run(logs.write_run(tmp_path / name, {"task": records}))
        sides.append(read_samples(run.tasks["task"])["none"])
    (found,) = paired_metrics(pair(*sides))
    return found


def test_every_key_and_every_table_key_stands_once() -> None:
    """Two values of one name would hide each other in a file; marks have a share of another name."""
    keys = [value.key for value in SAMPLE_VALUES]
    assert len(set(keys)) == len(keys)
    assert len(AGGREGATED) == sum(value.aggregation is not None for value in SAMPLE_VALUES)
    assert set(MARKS) == {"correct_to_incorrect", "incorrect_to_correct", "answers_changed"}
    assert not set(MARKS) & set(AGGREGATED)


def test_the_marks_are_those_counted_by_hand(metric: PairedMetric) -> None:
    """Lost, kept, won, wrong in another way."""
    marks = {
        value.key: column.tolist()
        for value in SAMPLE_VALUES
        if value.unit is Unit.MARK and (column := value.of(metric)) is not None
    }
    assert marks == {
        "flips": [True, False, True, False],
        "correct_to_incorrect": [True, False, False, False],
        "incorrect_to_correct": [False, False, True, False],
        "all_flips": [True, False, True, True],
        "answers_changed": [True, False, True, True],
    }


def test_the_columns_of_numbers_are_scipy_s(metric: PairedMetric) -> None:
    """KL both ways, by scipy's relative entropy; the correlation's columns are KL and flips."""
    p, q = (np.exp(log_softmax(np.array(own), axis=1)) for own in (BEFORE, AFTER))
    columns = {value.key: value.of(metric) for value in SAMPLE_VALUES}
    forth, back = columns["choice_kl"], columns["choice_kl_reverse"]
    both = columns["flips_kl_correlation"]
    assert forth is not None
    assert back is not None
    assert both is not None
    assert forth.tolist() == pytest.approx(rel_entr(p, q).sum(1).tolist())
    assert back.tolist() == pytest.approx(rel_entr(q, p).sum(1).tolist())
    assert both.tolist() == [
        [kl, flip] for kl, flip in zip(forth.tolist(), [1, 0, 1, 0], strict=True)
    ]


def test_what_a_metric_does_not_have_is_none(metric: PairedMetric) -> None:
    """No text, no vocabulary was measured: undefined, not 0."""
    columns = {value.key: value.of(metric) for value in SAMPLE_VALUES}
    undefined = {key for key, column in columns.items() if column is None}
    written = {
        f"{side}_{sign}"
        for side in ("baseline", "compressed")
        for sign in ("length", "empty", "invalid", "looped", "truncated")
    }
    assert undefined == {
        *("token_kl", "perplexity_ratio", "bits_per_byte_change", "script_switched"),
        *("expected_flips", "flips_beyond_seeds"),
        *("baseline_judge_score", "compressed_judge_score", "judge_preference"),
        *written,
        *("same_text", "answer_kl", "first_divergence", "never_diverges", "divergence_gap"),
    }
