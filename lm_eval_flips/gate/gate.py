"""Comparison and thresholds -> pass, fail or undecided, rule by rule.

A threshold is held against the 95 % interval, not the point: a rule passes where the whole interval
keeps it, fails where it is broken beyond chance, and is undecided between, where more samples are
needed. What has no number is undecided too, never a pass; an infinite distance fails.

With many rules some would fail by chance: a failure is told by exact tests, adjusted by Holm over
all rules of the gate. A pass needs no adjustment, since every rule has to. Both hold for one look:
whoever adds samples until the gate passes will see it pass sooner or later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import isnan, nan

from lm_eval_flips.comparison.numbers import one_each
from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Comparison, Row, RunComparison
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.gate.evidence import LEVEL, p_broken
from lm_eval_flips.gate.made_runs import refuse_made_runs
from lm_eval_flips.gate.policy import policy_rulings
from lm_eval_flips.gate.ruling import Outcome, Ruling
from lm_eval_flips.gate.thresholds import (
    EQUIVALENCE,
    LOSS,
    GateConfig,
    Judge,
    Tier,
    is_least,
    number_of,
    refuse_no_rule,
)
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, holm
from lm_eval_flips.pairs.findings import Finding

POOLED = "pooled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """All rulings on one compressed run.

    ``findings`` are those of its plausibility: a run with one that keeps it from passing is at best
    undecided. Of a gate that judges while documents are drawn, ``decided_after`` is after how many
    of all ``documents`` it stopped, in the order of a ``seed``; None of others.
    """

    model: str
    path: str
    judge: Judge
    rulings: tuple[Ruling, ...]
    findings: tuple[Finding, ...] = ()
    decided_after: int | None = None
    documents: int | None = None
    seed: int | None = None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the run cannot pass, whatever the rulings."""
        return tuple(dict.fromkeys(own.sentence for own in self.findings if own.keeps_from_passing))

    @property
    def outcome(self) -> Outcome:
        """Fail if a rule failed; else undecided if one was, or the run is in doubt; else pass.

        Advisory rules are told and change nothing; of a supporting one only a failure counts.
        """
        outcomes = {ruling.outcome for ruling in self.rulings if ruling.counts}
        if self.doubts or all(ruling.tier == "advisory" for ruling in self.rulings):
            outcomes.add("undecided")
        if "fail" in outcomes:
            return "fail"
        return "undecided" if "undecided" in outcomes else "pass"

    @property
    def exit_code(self) -> int:
        """0 for a pass, 1 for a failure, 2 where it cannot be judged."""
        return {"pass": 0, "fail": 1, "undecided": 2}[self.outcome]


def judge(comparison: Comparison, config: GateConfig) -> tuple[Gate, ...]:
    """Hold every compressed run against the thresholds.

    Raises:
        FlipsError: there is no rule, a task that has one is in no run, or no model made a run.

    Example:
        >>> gates = judge(comparison, GateConfig(pooled=Thresholds(max_flips=0.03)))
        ... # doctest: +SKIP
    """
    refuse_no_rule(config)
    refuse_made_runs(comparison)
    return tuple(
        Gate(
            model=run.model,
            path=run.path,
            judge=config.judge,
            rulings=(
                *_judged(list(_rulings(run, config)), config.judge),
                *policy_rulings(config, rows_of(run), comparison.baseline.run.date),
            ),
            findings=run.findings,
        )
        for run in comparison.compressed
    )


def _judged(rulings: Sequence[Ruling], how: Judge) -> tuple[Ruling, ...]:
    """With the failures told, over all rules together."""
    if how == "point":
        return tuple(rulings)
    adjusted = holm_of([ruling.tier for ruling in rulings], [own.p_broken for own in rulings])
    return tuple(
        replace(
            ruling, p_holm=p, outcome="fail" if p <= LEVEL and _broken(ruling) else ruling.outcome
        )
        for ruling, p in zip(rulings, adjusted, strict=True)
    )


