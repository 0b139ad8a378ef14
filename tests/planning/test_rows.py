"""Rows of a plan's samples: weights by hand, the full run where all are drawn, and many plans."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import softmax

from lm_eval_flips import Row, compare, compare_planned
from lm_eval_flips.comparison.numbers import MEANS
from lm_eval_flips.comparison.planned import Planned as Estimates
from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.pairs.metric import paired_metric
from lm_eval_flips.pairs.pairing import pair
from lm_eval_flips.planning.drawing import draw_plan
from lm_eval_flips.planning.known import Known, know
from lm_eval_flips.planning.pairs import PlannedSamples
from lm_eval_flips.planning.rows import PlannedRows, can_be_planned
from tests.generators import logs
from tests.generators.paired import generated, texts
from tests.generators.worlds import Planned, World, planned, world

SHARES = ("flips", "all_flips", "correct_to_incorrect_share", "incorrect_to_correct_share")


def estimates(of: Planned, **more: Any) -> Estimates:
    """What the plan's samples tell."""
    found = compare_planned(of.file, of.baseline, of.compressed, **more).compressed[0].planned
    assert found is not None
    return found


def row_of(found: Estimates, task: str, metric: str = "acc") -> PlannedRow:
    """One metric of a task."""
    return next(row for row in found.tasks if (row.name, row.metric) == (task, metric))


def values(asked: World, task: str) -> dict[str, np.ndarray[Any, Any]]:
    """Every number of every document, from the records, by numpy and scipy."""
    sides = []
    for records in (asked.baseline[task], asked.compressed[task]):
        sides.append(np.array([[p[0] for p in r["filtered_resps"]] for r in records], float))
    gold = np.array([int(r["target"]) for r in asked.baseline[task]])
    before, after = sides[0].argmax(1), sides[1].argmax(1)
    was, now = before == gold, after == gold
    return {
        "flips": was != now,
        "all_flips": before != after,
        "correct_to_incorrect_share": was & ~now,
        "incorrect_to_correct_share": ~was & now,
        "score_change": now.astype(float) - was,
        "choice_kl": stats.entropy(softmax(sides[0], 1), softmax(sides[1], 1), axis=1),
        "correct": was,
    }


def test_estimates_are_weighted_means_of_the_records(drawn: Planned, questions: World) -> None:
    """By hand: each drawn document by its stratum's documents over its draws."""
    found = estimates(drawn)
    for task in ("large", "small"):
        row, every = row_of(found, task), values(questions, task)
        weights = np.zeros(drawn.plan.tasks[task].documents)
        for own in drawn.plan.tasks[task].strata:
            weights[own.doc_ids] = own.documents / len(own.doc_ids)
        for name in (*SHARES, "score_change", "choice_kl"):
            expected = np.average(every[name], weights=weights)
            assert row.estimates[name].value == pytest.approx(expected, rel=1e-6), name
        assert row.baseline_score == pytest.approx(every["correct"].mean())
        assert row.compressed_score == row.baseline_score + row.estimates["score_change"].value
        rate = row.estimates["correct_to_incorrect_share"].value / every["correct"].mean()
        assert row.estimates["negative_flip_rate"].value == pytest.approx(rate)
        assert (row.n, row.documents) == (int((weights > 0).sum()), len(weights))


def test_the_drawn_samples_as_they_are_tell_another_story(drawn: Planned) -> None:
    """Control for the test above: unweighted they change far more often."""
    (run,) = compare_planned(drawn.file, drawn.baseline, drawn.compressed).compressed
    assert run.planned is not None
    plain: Row = next(row for row in run.tasks if (row.name, row.metric) == ("large", "acc"))
    assert plain.flips is not None
    weighted = row_of(run.planned, "large").estimates["all_flips"]
    assert plain.flips.all_flips > weighted.value + 0.05


def test_a_plan_of_all_documents_is_the_full_run(questions: World, tmp_path: Path) -> None:
    """Every number equal, and intervals of what the full run shows without width."""
    of = planned(tmp_path, questions, budget=370)
    found = estimates(of)
    (full,) = compare(of.baseline, of.full).compressed
    for row, own in zip(full.tasks, found.tasks, strict=True):
        assert (row.name, row.metric, row.n) == (own.name, own.metric, own.documents)
        assert own.baseline_score == pytest.approx(row.baseline_score)
        assert own.compressed_score == pytest.approx(row.compressed_score)
        assert row.flips is not None
        expected = {
            "flips": row.flips.flips,
            "correct_to_incorrect_share": row.flips.share(row.flips.correct_to_incorrect),
            "incorrect_to_correct_share": row.flips.share(row.flips.incorrect_to_correct),
            "score_change": row.score_change,
        }
        if row.distances is not None:
            expected["choice_kl"] = row.distances.choice_kl.mean
            expected["all_flips"] = row.flips.all_flips
        for name, value in expected.items():
            estimate = own.estimates[name]
            assert estimate.value == pytest.approx(value, abs=1e-12), name
            assert estimate.interval == pytest.approx((value, value), abs=1e-12), name
            if estimate.plain_samples == estimate.plain_samples:
                assert estimate.plain_samples == row.n
            assert estimate.general == pytest.approx(tuple(row.intervals[name]), abs=2e-4), name


