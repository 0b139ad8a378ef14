"""What a metric compares, which choice that makes the answer, and how ties are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_eval_flips import FlipsError, load_run
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.pairs.logged_metrics import paired_metrics
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import pair
from tests.generators import logs


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
        [logs.choice(0, row, metrics=("acc",)) | {"metrics": ["toxic"], "toxic": value}]
        for value, row in ((0.0, [-1.0, -2.0]), (1.0, [-1.5, -2.0]))
    )
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


EVERY = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize("side", ["baseline", "compressed run"])
def test_every_rule_of_the_harness_is_held_against_the_log(
    tmp_path: Path, metric: str, side: str
) -> None:
    """A logged 0 where the right choice wins, in either run, is named with run, metric and sample."""
    more: dict[str, Any] = {"metrics": EVERY, "unconditional": [-1.0, -1.0], "choices": ("é", "bb")}
    before = [logs.choice(i, [-1.0, -9.0], **more) for i in range(4)]
    after = [logs.choice(i, [-1.5, -9.0], **more) for i in range(4)]
    assert set(metrics_of(tmp_path / "control", before, after)) == set(EVERY)
    (before if side == "baseline" else after)[3][metric] = 0.0
    with pytest.raises(FlipsError, match="contradicts") as caught:
        metrics_of(tmp_path / "edited", before, after)
    assert str(caught.value) == (
        f"task 'task', filter 'none': in the {side} the logged {metric} contradicts the "
        "log-likelihoods and the target (doc 3); the log was edited or scored by another rule: rerun "
        "this task"
    )


@pytest.mark.parametrize(
    ("target", "logged", "contradicts"),
    [
        ([1, 2], 1.0, False),  # the second is best and among the right ones
        ([1, 2], 0.0, True),
        ([0, 2], 1.0, True),
        ("elm", 1.0, False),
        ("elm", 0.0, True),
        ("unknown", 0.0, False),  # the log does not tell: nothing to hold it against
        ("unknown", 1.0, False),
    ],
)
def test_the_check_knows_lists_texts_and_its_limits(
    tmp_path: Path, target: Any, logged: float, contradicts: bool
) -> None:
    """Several right choices, a text as target, and a target that names no choice."""
    scores = [-3.0, -1.0, -2.0]
    before = [logs.choice(0, scores, target=target, acc=logged, metrics=("acc",))]
    after = [logs.choice(0, [-3.0, -1.5, -2.0], target=target, acc=logged, metrics=("acc",))]
    if contradicts:
        with pytest.raises(FlipsError, match=r"contradicts .* \(doc 0\)"):
            metrics_of(tmp_path, before, after)
    else:
        assert set(metrics_of(tmp_path, before, after)) == {"acc"}


def test_text_targets_of_multiple_input_tasks_are_not_held_against_the_log(tmp_path: Path) -> None:
    """Winogrande's target is the shared ending, also where it reads like an index."""
    before = [logs.inputs(i, [-1.0, -2.0], gold=1, ending="0") for i in range(2)]
    after = [logs.inputs(i, [-2.0, -1.0], gold=1, ending="0") for i in range(2)]
    found = metrics_of(tmp_path, before, after)["acc"]
    assert found.baseline_correct is not None
    assert found.baseline_correct.tolist() == [False, False]
    assert not found.pairs.gold.any()


def test_digits_that_could_be_text_or_index_are_not_held_against_the_log(tmp_path: Path) -> None:
    """Choices "1" and "2" with the target "1": either reading may be the task's."""
    for logged in (0.0, 1.0):
        sides = [
            [logs.choice(0, row, choices=("1", "2"), target="1", acc=logged, metrics=("acc",))]
            for row in ([-1.0, -2.0], [-1.5, -2.0])
        ]
        assert metrics_of(tmp_path / str(logged), *sides)


