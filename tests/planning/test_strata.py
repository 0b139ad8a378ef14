"""Strata: a partition in order of leads, drawn within its bounds, and budgets that do not fit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lm_eval_flips import FlipsError
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.measures.sampling.stratified import share_interval
from lm_eval_flips.planning.known import Known, know
from lm_eval_flips.planning.strata import Strata, minimum, stratify
from tests.generators import logs
from tests.generators.worlds import Planned

BUDGETS = (6, 7, 20, 60, 120, 250, 369, 370)


@pytest.fixture(scope="module")
def before(drawn: Planned) -> Known:
    """What is known of the world's 370 documents."""
    return know(load_run(drawn.baseline), tasks="*", pilot=None, prior="4bit")


def _strata(before: Known, budget: int) -> Strata:
    return stratify(before.tasks, before.rates, budget)


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_document_is_in_one_stratum_and_can_be_drawn(before: Known, budget: int) -> None:
    """A partition of each task; two draws of each stratum at least, or all, and never more."""
    found = _strata(before, budget)
    for number, own in enumerate(before.tasks):
        rows = [r for of, r in zip(found.task, found.rows, strict=True) if of == number]
        assert torch.cat(rows).sort().values.tolist() == list(range(len(own)))
    assert int(found.drawn.sum()) == budget
    assert (found.drawn <= found.sizes).all()
    assert (found.drawn >= found.sizes.clamp(max=2)).all()


def test_strata_are_stretches_of_leads_and_of_one_correctness(before: Known) -> None:
    """Sorted by their leads they do not overlap."""
    found, (large, *_) = _strata(before, 120), before.tasks
    assert large.lead is not None
    for answer in (True, False):
        ends = []
        for of, rows, correct in zip(found.task, found.rows, found.correct, strict=True):
            if of == 0 and correct is answer:
                assert (large.correct[rows] == answer).all()
                ends.append((float(large.lead[rows].min()), float(large.lead[rows].max())))
        ends.sort()
        assert len(ends) > 2
        for (_, high), (low, _) in pairwise(ends):
            assert high < low


def test_more_is_drawn_where_more_is_expected(before: Known) -> None:
    """The least sure third of a task is drawn oftener than the surest."""
    found, (large, *_) = _strata(before, 120), before.tasks
    share = torch.zeros(len(large), dtype=torch.float64)
    for of, rows, drawn in zip(found.task, found.rows, found.drawn.tolist(), strict=True):
        if of == 0:
            share[rows] = drawn / len(rows)
    assert large.lead is not None
    order = large.lead.argsort()
    assert share[order[:80]].mean() > 2 * share[order[-80:]].mean()


def test_a_small_budget_has_one_stratum_a_task(before: Known) -> None:
    """Six draws for three tasks."""
    found = _strata(before, 6)
    assert found.task == [0, 1, 2]
    assert found.correct == [None, None, None]
    assert found.drawn.tolist() == [2, 2, 2]


def test_a_larger_budget_is_expected_to_be_narrower(before: Known) -> None:
    """From 6 documents to all, of which nothing is left open."""
    widths = [_strata(before, budget).half_width for budget in BUDGETS]
    assert all(after < ahead for ahead, after in pairwise(widths))
    assert widths[-1] == 0
    found = _strata(before, 120)
    low, high = share_interval(
        found.all_flips, sizes=found.sizes, drawn=found.drawn, rates=found.rates
    )
    assert found.half_width == pytest.approx((high - low) / 2)
    expected = torch.cat([rates.all_flips for rates in before.rates]).mean()
    assert found.all_flips == pytest.approx(float(expected))


def test_equal_leads_stay_together(tmp_path: Path) -> None:
    """A hundred documents with three leads make at most three strata of each correctness."""
    ask = [logs.choice(i, [-1.0, -1.2 - 0.4 * (i % 3)], gold=i % 2) for i in range(100)]
    logs.write_run(tmp_path, {"ask": ask})
    known = know(load_run(tmp_path), tasks="*", pilot=None, prior="4bit")
    found = stratify(known.tasks, known.rates, 60)
    assert len(found.rows) == 6
    for rows in found.rows:
        assert known.tasks[0].lead is not None
        assert len(set(known.tasks[0].lead[rows].tolist())) == 1


def test_budgets_that_do_not_fit_are_refused(before: Known) -> None:
    """More than there are, or fewer than two of each task."""
    with pytest.raises(FlipsError, match="a budget of 371 samples is more than the 370 documents"):
        _strata(before, 371)
    with pytest.raises(FlipsError, match="a budget of 5 samples is too small: 3 tasks need two ea"):
        _strata(before, 5)
    assert minimum(before.tasks) == 6


def test_a_task_of_one_document_is_drawn_whole(tmp_path: Path) -> None:
    """It needs one draw, not two."""
    tasks = {
        "one": [logs.choice(0, [-1.0, -1.1], question="one")],
        "ask": [logs.choice(i, [-1.0, -1.1 - i / 50], question=f"q{i}") for i in range(50)],
    }
    logs.write_run(tmp_path, tasks)
    known = know(load_run(tmp_path), tasks="*", pilot=None, prior="4bit")
    assert minimum(known.tasks) == 3
    found = stratify(known.tasks, known.rates, 20)
    assert found.sizes[[i for i, of in enumerate(found.task) if known.tasks[of].task == "one"]] == 1


def test_a_pilot_keeps_what_it_changed_apart(drawn: Planned) -> None:
    """Strata are of documents that the pilot changed, or of others."""
    known = know(load_run(drawn.baseline), tasks="large", pilot=load_run(drawn.full), prior="4bit")
    found = stratify(known.tasks, known.rates, 120)
    assert set(found.changed) == {True, False}
    for rows, changed in zip(found.rows, found.changed, strict=True):
        assert set(known.rates[0].changed[rows].tolist()) == {changed}
    assert known.source.startswith("pilot ")
