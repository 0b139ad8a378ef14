"""Plans of two stages: what follows the first samples, and that intervals and promises hold."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from lm_eval_flips import FlipsError, compare, compare_planned
from lm_eval_flips.logs.runs import Run, load_run
from lm_eval_flips.measures.sampling.second_stage import FirstDraws
from lm_eval_flips.planning.going_on import go_on
from lm_eval_flips.planning.making import make_plan
from lm_eval_flips.planning.plan import Plan, load_plan, plan_contents, plan_files
from tests.benchmarks.plan_coverage import World as Changes
from tests.benchmarks.plan_coverage import tally
from tests.generators.worlds import World

FIRST = 90


def saved(plan: Plan, file: Path) -> Path:
    """The samples file of a plan, with the plan beside it."""
    for path, content in zip(plan_files(file), plan_contents(plan), strict=True):
        path.write_bytes(content)
    return file


@pytest.fixture(scope="module")
def place(questions: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline, a full compressed run, a first plan and a run of its samples."""
    folder = tmp_path_factory.mktemp("stages")
    questions.write(folder / "base", "baseline")
    questions.write(folder / "full", "compressed")
    plan = make_plan(load_run(folder / "base"), budget=FIRST, first=True)
    saved(plan, folder / "first.json")
    questions.write(folder / "some", "compressed", plan.samples)
    return folder


@pytest.fixture(scope="module")
def base(place: Path) -> Run:
    """The baseline's run."""
    return load_run(place / "base")


def gone_on(place: Path, base: Run, **asked: float) -> Plan:
    """The second stage."""
    return go_on(place / "first.json", base, load_run(place / "some"), **asked)  # type: ignore[arg-type]


def test_the_second_stage_holds_the_first(place: Path, base: Run) -> None:
    """The same strata with more documents, drawn from those that were left, none twice."""
    before, after = load_plan(place / "first.json"), gone_on(place, base, budget=200, seed=3)
    assert (before.budget, after.budget) == (FIRST, 200)
    for name, task in after.tasks.items():
        assert set(before.tasks[name].doc_ids) <= set(task.doc_ids)
        assert len(task.doc_ids) == len(set(task.doc_ids))
        for old, new in zip(before.tasks[name].strata, task.strata, strict=True):
            assert (new.documents, new.low, new.high) == (old.documents, old.low, old.high)
            assert set(new.doc_ids) <= {*old.doc_ids, *old.rest}
            assert sorted([*new.doc_ids, *new.rest]) == sorted([*old.doc_ids, *old.rest])
    assert after.rates.startswith(f"the first {FIRST} samples of ")
    assert gone_on(place, base, budget=200, seed=4).samples != after.samples


def test_estimates_from_both_stages_hold_the_full_run(
    place: Path, base: Run, questions: World, tmp_path: Path
) -> None:
    """Compare --plan of the second plan: its interval holds what all documents show."""
    plan = gone_on(place, base, budget=200)
    file = saved(plan, tmp_path / "all.json")
    questions.write(tmp_path / "all", "compressed", plan.samples)
    planned = compare_planned(file, base, tmp_path / "all").compressed[0].planned
    assert planned is not None
    row, rows = planned.groups[0], compare(base, place / "full").compressed[0].groups
    own, full = row.estimates["all_flips"], next(own for own in rows if own.metric == row.metric)
    assert full.flips is not None
    assert own.interval.low <= full.flips.all_flips <= own.interval.high
    assert (row.name, row.documents) == (full.name, full.n)


def test_a_promised_width_takes_more_than_an_expected_one(place: Path, base: Run) -> None:
    """The promise is by rates as high as the first samples allow."""
    plan = gone_on(place, base, half_width=0.06)
    assert plan.budget > FIRST
    assert plan.half_width <= 0.06
    likely = gone_on(place, base, budget=plan.budget)
    assert likely.half_width < plan.half_width


def test_how_many_follow_hangs_on_no_stratum_s_own_draws() -> None:
    """Strata of which the same was expected get the same, wherever the changes were."""
    sizes, drawn = torch.tensor([100] * 4), torch.tensor([5] * 4)
    counts = [
        FirstDraws(
            sizes=sizes,
            drawn=drawn,
            changed=torch.tensor(changed).double(),
            expected=torch.full((4,), 0.1).double(),
        ).allocated(100)
        for changed in ([3, 0, 0, 0], [0, 0, 2, 1])
    ]
    assert counts[0].tolist() == counts[1].tolist() == [25] * 4


@pytest.mark.parametrize(
    ("world", "prior"),
    [
        (Changes("noise", 0.1), "8bit"),
        (Changes("noise", 0.8), "8bit"),
        (Changes("reverse", 0.02), "4bit"),
    ],
    ids=str,
)
def test_intervals_hold_whatever_was_expected(world: Changes, prior: str) -> None:
    """80 plans of two stages: 95 % intervals in 88 % and more, and no bias."""
    found = tally(world, prior, times=80, budget=600)
    assert found.coverage >= 0.88
    assert abs(found.bias) < found.half_width / 5


def test_a_promise_is_kept() -> None:
    """30 plans of a half-width of 3 points: all but two at most."""
    found = tally(Changes("noise", 0.25), "8bit", times=30, width=0.03)
    assert found.kept >= 0.93
    assert found.drawn < 1500


def test_drawing_more_where_changes_were_seen_is_biased() -> None:
    """Control: what the second stage must not do; the intervals miss."""
    found = tally(Changes("evenly", 0.05), "4bit", times=60, budget=600, by_count=True)
    assert found.bias < -0.002


def test_plans_that_cannot_go_on_are_refused(place: Path, base: Run, tmp_path: Path) -> None:
    """Too small a budget, a width that takes all, another run, a plan of before."""
    with pytest.raises(FlipsError, match=f"a budget of {FIRST} samples: the plan holds {FIRST} of"):
        gone_on(place, base, budget=FIRST)
    with pytest.raises(FlipsError, match="takes every one of the 370 documents"):
        gone_on(place, base, half_width=0.001)
    with pytest.raises(FlipsError, match="give one of --budget and --half-width"):
        gone_on(place, base)
    with pytest.raises(FlipsError, match="are not planned"):
        go_on(place / "first.json", base, load_run(place / "full"), budget=200)
    plan = load_plan(place / "first.json")
    tasks = {
        name: msgspec.structs.replace(
            task, strata=[msgspec.structs.replace(own, rest=[]) for own in task.strata]
        )
        for name, task in plan.tasks.items()
    }
    file = saved(msgspec.structs.replace(plan, tasks=tasks), tmp_path / "old.json")
    with pytest.raises(FlipsError, match="does not say which documents are left"):
        go_on(file, base, load_run(place / "some"), budget=200)
