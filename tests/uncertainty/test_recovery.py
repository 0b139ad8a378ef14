"""How much of the score is kept, by hand, by simulation, and where there is nothing to keep."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import numpy as np
import pytest

from lm_eval_flips import Row, compare
from lm_eval_flips.gate.gate import judge
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds
from tests.generators import logs

LOW, HIGH = -3.0, -1.0


def _choice(doc_id: int, *, right: bool, choices: int) -> logs.Record:
    loglikelihoods = [HIGH if right else LOW, LOW if right else HIGH, *[-5.0] * (choices - 2)]
    return logs.choice(doc_id, loglikelihoods, question=f"q{doc_id}", metrics=("acc",))


def row(folder: Path, *, right: int, kept: int, won: int, n: int = 400, choices: int = 4) -> Row:
    """So many right answers of n, so many of them kept, and so many wrong ones won."""
    before = [i < right for i in range(n)]
    after = [i < kept or right <= i < right + won for i in range(n)]
    paths = [
        logs.write_run(
            folder / name,
            {"task": [_choice(i, right=own, choices=choices) for i, own in enumerate(side)]},
            model=f"org/{name}",
        )
        for name, side in (("base", before), ("int4", after))
    ]
    return compare(*paths).compressed[0].tasks[0]


def test_it_is_the_ratio_of_the_scores(tmp_path: Path) -> None:
    """240 of 400 right, 228 after: 95 %; its interval holds 1 just where that of the change holds 0."""
    found = row(tmp_path, right=240, kept=220, won=8)
    number = found.numbers["recovery"]
    assert number.value == pytest.approx(228 / 240)
    assert number.interval.low < 0.95 < number.interval.high
    assert found.numbers["chance_score"].value == 0.25
    change = found.numbers["score_change"]
    assert (number.interval.high < 1) == (change.interval.high < 0)
    # to first order it is the change's, over the score
    expected = (1 + change.interval.low / 0.6, 1 + change.interval.high / 0.6)
    assert tuple(number.interval) == pytest.approx(expected, abs=0.003)


def test_no_change_keeps_everything(tmp_path: Path) -> None:
    """Identity: as many won as lost is a recovery of 1."""
    found = row(tmp_path, right=240, kept=230, won=10).numbers["recovery"]
    assert found.value == 1.0
    assert found.interval.low < 1 < found.interval.high


@pytest.mark.parametrize(("choices", "right"), [(4, 110), (2, 215)])
def test_a_baseline_that_guesses_has_nothing_to_keep(
    tmp_path: Path, choices: int, right: int
) -> None:
    """27.5 % with four choices, 53.8 % with two: no share of that means anything, and no gate passes.

    Control: with more choices the same score is one.
    """
    found = row(tmp_path, right=right, kept=right - 1, won=1, choices=choices)
    assert isnan(found.numbers["recovery"].value)
    assert found.numbers["chance_score"].value == 1 / choices
    more = row(tmp_path / "more", right=right, kept=right - 1, won=0, choices=5)
    assert more.numbers["recovery"].value == pytest.approx((right - 1) / right)


def test_a_gate_asks_for_a_recovery(tmp_path: Path) -> None:
    """0.9 of the score is kept, 0.99 is not told, and nothing is where the baseline guesses."""
    outcomes = {}
    for name, right in (("knows", 300), ("guesses", 100)):
        folder = tmp_path / name
        row(folder, right=right, kept=right - 6, won=2)
        comparison = compare(folder / "base", folder / "int4")
        for least in (0.9, 0.99):
            config = GateConfig(pooled=Thresholds(min_recovery=least))
            (gate,) = judge(comparison, config)
            outcomes[name, least] = gate.rulings[0].outcome, gate.rulings[0].reason
    assert outcomes["knows", 0.9] == ("pass", "kept")
    assert outcomes["knows", 0.99][0] == "undecided"
    for least in (0.9, 0.99):
        word, why = outcomes["guesses", least]
        assert word == "undecided"
        assert "not told from guessing" in why


def test_grades_are_kept_too(tmp_path: Path) -> None:
    """Grades of 0 to 100, right from 50 on: 80 of them before, 76 after; guessing earns none."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {"task": [logs.text(i, f"{name} {i}", f1=mean + 10 * (i % 3 - 1)) for i in range(30)]},
            model=f"org/{name}",
        )
        for name, mean in (("base", 80.0), ("int4", 76.0))
    ]
    for right_from in (None, 50.0):
        found = compare(*paths, right_from=right_from).compressed[0].tasks[0].numbers
        assert found["recovery"].value == pytest.approx(0.95)
        assert found["recovery"].interval.low < 0.95 < found["recovery"].interval.high
        assert found["chance_score"].value == 0.0


@pytest.mark.simulation
def test_a_threshold_that_is_just_broken_seldom_passes() -> None:
    """2 % of a score of 60 % lost, 98 % asked for: at most 3.5 % of 2,000 runs pass; few flips.

    The interval is that of the row, from counts: the samples are independent.
    """
    from lm_eval_flips.measures.paired_difference import mover
    from lm_eval_flips.measures.ratio import ratio_interval
    from lm_eval_flips.measures.shares import wilson

    random = np.random.default_rng(3)
    for n, won in ((300, 0.0), (1000, 0.01)):
        passed = 0
        shares = [0.6 * 0.02 + won, won, 0.6 - 0.6 * 0.02 - won]
        for lost, gained, same in random.multinomial(n, [*shares, 1 - sum(shares)], 2000)[:, :3]:
            right = int(lost + same)
            found = ratio_interval(
                top=(gained - lost) / n,
                of_top=mover(lost=int(lost), won=int(gained), n=n),
                bottom=right / n,
                of_bottom=wilson(right, n),
            )
            passed += 1 + found.low >= 0.98
        assert passed / 2000 <= 0.035