def holm_of(tiers: Sequence[Tier], p: Sequence[float]) -> list[float]:
    """Holm's adjustment over the rules that can fail the gate, and over the advisory ones.

    Example:
        >>> holm_of(["critical", "advisory", "critical"], [0.01, 0.02, 0.04])
        [0.02, 0.02, 0.04]
    """
    adjusted = [nan] * len(p)
    for advisory in (False, True):
        places = [place for place, tier in enumerate(tiers) if (tier == "advisory") == advisory]
        for place, value in zip(places, holm([p[place] for place in places]), strict=True):
            adjusted[place] = float(value)
    return adjusted


def _broken(ruling: Ruling) -> bool:
    if is_least(ruling.rule):
        return ruling.value < ruling.threshold
    beyond = abs(ruling.value) if ruling.rule == EQUIVALENCE else ruling.value
    return beyond > ruling.threshold


def _rulings(run: RunComparison, config: GateConfig) -> Iterator[Ruling]:
    pooled = run.pooled if run.planned is None else run.planned.pooled
    for rule, threshold in config.pooled.given.items():
        ruling = _ruling(pooled, POOLED, rule, threshold, config.judge)
        yield replace(ruling, tier=config.pooled.tier)
    for pattern, thresholds in config.tasks.items():
        rows = rows_of(run)
        found = [row for row in rows.values() if fnmatchcase(row.name, pattern)]
        if not found:
            have = named(list(rows), shown=10)
            raise FlipsError(f"no task or group '{pattern}' was compared; there are {have}")
        for row in found:
            for rule, threshold in thresholds.given.items():
                ruling = _ruling(row, row.name, rule, threshold, config.judge)
                yield replace(ruling, tier=thresholds.tier)


def rows_of(run: RunComparison) -> Mapping[str, Row | PlannedRow]:
    """A row for each task and group, a plan's where the run is of its samples."""
    if run.planned is None:
        return one_each((*run.tasks, *run.groups))
    return one_each((*run.planned.tasks, *run.planned.groups))


def _ruling(row: Row | PlannedRow, name: str, rule: str, threshold: float, how: Judge) -> Ruling:
    value, interval = _asked(row, rule)
    if rule == EQUIVALENCE:
        outcome = _within(value, interval, threshold, how)
    elif is_least(rule):
        outcome = _at_most(-value, Interval(-interval.high, -interval.low), -threshold, how)
    else:
        outcome = _at_most(value, interval, threshold, how)
    return Ruling(
        row=name,
        rule=rule,
        value=value,
        interval=interval,
        threshold=threshold,
        outcome=outcome,
        p_broken=p_broken(rule, value, interval, threshold),
        infinite=_infinite(row, rule),
    )


def _infinite(row: Row | PlannedRow, rule: str) -> int:
    number = row.numbers.get(f"{number_of(rule)}_infinite")
    return int(number.value) if number is not None and number.known else 0


def _asked(row: Row | PlannedRow, rule: str) -> tuple[float, Interval]:
    """The number that a rule speaks of, and its interval; nan where there is none.

    Of a planned row the interval is that of such questions, so that a gate decides about a planned
    run as about a full one.
    """
    change = row.numbers["score_change"]
    if rule == EQUIVALENCE:
        return change.value, NO_INTERVAL if row.equivalence is None else row.equivalence.inner
    if rule != LOSS:
        number = row.numbers[number_of(rule)]
        if not number.known and row.numbers["expected_flips"].known and "flip" in rule:
            raise FlipsError(
                f"{row.name}: {rule} is of single answers, and these are drawn several times; give "
                "max_expected_flips, or max_flips_beyond_seeds for what draws do not change"
            )
        return number.value, number.interval
    if row.higher_is_better:
        return -change.value, Interval(-change.interval.high, -change.interval.low)
    return change.value, change.interval


def _at_most(value: float, interval: Interval, threshold: float, how: Judge) -> Outcome:
    if isnan(value):
        return "undecided"
    if how == "point":
        return "pass" if value <= threshold else "fail"
    return "pass" if interval.high <= threshold else "undecided"


def _within(value: float, interval: Interval, margin: float, how: Judge) -> Outcome:
    if isnan(value):
        return "undecided"
    if how == "point":
        return "pass" if abs(value) <= margin else "fail"
    return "pass" if -margin < interval.low and interval.high < margin else "undecided"
