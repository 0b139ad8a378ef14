"""A policy: tiers of rules, tasks that have to be there, and a baseline that is not old."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path

import pytest

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.gate.gate import Gate, judge
from lm_eval_flips.gate.policy import policy_rulings
from lm_eval_flips.gate.ruling import Outcome
from lm_eval_flips.gate.thresholds import TIERS, GateConfig, Thresholds, load_gate
from lm_eval_flips.gate.whole_runs import judge_whole
from lm_eval_flips.report.text.gate import gate_json, gate_junit, gate_lines, gate_markdown
from tests.generators import logs

N = 120
RIGHT, WRONG = [-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0]
BROKEN, KEPT, OPEN = 0.001, 0.9, 0.26  # limits on flips beside a quarter of them: 30 of 120


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two tasks: a quarter of the answers of "moved" flips, both ways, none of "still"."""
    folder = tmp_path_factory.mktemp("policy")
    paths = []
    for name, early in (("base", True), ("int4", False)):
        tasks = {
            task: [
                logs.choice(
                    i,
                    [
                        score - i / 1024 - (not early) * 0.01 * place
                        for place, score in enumerate(
                            RIGHT if (i % 2 == 0) ^ (task == "moved" and i < 30 and not early)
                            else WRONG
                        )
                    ],
                    question=f"{task}{i}",
                )
                for i in range(N)
            ]
            for task in ("moved", "still")
        }  # fmt: skip
        paths.append(logs.write_run(folder / name, tasks, model=f"org/{name}"))
    return compare(*paths)


def outcome_of(comparison: Comparison, **tiers: Thresholds) -> Gate:
    """The gate of rules for "moved"."""
    (gate,) = judge(comparison, GateConfig(pooled=Thresholds(max_flips=KEPT), tasks=tiers))
    return gate


def test_what_each_tier_means_for_the_gate(comparison: Comparison) -> None:
    """Every tier with every outcome of its rule, beside a critical rule that is kept."""
    expected: dict[tuple[str, float], Outcome] = {
        ("critical", KEPT): "pass",
        ("critical", OPEN): "undecided",
        ("critical", BROKEN): "fail",
        ("supporting", KEPT): "pass",
        ("supporting", OPEN): "pass",
        ("supporting", BROKEN): "fail",
        ("advisory", KEPT): "pass",
        ("advisory", OPEN): "pass",
        ("advisory", BROKEN): "pass",
    }
    for tier, limit in product(TIERS, (KEPT, OPEN, BROKEN)):
        gate = outcome_of(comparison, moved=Thresholds(tier, max_flips=limit))
        own = gate.rulings[1]
        assert own.outcome == {KEPT: "pass", OPEN: "undecided", BROKEN: "fail"}[limit]
        assert (gate.outcome, own.tier) == (expected[tier, limit], tier), (tier, limit)


def test_advisory_rules_make_no_other_rule_harder_to_break(comparison: Comparison) -> None:
    """Holm adjusts each kind by itself: a hundred advisory rules cost the critical one nothing."""
    limit = 0.15  # told apart alone, not beside a hundred others
    alone = outcome_of(comparison, moved=Thresholds(max_flips=limit))
    assert alone.outcome == "fail"
    many = {f"stil[l{n:03}]": Thresholds("advisory", max_flips=0.5) for n in range(100)}
    beside = outcome_of(comparison, moved=Thresholds(max_flips=limit), **many)
    assert beside.rulings[1].p_holm == alone.rulings[1].p_holm
    as_strict = {name: Thresholds(max_flips=0.5) for name in many}
    control = outcome_of(comparison, moved=Thresholds(max_flips=limit), **as_strict)
    assert control.rulings[1].p_holm > alone.rulings[1].p_holm