def test_the_pool_counts_every_document_once(drawn: Planned) -> None:
    """Its estimates are the tasks', weighted by their documents."""
    found = estimates(drawn)
    rows = [
        row_of(found, name, metric)
        for name, metric in (("large", "acc"), ("small", "acc"), ("written", "exact_match"))
    ]
    sizes = [row.documents for row in rows]
    for name in ("flips", "score_change", "correct_to_incorrect_share"):
        expected = np.average([row.estimates[name].value for row in rows], weights=sizes)
        assert found.pooled.estimates[name].value == pytest.approx(expected)
    expected = np.average([row.baseline_score for row in rows], weights=sizes)
    assert found.pooled.baseline_score == pytest.approx(expected)
    kl = np.average([row.estimates["choice_kl"].value for row in rows[:2]], weights=sizes[:2])
    assert found.pooled.estimates["choice_kl"].value == pytest.approx(kl)
    assert "all_flips" not in found.pooled.estimates  # texts have none
    assert found.groups[0].estimates["all_flips"].value > 0


def test_general_intervals_are_wider_and_hold_the_others(drawn: Planned) -> None:
    """They add what the full run itself would leave open."""
    for row in (*estimates(drawn).tasks, estimates(drawn).pooled):
        for name, own in row.estimates.items():
            assert own.general.low <= own.interval.low <= own.value, name
            assert own.value <= own.interval.high <= own.general.high, name


def test_equivalence_is_of_questions_like_these(drawn: Planned) -> None:
    """Its outer interval is the change's general one; the inner lies within."""
    row = estimates(drawn, equivalence_margin=0.05).pooled
    assert row.equivalence is not None
    assert row.equivalence.outer == row.estimates["score_change"].general
    assert row.equivalence.outer.low < row.equivalence.inner.low
    assert row.equivalence.margin == 0.05


def test_nothing_moved_is_no_certainty(tmp_path: Path) -> None:
    """No answer changed, though likelihoods did: intervals begin at 0 and do not end there."""
    still = world(4, small=0, noise=1e-6)
    still = World({"large": still.baseline["large"]}, {"large": still.compressed["large"]})
    of = planned(tmp_path, still, budget=60)
    row = estimates(of).pooled
    for name in SHARES:
        assert row.estimates[name].value == 0
        assert row.estimates[name].interval.low == 0
        assert row.estimates[name].interval.high > 0
        assert isnan(row.estimates[name].plain_samples)
    low, high = row.estimates["score_change"].interval
    assert low < 0 < high


def test_a_metric_of_degrees_has_a_score_and_no_flips(tmp_path: Path) -> None:
    """Beside acc, one that is no right or wrong: its change is a weighted mean with t's interval."""
    generator = np.random.default_rng(0)
    half = generator.uniform(0, 1, (2, 100))
    ask = [
        [
            logs.choice(
                i,
                [-1.0, -1.05 - i / 30 + 0.1 * side],
                metrics=["acc", "credit"],
                credit=half[side][i],
            )
            for i in range(100)
        ]
        for side in (0, 1)
    ]
    of = planned(tmp_path, World({"ask": ask[0]}, {"ask": ask[1]}), budget=40)
    row = row_of(estimates(of, equivalence_margin=0.2), "ask", "credit")
    weights = np.zeros(100)
    for own in of.plan.tasks["ask"].strata:
        weights[own.doc_ids] = own.documents / len(own.doc_ids)
    expected = np.average(half[1] - half[0], weights=weights)
    assert row.estimates["score_change"].value == pytest.approx(expected)
    low, high = row.estimates["score_change"].interval
    assert low < expected < high
    assert "flips" not in row.estimates
    assert row.equivalence is not None


def test_perplexities_and_metrics_that_samples_lack_have_no_weights() -> None:
    """The weights are for means over documents that all drawn samples have."""
    assert can_be_planned(generated("ask", [("4", 1.0)] * 3, [("5", 0.0)] * 3))
    assert not can_be_planned(texts(0, 5).paired())


def test_a_lower_score_may_be_the_better_one(tmp_path: Path) -> None:
    """A rate of errors: what is lost raises it."""
    ask = {
        side: [
            logs.choice(
                i,
                [-1.0, -1.02 - i / 40 + 0.05 * side],
                metrics=["wrong"],
                wrong=float((i + side) % 5 == 0),
            )
            for i in range(100)
        ]
        for side in (0, 1)
    }
    higher = {"ask": {"wrong": False}}
    of = planned(
        tmp_path, World({"ask": ask[0]}, {"ask": ask[1]}, {"higher_is_better": higher}), budget=40
    )
    row = estimates(of).pooled
    assert not row.higher_is_better
    lost, won = (
        row.estimates[name].value
        for name in ("correct_to_incorrect_share", "incorrect_to_correct_share")
    )
    assert row.estimates["score_change"].value == pytest.approx(lost - won)
    right = np.mean([found["wrong"] == 0 for found in ask[0]])
    assert row.estimates["negative_flip_rate"].value == pytest.approx(lost / right, abs=0.03)


