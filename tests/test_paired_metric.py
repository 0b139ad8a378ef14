"""What a metric compares, which choice that makes the answer, and how ties are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_eval_flips import FlipsError, load_run
from lm_eval_flips.paired_metric import PairedMetric, paired_metrics
from lm_eval_flips.pairing import pair
from lm_eval_flips.reading import read_samples
from tests import logs


def metrics_of(
    folder: Path, before: list[dict[str, Any]], after: list[dict[str, Any]], **more: Any
) -> dict[str, PairedMetric]:
    """The paired metrics of two lists of records, by name."""
    sides = [
        read_samples(
            load_run(logs.write_run(folder / name, {"task": records}, **more)).tasks["task"]
        )["none"]
        for name, records in (("a", before), ("b", after))
    ]
    return {found.metric: found for found in paired_metrics(pair(*sides))}


def test_acc_norm_divides_by_characters_and_acc_bytes_by_bytes(tmp_path: Path) -> None:
    """Of 'ab', 'éé' and 'xyz' each metric answers another choice, as numpy does by hand."""
    choices, scores = ("ab", "éé", "xyz"), [-2.0, -2.1, -3.2]
    metrics = ("acc", "acc_norm", "acc_bytes")
    before = [logs.choice(0, scores, choices=choices, metrics=metrics)]
    after = [logs.choice(0, [-2.5, -2.1, -3.2], choices=choices, metrics=metrics)]
    found = metrics_of(tmp_path, before, after)
    for metric, lengths in (("acc", [1, 1, 1]), ("acc_norm", [2, 2, 3]), ("acc_bytes", [2, 4, 3])):
        answer = found[metric].baseline_answer
        assert answer is not None
        assert answer.tolist() == [int(np.argmax(np.array(scores) / lengths))], metric
    assert {
        name: m.baseline_answer.item() for name, m in found.items() if m.baseline_answer is not None
    } == {
        "acc": 0,
        "acc_norm": 0,
        "acc_bytes": 1,
    }


def test_a_tie_goes_to_the_first_choice_as_in_the_harness(tmp_path: Path) -> None:
    """Trap 10: bfloat16 rounds choices until they tie; np.argmax takes the first, and so do we."""
    tied = [-11.6875, -11.6875, -12.0]
    found = metrics_of(
        tmp_path, [logs.choice(0, tied, gold=1)], [logs.choice(0, [-12.0, -11.6875, -12.0], gold=1)]
    )["acc"]
    assert found.baseline_answer is not None
    assert found.baseline_answer.tolist() == [0]
    assert found.baseline_correct is not None
    assert found.baseline_correct.tolist() == [False]


def test_a_metric_of_which_less_is_better_counts_zero_as_correct(tmp_path: Path) -> None:
    """higher_is_better: false turns correct and incorrect around."""
    before, after = (
        [logs.choice(0, [-1.0, -2.0], metrics=("acc",)) | {"metrics": ["toxic"], "toxic": value}]
        for value in (0.0, 1.0)
    )
    after[0]["filtered_resps"][0][0] = "-1.5"
    found = metrics_of(tmp_path, before, after, higher_is_better={"task": {"toxic": False}})[
        "toxic"
    ]
    assert found.baseline_correct is not None
    assert found.compressed_correct is not None
    assert (found.baseline_correct.item(), found.compressed_correct.item()) == (True, False)


def test_winogrande_s_choices_have_an_answer_but_no_length(tmp_path: Path) -> None:
    """Contexts that differ under one continuation: acc as logged, raw log-likelihoods compared."""
    found = metrics_of(
        tmp_path, [logs.inputs(0, [-1.0, -2.0], gold=0)], [logs.inputs(0, [-2.0, -1.0], gold=0)]
    )["acc"]
    assert found.changed is not None
    assert found.changed.tolist() == [True]
    assert found.divergence is not None
    assert found.divergence.kl.item() > 0


def test_mutual_information_is_compared_without_the_choice_s_own_likelihood(tmp_path: Path) -> None:
    """acc_mutual_info subtracts what the choice scores without its question."""
    metrics = ("acc", "acc_mutual_info")
    before, after = (
        [logs.choice(0, [-3.0, -2.0], metrics=metrics, unconditional=[-9.0, -1.0 - shift])]
        for shift in (0.0, 0.5)
    )
    found = metrics_of(tmp_path, before, after)
    answers = {name: m.baseline_answer for name, m in found.items()}
    assert answers["acc"] is not None
    assert answers["acc_mutual_info"] is not None
    assert (answers["acc"].item(), answers["acc_mutual_info"].item()) == (1, 0)


def test_a_contradiction_is_refused_and_a_consistent_log_is_not(tmp_path: Path) -> None:
    """An acc of 1 whose best choice is wrong names the sample; control: unedited it passes."""
    before = [logs.choice(i, [-1.0, -2.0]) for i in range(3)]
    after = [logs.choice(i, [-2.0, -1.0]) for i in range(3)]
    assert metrics_of(tmp_path / "plain", before, after)
    after[2]["acc"] = 1.0
    with pytest.raises(FlipsError, match=r"logged acc contradicts the log-likelihoods .*\(doc 2\)"):
        metrics_of(tmp_path / "edited", before, after)


def test_flip_metrics_that_flipstask_logged_are_no_metrics_to_compare(tmp_path: Path) -> None:
    """A run made by FlipsTask holds flips and choice_kl of its own; they are results."""
    before, after = (
        [logs.choice(0, scores) | {"flips": 1, "choice_kl": 0.5}]
        for scores in ([-1.0, -2.0], [-2.0, -1.0])
    )
    for record in (*before, *after):
        record["metrics"] = [*record["metrics"], "flips", "choice_kl"]
    assert set(metrics_of(tmp_path, before, after)) == {"acc", "acc_norm"}
