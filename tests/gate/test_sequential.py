"""Rules judged while documents are drawn: by hand, by simulation at the limit, and in files."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from lm_eval_flips import FlipsError, compare
from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.gate.gate import Gate
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds, parse_rules
from lm_eval_flips.gate.undecidable import least_documents, refuse_undecidable
from lm_eval_flips.gate.whole_runs import judge_whole
from lm_eval_flips.report.text.gate import gate_json, gate_lines
from tests.generators import logs

RIGHT, WRONG = [-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0]


def written(folder: Path, *, n: int, lost: int, won: int, other: int = 0) -> Comparison:
    """A comparison of ``n`` questions, half of which the baseline gets right.

    ``lost`` become wrong, ``won`` become right; of a second task of ``other`` questions none moves.
    """
    paths = []
    for name in ("base", "small"):
        first = []
        for i in range(n):
            right = i < n // 2
            if name == "small":
                right = (right and i >= lost) or n // 2 <= i < n // 2 + won
            row = [score - i / 4096 for score in (RIGHT if right else WRONG)]
            first.append(logs.choice(i, row, question=f"a{i}", metrics=("acc",)))
        shift = 0.0 if name == "base" else 0.001
        second = [
            logs.choice(
                i,
                [s - i / 4096 - shift * k for k, s in enumerate(RIGHT)],
                question=f"b{i}",
                metrics=("acc",),
            )
            for i in range(other)
        ]
        tasks = {"first": first, **({"second": second} if other else {})}
        groups = {"both": ["first", "second"]} if other else {}
        paths.append(logs.write_run(folder / name, tasks, model=f"org/{name}", groups=groups))
    return compare(*paths)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """400 questions of which 12 are lost and 8 won, and 100 of which none moves."""
    return written(tmp_path_factory.mktemp("moved"), n=400, lost=12, won=8, other=100)


def judged(comparison: Comparison, config: GateConfig, seed: int = 0) -> Gate:
    """The gate on the one run."""
    (gate,) = judge_whole(comparison, config, seed=seed)
    return gate


def test_a_clear_run_passes_early(moved: Comparison) -> None:
    """4 % of flips under a limit of 15 %: after some questions, for any order."""
    config = GateConfig(pooled=Thresholds(max_flips=0.15))
    for seed in range(5):
        gate = judged(moved, config, seed)
        assert gate.outcome == "pass"
        assert gate.decided_after is not None
        assert least_documents(config, 500) <= gate.decided_after < 300
        (ruling,) = gate.rulings
        assert ruling.drawn == gate.decided_after
        assert ruling.whole == gate.documents == 500
        assert ruling.interval.high <= 0.15 + 1e-6


def test_a_broken_rule_fails_and_names_the_row(moved: Comparison) -> None:
    """12 of 200 right answers lost are more than 1 %, and the second task keeps its rule."""
    config = GateConfig(
        tasks={
            "first": Thresholds(max_negative_flip_rate=0.001),
            "second": Thresholds(max_flips=0.5),
        }
    )
    gate = judged(moved, config)
    assert gate.outcome == "fail"
    assert {ruling.row for ruling in gate.rulings if ruling.outcome == "fail"} == {"first"}
    (lost,) = [ruling for ruling in gate.rulings if ruling.row == "first"]
    assert lost.whole == 200


@pytest.mark.parametrize(
    ("rule", "exact"),
    [
        ("max_flips", 20 / 500),
        ("max_all_flips", 20 / 500),
        ("max_negative_flip_rate", 12 / 300),
        ("max_loss", 4 / 500),
        ("equivalence_margin", 4 / 500),
    ],
)
def test_at_the_last_question_all_is_known(moved: Comparison, rule: str, exact: float) -> None:
    """A limit a hair above the number passes, one a hair below fails; counted by hand."""
    kept = judged(moved, GateConfig(pooled=Thresholds(**{rule: exact + 1e-9})))
    assert kept.outcome == "pass"
    broken = judged(moved, GateConfig(pooled=Thresholds(**{rule: exact - 1e-6})))
    assert broken.outcome == "fail"


def test_distances_are_cut_and_say_so(moved: Comparison) -> None:
    """The mean of KL cut at a nat is that of numpy, at the last question."""
    row = moved.compressed[0]
    kl = np.concatenate([m.divergence.kl.numpy() for m in row.metrics if m.divergence is not None])
    mean = float(np.minimum(kl, 1.0).mean())
    kept = judged(moved, GateConfig(pooled=Thresholds(max_choice_kl=mean + 1e-9)))
    broken = judged(moved, GateConfig(pooled=Thresholds(max_choice_kl=mean - 1e-7)))
    assert (kept.outcome, broken.outcome) == ("pass", "fail")
    assert "KL cut at 1 nat" in kept.rulings[0].reason


def test_groups_have_their_own_rules(moved: Comparison) -> None:
    """A group's samples are those of its tasks."""
    gate = judged(moved, GateConfig(tasks={"both": Thresholds(max_flips=0.2)}))
    assert gate.rulings[0].whole == 500


def test_lines_and_json_tell_when(moved: Comparison) -> None:
    """After how many questions it was decided, and in which order."""
    gate = judged(moved, GateConfig(pooled=Thresholds(max_flips=0.15)), seed=7)
    lines = list(gate_lines([gate]))
    assert f"decided after {gate.decided_after} of 500 questions (order 7)" in lines[-1]
    document = json.loads(gate_json([gate]))["gates"][0]
    assert document["decided_after"] == gate.decided_after
    assert document["rulings"][0]["drawn"] == gate.decided_after
    assert document["seed"] == 7


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (GateConfig(), "no threshold is given"),
        (GateConfig(pooled=Thresholds(max_choice_kl_p99=1)), "no mean over samples"),
        (GateConfig(tasks={"third": Thresholds(max_flips=0.5)}), "no task or group 'third'"),
        (GateConfig(pooled=Thresholds(max_token_kl=0.5)), "no such distances were measured"),
    ],
)
def test_refused(moved: Comparison, config: GateConfig, match: str) -> None:
    """Rules that cannot be judged while documents are drawn."""
    with pytest.raises(FlipsError, match=match):
        judged(moved, config)


def test_rules_of_a_command_line() -> None:
    """As one word; what is none is refused."""
    rules = parse_rules("max-flips=0.05, max_loss=0.02").pooled.given
    assert rules == {"max_flips": 0.05, "max_loss": 0.02}
    with pytest.raises(FlipsError, match="'max-flips' is no rule"):
        parse_rules("max-flips")
    with pytest.raises(FlipsError, match="no mean over samples"):
        refuse_undecidable(parse_rules("max-choice-kl-p99=1"))


@pytest.mark.simulation
def test_wrong_verdicts_at_the_limit(tmp_path: Path) -> None:
    """A run a hair beyond, and one just at the limit: few are called wrongly, at any look."""
    orders = 200
    comparison = written(tmp_path, n=300, lost=15, won=15)  # 10 %
    for limit, wrong in ((0.0999, "pass"), (0.1, "fail")):
        config = GateConfig(pooled=Thresholds(max_flips=limit))
        found = [judged(comparison, config, seed).outcome for seed in range(orders)]
        share = sum(outcome == wrong for outcome in found) / orders
        assert share <= 0.025 + 2.5 * sqrt(0.025 * 0.975 / orders)
        assert "undecided" not in found
