"""A small, seeded version of benchmarks/faults.py: decisions where they were once wrong."""

from __future__ import annotations

from functools import partial

import pytest

from tests.benchmarks.faults import ONE_LARGE, alarms, copies, distances, drawn, passes, rules

pytestmark = pytest.mark.simulation


def test_uneven_tasks_raise_few_false_alarms_and_find_a_loss() -> None:
    """One task of 10,042 with nine of 200: at most 7.5 % of 200 draws; one point lost is found."""
    none = partial(drawn, sizes=ONE_LARGE, lost=0.05, won=0.05)
    assert alarms(none, 200) <= 0.075
    assert alarms(partial(drawn, sizes=ONE_LARGE, lost=0.06, won=0.05), 50) > 0.7


@pytest.mark.parametrize("across", [False, True])
def test_copies_of_documents_raise_few_false_alarms(across: bool) -> None:
    """Each document eight times, in one task or in eight."""
    assert alarms(partial(copies, documents=300, times=8, across=across), 200) <= 0.06
    found = alarms(partial(copies, documents=300, times=8, across=across, lean=0.05), 50)
    assert found > 0.4  # control


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05])
def test_few_losses_at_the_margin_seldom_pass(margin: float) -> None:
    """500 samples in five tasks: equivalence in at most 7.5 %, max_loss in 5 %, of 300 draws."""
    draw = partial(drawn, sizes=(100,) * 5, lost=margin, won=0.0)
    equivalence, loss, covered = passes(draw, margin, 300)
    assert equivalence <= 0.075
    assert loss <= 0.05
    assert covered >= 0.93
    none = partial(drawn, sizes=(400,) * 5, lost=0.005, won=0.005)
    assert passes(none, 0.02, 50)[0] > 0.9  # control


def test_a_mean_of_a_real_models_distances_seldom_passes_at_its_truth() -> None:
    """Choice KL of an 8-bit model, 300 questions: of 500 draws at most 4 % pass, at most 4 % fail."""
    covered, passed, twice, failed = distances("int8", 300, 500)
    assert covered >= 0.93
    assert passed <= 0.04
    assert failed <= 0.04
    assert distances("int8", 1000, 100)[2] > 0.8 > twice


def test_one_of_57_rules_seldom_fails_at_its_threshold() -> None:
    """In at most 5 % of 200 draws; one at five times its threshold fails in most."""
    assert rules(200) <= 0.05
    assert rules(50, worst=0.15) > 0.5
