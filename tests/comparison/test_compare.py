"""compare() on small runs whose every number is worked out here, and its refusals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from lm_eval_flips import Comparison, FlipsError, compare
from tests.conftest import LocalRuns
from tests.generators import logs

# Eight questions of three choices: baseline scores, compressed scores, the right choice.
QUESTIONS: tuple[tuple[Sequence[float], Sequence[float], int], ...] = (
    ((-1.0, -2.0, -3.0), (-1.1, -2.0, -3.0), 0),  # right, right
    ((-1.0, -2.0, -3.0), (-2.0, -1.0, -3.0), 0),  # C→I
    ((-1.0, -2.0, -3.0), (-3.0, -2.0, -1.0), 0),  # C→I
    ((-2.0, -1.0, -3.0), (-1.0, -2.0, -3.0), 0),  # I→C
    ((-2.0, -1.0, -3.0), (-3.0, -2.0, -1.0), 0),  # W→W
    ((-2.0, -1.0, -3.0), (-2.0, -1.2, -3.0), 0),  # wrong, the same wrong
    ((-1.0, -1.0, -3.0), (-1.0, -1.0, -2.0), 1),  # a tie goes to the first: wrong twice
    ((-3.0, -1.0, -1.5), (-3.0, -1.5, -1.0), 1),  # C→I
)


def pair_of_runs(
    folder: Path, questions: Sequence[tuple[Sequence[float], Sequence[float], int]] = QUESTIONS
) -> tuple[Path, Path]:
    """The questions as two runs on disk, acc and acc_norm logged by the harness's rule."""
    sides = [
        [
            logs.choice(i, list(scores), choices=("a", "bb", "cccc"), gold=gold)
            for i, (scores, gold) in enumerate(side)
        ]
        for side in ([(b, gold) for b, _, gold in questions], [(c, g) for _, c, g in questions])
    ]
    return tuple(  # type: ignore[return-value]
        logs.write_run(folder / name, {"task": records}, model=f"org/{name}")
        for name, records in zip(("base", "comp"), sides, strict=True)
    )


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """The eight questions' results files."""
    return pair_of_runs(tmp_path)


def test_eight_questions_are_counted_by_hand(runs: tuple[Path, Path]) -> None:
    """Every count and share of acc is the one written beside the questions above."""
    row = compare(*runs, metric="acc").compressed[0].pooled
    assert row.flips is not None
    assert row.n == 8
    assert (row.flips.correct_to_incorrect, row.flips.incorrect_to_correct) == (3, 1)
    assert (row.flips.wrong_to_wrong, row.flips.answers_changed) == (1, 5)
    assert (row.flips.flips, row.flips.all_flips) == (4 / 8, 5 / 8)
    assert (row.baseline_score, row.compressed_score, row.score_change) == (4 / 8, 2 / 8, -2 / 8)
    assert row.p_value == pytest.approx(stats.binomtest(3, 4, 0.5).pvalue)


def test_the_hand_count_can_fail(tmp_path: Path) -> None:
    """Control: one answer changed in the log is one flip more."""
    changed = [*QUESTIONS[1:], ((-1.0, -2.0, -3.0), (-2.0, -1.0, -3.0), 0)]
    row = compare(*pair_of_runs(tmp_path, changed), metric="acc").compressed[0].pooled
    assert row.flips is not None
    assert row.flips.correct_to_incorrect == 4


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_choice_kl_is_scipy_s_on_the_models_own_distributions(
    runs: tuple[Path, Path], metric: str
) -> None:
    """Raw log-likelihoods whatever the metric compares; mean and max by scipy.

    Control: those per character, which acc_norm compares, are far from it.
    """
    expected = [stats.entropy(softmax(b), softmax(c)) for b, c, _ in QUESTIONS]
    lengths = np.array([1, 2, 4])
    flat = [stats.entropy(softmax(b / lengths), softmax(c / lengths)) for b, c, _ in QUESTIONS]
    assert np.mean(flat) < np.mean(expected) / 2
    row = compare(*runs, metric=metric).compressed[0].pooled
    assert row.distances is not None
    assert row.distances.choice_kl.mean == pytest.approx(np.mean(expected), rel=1e-12)
    assert row.distances.choice_kl.max == pytest.approx(max(expected), rel=1e-12)