def test_a_required_task_that_was_not_compared_fails(comparison: Comparison) -> None:
    """In both ways to judge, with a reason; one that is there asks for nothing."""
    config = GateConfig(pooled=Thresholds(max_flips=KEPT), required=["still", "arc_*"])
    for gates in (judge(comparison, config), judge_whole(comparison, config, seed=0)):
        (gate,) = gates
        assert gate.outcome == "fail"
        (missing,) = [ruling for ruling in gate.rulings if ruling.rule == "required"]
        assert (missing.row, missing.outcome) == ("arc_*", "fail")
    there = replace(gate, rulings=tuple(r for r in gate.rulings if r.rule != "required"))
    assert there.outcome == "pass"
    lines = list(gate_lines([gate]))
    assert any("arc_* required" in line and "evaluate it in both runs" in line for line in lines)
    assert b'"threshold": null' in gate_json([gate])
    assert "in both runs" in gate_markdown([gate])


@pytest.mark.parametrize(
    ("days", "outcome", "reason"),
    [
        (29.9, "pass", "kept"),
        (30.1, "undecided", "the baseline is too old: evaluate it anew"),
        (None, "undecided", "the baseline is of unknown age: evaluate it anew"),
    ],
)
def test_an_old_baseline_leaves_the_gate_undecided(
    days: float | None, outcome: str, reason: str
) -> None:
    """Thirty days are allowed; a date that cannot be read is no date within them."""
    now = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
    local = (now - timedelta(days=days or 0)).astimezone()
    date = "" if days is None else local.strftime("%Y-%m-%dT%H-%M-%S.%f")
    (ruling,) = policy_rulings(GateConfig(max_age_days=30.0), [], date, now=now)
    assert (ruling.outcome, ruling.reason, ruling.row) == (outcome, reason, "baseline")


def test_the_age_of_a_real_baseline_counts(comparison: Comparison) -> None:
    """The runs of this test were written with a date of their own."""
    rules = GateConfig(pooled=Thresholds(max_flips=KEPT))
    for most, expected in ((36500.0, "pass"), (1e-6, "undecided")):
        (gate,) = judge(comparison, replace_age(rules, most))
        assert gate.outcome == expected


def replace_age(rules: GateConfig, days: float) -> GateConfig:
    """The same with a limit on the baseline's age."""
    return GateConfig(pooled=rules.pooled, tasks=rules.tasks, max_age_days=days)


def test_a_policy_is_read_from_a_file(tmp_path: Path, comparison: Comparison) -> None:
    """Tiers stand beside thresholds; what does not count is skipped in JUnit."""
    path = tmp_path / "gate.toml"
    path.write_text(
        'required = ["still"]\nmax_age_days = 36500\n[pooled]\nmax_flips = 0.9\n'
        '[tasks.moved]\ntier = "advisory"\nmax_flips = 0.001\n'
    )
    config = load_gate(path)
    assert config.tasks["moved"] == Thresholds("advisory", max_flips=0.001)
    gates = judge(comparison, config)
    assert gates[0].exit_code == 0
    assert b'failures="0" errors="0" skipped="1"' in gate_junit(gates)
    assert "❌ fail (advisory)" in gate_markdown(gates)
    assert any(line.startswith("FAIL") and "(advisory)" in line for line in gate_lines(gates))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[pooled]\ntier = "vital"\nmax_flips = 0.1', "Invalid enum value 'vital'"),
        ('[pooled]\nmax_flips = "a tenth"', "max_flips is text where a number belongs"),
        ('[pooled]\ntier = "advisory"\nmax_flips = 0.1', None),
    ],
)
def test_what_is_no_policy_is_refused(
    content: str, message: str | None, tmp_path: Path, comparison: Comparison
) -> None:
    """Unknown tiers, words for numbers, and a gate that nothing could fail."""
    path = tmp_path / "gate.toml"
    path.write_text(content)
    if message is None:
        with pytest.raises(FlipsError, match="all thresholds are advisory"):
            judge(comparison, load_gate(path))
        return
    with pytest.raises(FlipsError, match=message):
        load_gate(path)
