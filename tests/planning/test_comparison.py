"""compare by a plan: what it leaves out, what does not go together, and the gate on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from lm_eval_flips import Comparison, FlipsError, compare, compare_planned
from lm_eval_flips.comparison.options import Options
from lm_eval_flips.gate.gate import judge
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds
from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.planning.comparison import refuse_with_plan
from tests.generators.worlds import Planned, World, planned


@pytest.fixture(scope="module")
def comparison(drawn: Planned) -> Comparison:
    """The plan's samples against the baseline, with a margin."""
    return compare_planned(drawn.file, drawn.baseline, drawn.compressed, equivalence_margin=0.1)


def test_what_holds_of_drawn_samples_only_is_left_out(
    drawn: Planned, questions: World, tmp_path: Path
) -> None:
    """No ranking, overlap, correlation over runs or pooled decisions of unweighted samples."""
    # a second compressed run: the first, whose texts are the baseline's
    other = World(
        questions.baseline, {**questions.compressed, "written": questions.baseline["written"]}
    )
    second = other.write(tmp_path, "compressed", drawn.plan.samples)
    full = compare(drawn.baseline, drawn.full, drawn.full)
    assert full.ranking is not None
    found = compare_planned(drawn.file, drawn.baseline, drawn.compressed, second)
    assert (found.ranking, found.overlap, found.regimes) == (None, None, ())
    assert (found.across_runs, found.across_runs_token_kl) == ({}, {})
    assert all(run.decisions is None and run.planned is not None for run in found.compressed)


def test_a_run_without_a_plan_has_no_estimates(drawn: Planned) -> None:
    """And keeps its decisions."""
    (run,) = compare(drawn.baseline, drawn.full).compressed
    assert run.planned is None
    assert run.decisions is not None


def test_planned_samples_without_their_plan_are_refused(drawn: Planned) -> None:
    """They are not all documents; the message names the way out."""
    with pytest.raises(
        FlipsError, match="only in the baseline .*; a plan's samples go with --plan"
    ):
        compare(drawn.baseline, drawn.compressed)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"on_mismatch": "intersect"}, "--on-mismatch intersect does not go together with --plan"),
        ({"on_nan": "exclude"}, "--on-nan exclude does not go together with --plan: its weights h"),
        ({"cluster": "task"}, "--cluster does not go together with --plan: intervals are of these"),
        ({"bootstrap": Bootstrap(replicates=200)}, "--bootstrap does not go together with --plan"),
    ],
)
def test_options_that_break_the_weights_are_refused(
    drawn: Planned, asked: dict[str, Any], message: str
) -> None:
    """Each with its reason."""
    with pytest.raises(FlipsError, match=message):
        compare_planned(drawn.file, drawn.baseline, drawn.compressed, **asked)


def test_a_noise_floor_is_refused() -> None:
    """The second run of the baseline would hold other documents."""
    with pytest.raises(
        FlipsError, match="--noise-floor does not go together with --plan: that run"
    ):
        refuse_with_plan(Options(noise_floor=Path("floor")))
    refuse_with_plan(Options())


def test_groups_have_estimates_of_their_own(comparison: Comparison) -> None:
    """The group of the two tasks of choices, and the pool with the texts."""
    planned_ = comparison.compressed[0].planned
    assert planned_ is not None
    assert {row.name for row in planned_.groups} == {"both"}
    assert {row.documents for row in planned_.groups} == {330}
    assert planned_.pooled.documents == 370
    assert (planned_.seed, planned_.path) == (0, planned_.path)


def _ruling(found: Comparison, **rules: Any) -> Any:
    (gate,) = judge(found, GateConfig(pooled=Thresholds(**rules)))
    (ruling,) = gate.rulings
    return ruling