def test_a_pool_of_both_directions_counts_what_is_right(tmp_path: Path) -> None:
    """Questions and a rate of errors, drawn whole: the pool of the full run, the right way up."""
    sides = []
    for side in (0, 1):
        ask = [logs.choice(i, [-1.0, -1.02 - i / 40 + 0.2 * side]) for i in range(60)]
        crows = [
            logs.choice(i, [-1.0 - 0.01 * side, -2.0], metrics=["wrong"], wrong=float(i % 3 == 0))
            for i in range(30)
        ]
        sides.append({"ask": ask, "crows": crows})
    better = {"ask": {"acc": True, "acc_norm": True}, "crows": {"wrong": False}}
    of = planned(tmp_path, World(sides[0], sides[1], {"higher_is_better": better}), budget=90)
    row = estimates(of).pooled
    whole = compare(of.baseline, of.compressed).compressed[0].pooled
    assert row.higher_is_better
    assert whole.score_change < 0  # control: something was lost
    assert row.estimates["score_change"].value == pytest.approx(whole.score_change)
    assert row.baseline_score == pytest.approx(whole.baseline_score) == pytest.approx(80 / 90)


@dataclass(frozen=True)
class Repeated:
    """Plans of one world with other seeds, estimated in memory."""

    known: Known
    theirs: dict[str, Samples]

    def row(self, seed: int, budget: int) -> PlannedRow:
        plan = draw_plan(self.known, budget=budget, seed=seed)
        samples = PlannedSamples(plan, "plan", self.known.base)
        metrics = []
        for own in self.known.tasks:
            other = self.theirs[own.task].only(np.array(plan.tasks[own.task].doc_ids))
            metrics.append(paired_metric(pair(samples.of(own.samples, other), other), own.metric))
        return PlannedRows(samples=samples).row(metrics, name="pooled")


@pytest.mark.simulation
def test_over_many_plans_estimates_are_unbiased_and_intervals_hold(tmp_path: Path) -> None:
    """100 plans of 80 among 500 documents, 14 % of which change; by the full run as the truth."""
    asked = world(7, large=400, small=100, noise=0.35)
    asked = World(
        {name: asked.baseline[name] for name in ("large", "small")},
        {name: asked.compressed[name] for name in ("large", "small")},
    )
    base = load_run(asked.write(tmp_path / "base", "baseline"))
    run = load_run(asked.write(tmp_path / "full", "compressed"))
    known = know(base, tasks="*", pilot=None, prior="4bit")
    repeated = Repeated(known, {name: read_samples(log)["none"] for name, log in run.tasks.items()})
    both = [values(asked, name) for name in ("large", "small")]
    rows = [repeated.row(seed, 80) for seed in range(100)]
    for name in (*SHARES, "score_change", "choice_kl"):
        truth = np.concatenate([own[name] for own in both]).mean()
        found = [row.estimates[name] for row in rows]
        error = np.std([own.value for own in found]) / sqrt(len(rows))
        assert abs(np.mean([own.value for own in found]) - truth) < 4 * error, name
        held = np.mean([own.interval.low <= truth <= own.interval.high for own in found])
        assert held >= 0.95 - 3 * sqrt(0.95 * 0.05 / len(rows)), (name, held)
        half = np.mean([own.interval.high - own.interval.low for own in found]) / 2
        spread = np.std([own.value for own in found])
        # control: intervals are not so wide that they always hold; shares allow for other curves
        assert half < 3.5 * spread, name
    plain = np.mean([row.estimates["all_flips"].plain_samples for row in rows])
    assert plain > 1.3 * 80


def test_rows_are_the_same_on_every_device(drawn: Planned, device: str) -> None:
    """Tensors of another device."""
    ours, theirs = estimates(drawn).pooled, estimates(drawn, device=device).pooled
    for name, own in ours.estimates.items():
        assert theirs.estimates[name].value == pytest.approx(own.value, rel=1e-9)
        assert theirs.estimates[name].interval == pytest.approx(tuple(own.interval), rel=1e-6)
    assert torch.get_default_dtype() == torch.float32


def test_a_number_that_is_a_column_s_mean_is_estimated_too(
    drawn: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a line in the list alone: numpy's weighted mean of the drawn samples."""
    monkeypatch.setitem(MEANS, "margin", lambda metric: metric.margin)
    (run,) = compare_planned(drawn.file, drawn.baseline, drawn.compressed).compressed
    assert run.planned is not None
    held = 0
    for row, metric in zip(run.planned.tasks, run.metrics, strict=False):
        if metric.margin is None:
            assert "margin" not in row.estimates
            continue
        weights = [run.planned.weights[row.name][doc] for doc in metric.doc_ids.tolist()]
        expected = np.average(metric.margin.numpy(), weights=weights)
        found = row.estimates["margin"]
        assert found.value == pytest.approx(float(expected), rel=1e-9)
        assert found.interval.low < found.value < found.interval.high
        held += 1
    assert held
