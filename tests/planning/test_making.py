"""Plans as they are asked for: by budget, by half-width, of some tasks; and what cannot be."""

from __future__ import annotations

from math import nan
from pathlib import Path

import pytest

from lm_eval_flips import FlipsError, compare
from lm_eval_flips.logs.runs import Run, load_run
from lm_eval_flips.planning.known import Known, know
from lm_eval_flips.planning.making import enough, make_plan
from lm_eval_flips.planning.strata import stratify
from tests.generators import logs
from tests.generators.worlds import Planned


@pytest.fixture(scope="module")
def base(drawn: Planned) -> Run:
    """The baseline's run."""
    return load_run(drawn.baseline)


@pytest.fixture(scope="module")
def before(base: Run) -> Known:
    """What is known of its documents."""
    return know(base, tasks="*", pilot=None, prior="4bit")


def test_a_half_width_takes_the_fewest_draws_that_reach_it(base: Run, before: Known) -> None:
    """One draw fewer is expected to be wider."""
    n = enough(before, 0.04)
    assert stratify(before.tasks, before.rates, n).half_width <= 0.04
    assert stratify(before.tasks, before.rates, n - 1).half_width > 0.04
    plan = make_plan(base, budget=n)
    assert plan.half_width <= 0.04


def test_a_half_width_needs_a_pilot(base: Run, drawn: Planned) -> None:
    """Built-in rates promise no width of a model that they have not seen; a pilot's do."""
    with pytest.raises(
        FlipsError, match="--half-width needs a --pilot: built-in rates are a guess"
    ):
        make_plan(base, half_width=0.04)
    plan = make_plan(base, half_width=0.04, pilot=load_run(drawn.compressed))
    assert plan.half_width <= 0.04


def test_a_wide_interval_takes_the_least(before: Known) -> None:
    """Two draws of each task."""
    assert enough(before, 0.45) == 6


@pytest.mark.parametrize("half_width", [0.0, -0.01, 0.5, nan])
def test_half_widths_that_are_none_are_refused(base: Run, half_width: float) -> None:
    """0, below, nan, or as wide as everything."""
    with pytest.raises(FlipsError, match=f"the half-width {half_width} is out of range; give a sh"):
        make_plan(base, half_width=half_width)


def test_a_half_width_that_takes_everything_is_refused(base: Run) -> None:
    """Then there is nothing to plan."""
    with pytest.raises(FlipsError, match="a half-width of 1e-06 takes every one of the 370 docume"):
        make_plan(base, half_width=1e-6)


def test_one_of_budget_and_half_width_is_given(base: Run) -> None:
    """Neither both nor none."""
    for budget, half_width in ((None, None), (50, 0.05)):
        with pytest.raises(FlipsError, match="give one of --budget and --half-width"):
            make_plan(base, budget=budget, half_width=half_width)


def test_tasks_are_chosen(base: Run) -> None:
    """A group, and a glob."""
    assert set(make_plan(base, budget=50, tasks="both").tasks) == {"large", "small"}
    assert set(make_plan(base, budget=50, tasks="l*").tasks) == {"large"}


def test_a_pilot_sharpens_what_is_expected(base: Run, drawn: Planned) -> None:
    """The run itself as a pilot: more of the documents that it changed are drawn."""
    plan = make_plan(base, budget=80, tasks="both", pilot=load_run(drawn.full))
    blind = make_plan(base, budget=80, tasks="both")
    assert plan.rates == f"pilot {load_run(drawn.full).path}"
    (run,) = compare(drawn.baseline, drawn.full, tasks="both").compressed
    assert run.pooled.flips is not None
    truth = run.pooled.flips.all_flips
    assert abs(plan.all_flips - truth) < 0.02 < abs(blind.all_flips - truth)
    changed = [own for own in plan.tasks["large"].strata if own.changed]
    others = [own for own in plan.tasks["large"].strata if own.changed is False]
    assert changed
    share = [
        sum(len(own.doc_ids) for own in part) / sum(own.documents for own in part)
        for part in (changed, others)
    ]
    assert share[0] > 1.2 * share[1]


def test_everything_may_be_drawn(base: Run) -> None:
    """A budget of all documents: expected to be exact."""
    plan = make_plan(base, budget=370)
    assert {name: len(docs) for name, docs in plan.samples.items()} == {
        "large": 240,
        "small": 90,
        "written": 40,
    }
    assert plan.half_width == 0
    assert plan.plain_samples == 370


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    """A perplexity beside questions."""
    tasks = {
        "wiki": [logs.rolling(i, -10.0 - i, "one two") for i in range(5)],
        "ask": [logs.choice(i, [-1.0, -2.0 - i]) for i in range(5)],
    }
    logs.write_run(tmp_path, tasks)
    plan = make_plan(load_run(tmp_path), budget=3)
    assert plan.left_out == ["wiki"]
    assert list(plan.tasks) == ["ask"]


def test_nothing_to_stratify_by_is_refused(tmp_path: Path) -> None:
    """Texts alone."""
    logs.write_run(tmp_path, {"written": [logs.text(i, "4") for i in range(9)]})
    with pytest.raises(FlipsError, match="no choices in task written"):
        make_plan(load_run(tmp_path), budget=4)
