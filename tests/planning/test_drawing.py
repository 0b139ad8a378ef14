"""Draws: seeded, with the chance that weights say, and unbiased over many plans."""

from __future__ import annotations

from collections import Counter
from math import sqrt

import numpy as np
import pytest

from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.measures.sampling.allocation import plain_samples
from lm_eval_flips.planning.drawing import draw_plan
from lm_eval_flips.planning.known import Known, know
from lm_eval_flips.planning.strata import stratify
from tests.generators.worlds import Planned, World

PLANS = 400


@pytest.fixture(scope="module")
def before(drawn: Planned) -> Known:
    """What is known of the world's documents."""
    return know(load_run(drawn.baseline), tasks="*", pilot=None, prior="4bit")


@pytest.fixture(scope="module")
def small(drawn: Planned) -> Known:
    """What is known of its smaller task."""
    return know(load_run(drawn.baseline), tasks="small", pilot=None, prior="4bit")


def test_a_seed_gives_the_same_plan_and_another_another(before: Known) -> None:
    """In every drawn document; strata do not depend on it."""
    first, again, other = (draw_plan(before, budget=80, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.samples != other.samples
    sizes = [[own.documents for own in plan.tasks["large"].strata] for plan in (first, other)]
    assert sizes[0] == sizes[1]


def test_documents_are_drawn_as_often_as_their_weights_say(small: Known) -> None:
    """Over 400 seeds each of the 90 documents, within 4.5 standard errors; none never."""
    plans = [draw_plan(small, budget=30, seed=seed) for seed in range(PLANS)]
    counts = Counter(doc for plan in plans for doc in plan.samples["small"])
    assert set(counts) == set(range(90))
    chances = {
        doc: len(own.doc_ids) / own.documents
        for plan in plans
        for own in plan.tasks["small"].strata
        for doc in own.doc_ids
    }
    assert len({round(chance, 3) for chance in chances.values()}) > 2
    for doc, chance in chances.items():
        error = sqrt(chance * (1 - chance) / PLANS)
        assert abs(counts[doc] / PLANS - chance) <= 4.5 * error, doc


def test_weighted_means_over_plans_are_those_of_all_documents(
    small: Known, questions: World
) -> None:
    """The baseline's accuracy; and the plain mean of the drawn is another (control)."""
    right = np.array([found["acc"] for found in questions.baseline["small"]])
    weighted, plain = [], []
    for seed in range(PLANS):
        task = draw_plan(small, budget=30, seed=seed).tasks["small"]
        own = right[task.doc_ids]
        weighted.append(np.average(own, weights=task.design().weights.numpy()))
        plain.append(own.mean())
    error = np.std(weighted) / sqrt(PLANS)
    assert abs(np.mean(weighted) - right.mean()) < 4 * error
    assert abs(np.mean(plain) - right.mean()) > 4 * np.std(plain) / sqrt(PLANS)


def test_what_is_expected_is_the_strata_s(before: Known) -> None:
    """The share, its half-width, and what plain sampling would need for that."""
    plan, strata = draw_plan(before, budget=100, seed=0), stratify(before.tasks, before.rates, 100)
    assert (plan.all_flips, plan.half_width) == (strata.all_flips, strata.half_width)
    assert plan.plain_samples == plain_samples(
        variance=plan.all_flips * (1 - plan.all_flips), half_width=plan.half_width, documents=370
    )
    assert 100 < plan.plain_samples < 370
    assert plan.rates == "built-in rates, 4bit"
    rates = [own.all_flips for own in plan.tasks["small"].strata]
    sizes = [own.documents for own in plan.tasks["small"].strata]
    mean = float(before.rates[1].all_flips.mean())
    assert np.average(rates, weights=sizes) == pytest.approx(mean)
    lost = [own.lost for own in plan.tasks["small"].strata]
    assert np.average(lost, weights=sizes) == pytest.approx(float(before.rates[1].lost.mean()))


def test_the_table_adds_up(before: Known) -> None:
    """Classes of margin hold all documents and all draws; texts, which have none, stand last."""
    plan = draw_plan(before, budget=100, seed=0)
    assert sum(own.documents for own in plan.margins) == plan.documents == 370
    assert sum(own.drawn for own in plan.margins) == plan.budget == 100
    assert (plan.margins[-1].low, plan.margins[-1].documents) == (None, 40)
    margins = np.concatenate([own.margin for own in before.tasks if own.margin is not None])
    counts, _ = np.histogram(margins, [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1])
    assert [own.documents for own in plan.margins[:-1]] == counts.tolist()
    rates = [own.all_flips for own in plan.margins[:-1]]
    assert rates == sorted(rates, reverse=True)