@pytest.mark.parametrize("digit", [1e-9, 1e-4])
def test_a_near_tie_may_go_either_way_and_no_other(tmp_path: Path, digit: float) -> None:
    """Scores closer than a millionth may have been told apart by digits that the log lacks."""
    before = [logs.choice(0, [-1.0, -1.0 - digit], acc=0.0, metrics=("acc",))]
    after = [logs.choice(0, [-2.0, -1.0], metrics=("acc",))]
    if digit < 1e-6:
        assert metrics_of(tmp_path, before, after)
    else:
        with pytest.raises(FlipsError, match="contradicts"):
            metrics_of(tmp_path, before, after)


def test_samples_with_fewer_choices_get_the_answer_they_would_get_alone(tmp_path: Path) -> None:
    """Padding is never the best choice and adds nothing to KL or margin, -inf choices included."""
    inf = float("inf")
    rows = [[-1.0, -2.0], [-3.0, -1.0, -2.0, -5.0, -4.0], [-inf, -1.0, -2.0], [-700.0, -800.0]]
    moved = [[-2.0, -1.0], [-1.0, -3.0, -2.0, -4.0, -5.0], [-inf, -2.0, -1.0], [-800.0, -700.0]]
    both = [[logs.choice(i, row) for i, row in enumerate(side)] for side in (rows, moved)]
    together = metrics_of(tmp_path / "all", *both)
    for i in range(len(rows)):
        alone = metrics_of(tmp_path / str(i), [both[0][i]], [both[1][i]])
        for name, found in alone.items():
            whole = together[name]
            assert found.divergence is not None
            assert whole.divergence is not None
            assert whole.divergence.kl[i].item() == found.divergence.kl.item()
            assert whole.divergence.total_variation[i].item() == pytest.approx(
                found.divergence.total_variation.item(), abs=1e-15
            )
            assert whole.margin is not None
            assert found.margin is not None
            assert whole.margin[i].item() == found.margin.item()
            assert whole.baseline_answer is not None
            assert whole.baseline_answer[i].item() == int(
                np.argmax(np.array(rows[i]) / ([3] * len(rows[i]) if name == "acc_norm" else 1))
            )


def test_own_scoring_never_flips_an_answer_that_did_not_change(tmp_path: Path) -> None:
    """With own process_results the best log-likelihood need not be the answer: flips imply change."""
    before = [logs.choice(i, [-1.0, -2.0], acc=1.0, metrics=("acc",)) for i in range(3)]
    after = [logs.choice(i, [-1.1, -2.0], acc=0.0, metrics=("acc",)) for i in range(3)]
    own = {"task": {"process_results": "def process_results(doc, results): ..."}}
    found = metrics_of(tmp_path, before, after, configs=own)["acc"]
    assert found.flipped is not None
    assert found.flipped.all()
    assert found.changed is None or bool((found.changed | ~found.flipped).all())


def test_metrics_that_only_one_run_logged_are_left_out(tmp_path: Path) -> None:
    """There is nothing to pair them with."""
    before = [logs.choice(0, [-1.0, -2.0])]
    after = [logs.choice(0, [-2.0, -1.0], metrics=("acc",))]
    assert set(metrics_of(tmp_path, before, after)) == {"acc"}


def test_cloze_answers_are_right_or_wrong_and_no_more(tmp_path: Path) -> None:
    """Acc flips; which other word the model would have said is not logged."""
    before = [logs.cloze(i, -1.0, greedy=i < 2) for i in range(3)]
    after = [logs.cloze(i, -2.0, greedy=i > 0) for i in range(3)]
    found = metrics_of(tmp_path, before, after)
    assert found["acc"].flipped is not None
    assert found["acc"].flipped.tolist() == [True, False, True]
    assert found["acc"].baseline_answer is None
    assert found["acc"].divergence is None
    assert found["perplexity"].flipped is None
    assert found["perplexity"].units is not None
    assert found["perplexity"].units.tolist() == [1.0, 1.0, 1.0]
