"""Expected rates: the built-in curve, and a pilot's counts, smoothed and shared out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lm_eval_flips import FlipsError
from lm_eval_flips.logs.runs import Run, load_run
from lm_eval_flips.measures.sampling.change_rates import (
    LOWEST,
    NOISES,
    expected_rate,
    smoothed_rates,
    unknown_rate,
)
from lm_eval_flips.planning.population import Population, populations
from lm_eval_flips.planning.rates import CORRELATION, pilot_rates, prior_rates
from tests.generators import logs
from tests.generators.worlds import Planned, World


@pytest.fixture(scope="module")
def base(drawn: Planned) -> Run:
    """The baseline's run."""
    return load_run(drawn.baseline)


@pytest.fixture(scope="module")
def known(base: Run) -> list[Population]:
    """Its documents."""
    return populations(base)[0]


def test_built_in_rates_follow_the_curve(known: list[Population]) -> None:
    """Wrong answers are not lost, right ones not won, and of three other answers one is right."""
    rates = prior_rates(known, "8bit")[0]
    assert known[0].lead is not None
    torch.testing.assert_close(rates.all_flips, expected_rate(known[0].lead, NOISES["8bit"]))
    correct = known[0].correct
    assert (rates.lost[~correct] == 0).all()
    assert (rates.won[correct] == 0).all()
    assert torch.equal(rates.lost[correct], rates.all_flips[correct])
    torch.testing.assert_close(rates.won[~correct], rates.all_flips[~correct] / 3)
    torch.testing.assert_close(rates.spreads**2, rates.all_flips * (1 - rates.all_flips))
    assert not rates.changed.any()


def test_without_margins_all_are_alike(known: list[Population]) -> None:
    """Texts: the curve's mean over margins."""
    rates = prior_rates(known, "4bit")[2]
    assert rates.all_flips.tolist() == pytest.approx([unknown_rate(NOISES["4bit"])] * 40)


def test_a_prior_that_is_none_is_refused(known: list[Population]) -> None:
    """The names there are."""
    with pytest.raises(FlipsError, match="no prior '2bit'; there are 8bit, 4bit"):
        prior_rates(known, "2bit")


def _changed(world: World, task: str) -> torch.Tensor:
    """Whose answer differs in the world's full runs, from its records."""

    def answers(records: list[logs.Record]) -> list[int]:
        scores = [[float(p[0]) for p in found["filtered_resps"]] for found in records]
        return [own.index(max(own)) for own in scores]

    pairs = zip(answers(world.baseline[task]), answers(world.compressed[task]), strict=True)
    return torch.tensor([one != other for one, other in pairs])


def test_a_pilots_changes_are_counted_in_tenths(
    base: Run, known: list[Population], drawn: Planned, questions: World
) -> None:
    """By sorting leads; the smoothed rates are raised for the changed and lowered for the others."""
    before = prior_rates(known, "4bit")
    found = pilot_rates(base, load_run(drawn.full), known, before)
    counts: list[float] = []
    draws: list[float] = []
    expected: list[float] = []
    classes: list[torch.Tensor] = []
    for own, rates, task in zip(known[:2], before, ("large", "small"), strict=False):
        assert own.lead is not None
        place = own.lead.argsort().argsort() * 10 // len(own)
        moved = _changed(questions, task)
        for tenth in range(10):
            of = place == tenth
            counts.append(float(moved[of].sum()))
            draws.append(float(of.sum()))
            expected.append(float(rates.all_flips[of].mean()))
        classes.append(place)
    texts = [float(r["exact_match"]) for r in questions.baseline["written"]]
    other = [float(r["exact_match"]) for r in questions.compressed["written"]]
    counts.append(sum(one != two for one, two in zip(texts, other, strict=True)))
    draws.append(len(texts))
    expected.append(float(before[2].all_flips.mean()))
    changed, held, thought = (
        torch.tensor(column, dtype=torch.float64) for column in (counts, draws, expected)
    )
    smooth = smoothed_rates(changed=changed, drawn=held, expected=thought)
    for rates, place, start in zip(found, classes, (0, 10), strict=False):
        by_hand = smooth[start + place] * (1 - CORRELATION) + CORRELATION * rates.changed
        torch.testing.assert_close(rates.all_flips, by_hand.clamp(LOWEST))
    assert torch.equal(found[0].changed, _changed(questions, "large"))
    # the mean over documents stays: what some rise by the others fall
    assert float(found[0].all_flips.mean()) == pytest.approx(
        float(found[0].changed.double().mean()), abs=0.05
    )


def test_a_pilot_of_some_documents_says_nothing_of_the_others(
    base: Run, known: list[Population], drawn: Planned, tmp_path: Path, questions: World
) -> None:
    """One task of thirty documents: others of the task have the class's rate, other tasks theirs."""
    before = prior_rates(known, "4bit")
    folder = questions.write(tmp_path, "compressed", {"large": range(30)})
    found = pilot_rates(base, load_run(folder), known, before)
    assert not found[0].changed[30:].any()
    assert torch.equal(found[0].changed[:30], _changed(questions, "large")[:30])
    assert not found[1].changed.any()
    assert len(set(found[1].all_flips.tolist())) <= 10


def test_a_pilot_that_tells_nothing_is_refused(
    base: Run, known: list[Population], drawn: Planned, tmp_path: Path
) -> None:
    """The baseline itself, or other tasks."""
    before = prior_rates(known, "4bit")
    with pytest.raises(FlipsError, match="agrees with the baseline in every log-likelihood"):
        pilot_rates(base, load_run(drawn.baseline), known, before)
    logs.write_run(tmp_path, {"else": [logs.choice(i, [-1.0, -2.0 - i]) for i in range(5)]})
    with pytest.raises(FlipsError, match="shares no task with the baseline"):
        pilot_rates(base, load_run(tmp_path), known, before)