def test_swapping_the_runs_swaps_the_directions(runs: tuple[Path, Path]) -> None:
    """C→I becomes I→C, the score change its negative, KL the reverse KL."""
    there = compare(*runs).compressed[0]
    back = compare(*reversed(runs)).compressed[0]
    for a, b in zip(there.tasks, back.tasks, strict=True):
        assert a.flips is not None
        assert b.flips is not None
        assert a.distances is not None
        assert b.distances is not None
        assert a.flips.correct_to_incorrect == b.flips.incorrect_to_correct
        assert a.flips.wrong_to_wrong == b.flips.wrong_to_wrong
        assert a.score_change == -b.score_change
        assert a.distances.choice_kl == b.distances.choice_kl_reverse
        assert a.p_value == pytest.approx(b.p_value, nan_ok=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "bleu"}, r"no task logged the metric 'bleu'; there are acc, acc_norm"),
        ({"filter": "strict"}, r"no task logged the filter"),
        ({"tasks": "mmlu*"}, r"no task of .* matches 'mmlu\*'; it holds task"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_the_known(
    runs: tuple[Path, Path], options: dict[str, str], message: str
) -> None:
    """Unknown metric, filter and task."""
    with pytest.raises(FlipsError, match=message):
        compare(*runs, **options)  # type: ignore[arg-type]


def test_no_compressed_run_is_an_error(runs: tuple[Path, Path]) -> None:
    """The baseline alone is nothing to compare."""
    with pytest.raises(FlipsError, match="no compressed run given"):
        compare(runs[0])


def test_a_logged_correctness_that_contradicts_its_numbers_is_refused(tmp_path: Path) -> None:
    """The sample is named; a task with its own process_results keeps what it logged."""
    base, comp = pair_of_runs(tmp_path)
    (file,) = comp.parent.glob("samples_*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[5]["acc"] = 1.0
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(
        FlipsError, match=r"in the compressed run the logged acc contradicts .*doc 5"
    ):
        compare(base, comp)
    results = json.loads(comp.read_text())
    results["configs"]["task"]["process_results"] = "def process_results(doc, results): ..."
    comp.write_text(json.dumps(results))
    row = compare(base, comp, metric="acc").compressed[0].pooled
    assert row.flips is not None
    assert row.flips.incorrect_to_correct == 2


@pytest.fixture(scope="module")
def real(local_runs: LocalRuns) -> Comparison:
    """compare() on what the stock command logged for two tiny models."""
    return compare(local_runs.baseline, local_runs.compressed)


def logged(run: Path, task: str, filter_: str) -> dict[int, dict[str, Any]]:
    """A task's samples by doc_id, with nothing but json."""
    (file,) = run.rglob(f"samples_{task}_*.jsonl")
    records = map(json.loads, file.read_text().splitlines())
    return {record["doc_id"]: record for record in records if record["filter"] == filter_}


def test_a_real_run_is_counted_as_by_hand(real: Comparison, local_runs: LocalRuns) -> None:
    """Every binary row of every task equals a recount from the harness's own JSONL."""
    rows = [row for row in real.compressed[0].tasks if row.flips is not None]
    assert len(rows) >= 9
    for row in rows:
        before, after = (logged(run, row.name, row.filter) for run in local_runs)
        lost = sum(before[i][row.metric] == 1 and after[i][row.metric] == 0 for i in before)
        won = sum(before[i][row.metric] == 0 and after[i][row.metric] == 1 for i in before)
        assert row.flips is not None
        assert (row.flips.correct_to_incorrect, row.flips.incorrect_to_correct) == (lost, won)
    assert sum(row.flips.flips for row in rows if row.flips) > 0


def test_the_scores_are_the_harness_s_own(real: Comparison, local_runs: LocalRuns) -> None:
    """Means and perplexities equal the results JSON of both runs, digit by digit."""
    for run, side in zip(local_runs, ("baseline_score", "compressed_score"), strict=True):
        (file,) = run.rglob("results_*.json")
        results = json.loads(file.read_text())["results"]
        for row in (*real.compressed[0].tasks, *real.compressed[0].groups):
            reported = results[row.name][f"{row.metric},{row.filter}"]
            assert getattr(row, side) == pytest.approx(reported, rel=1e-9), row


def test_the_pooled_row_adds_up_one_metric_of_each_task(real: Comparison) -> None:
    """Counts of the pool are the sums over the first binary metric of every task that has one."""
    run = real.compressed[0]
    first = {row.name: row for row in reversed(run.tasks) if row.flips is not None}
    flips = [row.flips for row in first.values() if row.flips]
    assert run.pooled.flips is not None
    assert run.pooled.n == sum(f.n for f in flips)
    assert run.pooled.flips.correct_to_incorrect == sum(f.correct_to_incorrect for f in flips)


def test_metrics_that_are_not_binary_have_no_flips(real: Comparison) -> None:
    """Perplexities: a change with an interval and a ratio, no flips, no p of McNemar."""
    rows = [row for row in real.compressed[0].tasks if "perplexity" in row.metric]
    assert rows
    for row in rows:
        assert row.flips is None
        assert row.perplexity is not None
        assert row.perplexity.ratio == pytest.approx(row.compressed_score / row.baseline_score)
        low, high = row.intervals["score_change"]
        assert low < row.score_change < high