@pytest.mark.parametrize(
    ("rule", "name", "sign"),
    [
        ("max_flips", "flips", 1),
        ("max_negative_flip_rate", "negative_flip_rate", 1),
        ("max_choice_kl", "choice_kl", 1),
        ("max_loss", "score_change", -1),
    ],
)
def test_a_gate_judges_estimates_of_questions_like_these(
    comparison: Comparison, rule: str, name: str, sign: int
) -> None:
    """The weighted number with its wider interval, not the drawn samples' own."""
    run = comparison.compressed[0]
    assert run.planned is not None
    estimate = run.planned.pooled.estimates[name]
    ruling = _ruling(comparison, **{rule: 0.5})
    assert ruling.value == sign * estimate.value
    low, high = sorted(sign * end for end in estimate.general)
    assert (ruling.interval.low, ruling.interval.high) == (low, high)
    assert _ruling(comparison, **{rule: high + 1e-9}).outcome == "pass"
    least = low
    if name in ("flips", "negative_flip_rate") and low > 0:
        # a share fails by the exact test of as many samples as have this interval, by Wilson
        worth = low * (1 - low) * (stats.norm.ppf(0.975) / (estimate.value - low)) ** 2
        counted = worth * estimate.value
        least = float(stats.beta.ppf(0.025, counted, worth - counted + 1))
        assert least < low
        assert _ruling(comparison, **{rule: least + 1e-6}).outcome == "undecided"
    if low > 0:
        assert _ruling(comparison, **{rule: least - 1e-6}).outcome == "fail"
    middle = max(estimate.value * sign, 0.0)
    assert _ruling(comparison, **{rule: middle}).outcome == "undecided"


def test_a_gate_on_a_task_and_on_equivalence(comparison: Comparison) -> None:
    """The task's own estimate; the change's 90 % interval; what was not measured is no pass."""
    run = comparison.compressed[0]
    assert run.planned is not None
    rules = {
        "small": Thresholds(max_all_flips=0.9, max_token_kl=9.0),
        "both": Thresholds(max_flips=1.0),
    }
    (gate,) = judge(comparison, GateConfig(tasks=rules))
    small = next(row for row in run.planned.tasks if (row.name, row.metric) == ("small", "acc"))
    assert gate.rulings[0].value == small.estimates["all_flips"].value
    assert gate.rulings[1].outcome == "undecided"
    assert gate.rulings[2].row == "both"
    equivalence = run.planned.pooled.equivalence
    assert equivalence is not None
    ruling = _ruling(comparison, equivalence_margin=0.1)
    assert ruling.interval == equivalence.inner


def test_a_plan_of_everything_is_judged_as_the_full_run(questions: World, tmp_path: Path) -> None:
    """All documents drawn: the same numbers, and the same intervals where samples are independent."""
    of = planned(tmp_path, questions, budget=240, tasks="large")
    ours = compare_planned(
        of.file, of.baseline, of.compressed, tasks="large", equivalence_margin=0.1
    )
    theirs = compare(of.baseline, of.full, tasks="large", equivalence_margin=0.1)
    for rule in (
        "max_flips",
        "max_all_flips",
        "max_negative_flip_rate",
        "max_loss",
        "max_choice_kl",
    ):
        one, other = (_ruling(found, **{rule: 0.5}) for found in (ours, theirs))
        assert one.value == pytest.approx(other.value), rule
        assert one.interval == pytest.approx(other.interval, rel=1e-2, abs=1e-4), rule
    one, other = (_ruling(found, equivalence_margin=0.1) for found in (ours, theirs))
    assert one.interval == pytest.approx(other.interval)


def test_metrics_that_are_no_means_are_refused(tmp_path: Path) -> None:
    """--metric of a perplexity has no estimate by these weights."""
    from tests.generators import logs

    tasks = {
        "wiki": [logs.cloze(i, -1.0 - i / 9, greedy=i % 2 == 0) for i in range(30)],
        "ask": [logs.choice(i, [-1.0, -1.1 - i / 20]) for i in range(30)],
    }
    moved = {
        "wiki": [logs.cloze(i, -1.2 - i / 9, greedy=i % 3 == 0) for i in range(30)],
        "ask": [logs.choice(i, [-1.15, -1.1 - i / 20]) for i in range(30)],
    }
    of = planned(tmp_path, World(tasks, moved), budget=20)
    with pytest.raises(
        FlipsError, match="gives weights to means over documents, and none of the m"
    ):
        compare_planned(of.file, of.baseline, of.compressed, metric="perplexity")
    (run,) = compare_planned(of.file, of.baseline, of.compressed).compressed
    assert run.planned is not None
    assert {row.metric for row in run.planned.tasks} == {"acc", "acc_norm"}
