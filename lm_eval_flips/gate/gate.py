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
from math import inf, isnan, nan
from pathlib import Path
from typing import Literal

import msgspec

from lm_eval_flips.comparison.numbers import one_each
from lm_eval_flips.comparison.result import Comparison, PlannedRow, Row, RunComparison
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.gate.evidence import LEVEL, p_broken
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, holm
from lm_eval_flips.pairs.findings import Finding

Judge = Literal["interval", "point"]
Outcome = Literal["pass", "fail", "undecided"]

POOLED = "pooled"


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that may be lost; None where that is not judged.

    Shares lie in 0..1, distances are nats; ``max_loss`` is a drop of the score, and
    ``equivalence_margin`` a change of it in either direction.
    """

    max_flips: float | None = None
    max_all_flips: float | None = None
    max_negative_flip_rate: float | None = None
    max_choice_kl: float | None = None
    max_token_kl: float | None = None
    max_loss: float | None = None
    equivalence_margin: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None:
                continue
            largest = None if name.endswith("_kl") else 1
            fits = value >= 0 and (largest is None or value <= largest)
            if isnan(value) or not fits or (name == "equivalence_margin" and not value):
                raise FlipsError(f"the threshold {_flag(name)} {value} is out of range")

    @property
    def given(self) -> dict[str, float]:
        """The rules that are asked for, by name."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in found.items() if value is not None}


class GateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gate.toml: thresholds of all tasks pooled, and of single tasks by their name or glob."""

    pooled: Thresholds = msgspec.field(default_factory=Thresholds)
    tasks: dict[str, Thresholds] = msgspec.field(default_factory=dict)
    judge: Judge = "interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """One rule held against one row: what was measured, and what that means.

    ``p_broken`` is the one-sided p that the threshold is kept, ``p_holm`` the same adjusted over
    the gate's rules; nan where there is none.
    """

    row: str
    rule: str
    value: float
    interval: Interval
    threshold: float
    outcome: Outcome
    p_broken: float = nan
    p_holm: float = nan

    @property
    def reason(self) -> str:
        """The outcome in words."""
        if isnan(self.value):
            return "nothing was measured"
        if self.value == inf:
            return "broken: a distance is infinite"
        if self.outcome == "undecided" and all(map(isnan, self.interval)):
            return "there is no interval to judge by"
        if self.outcome == "undecided" and self.value > self.threshold and self.p_broken <= LEVEL:
            return "broken, but so may be one of so many rules by chance: more samples are needed"
        if self.outcome == "undecided":
            return "not told from the threshold: more samples are needed"
        return "kept" if self.outcome == "pass" else "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """All rulings on one compressed run.

    ``findings`` are those of its plausibility: a run with one that keeps it from passing is at best
    undecided.
    """

    model: str
    path: str
    judge: Judge
    rulings: tuple[Ruling, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the run cannot pass, whatever the rulings."""
        return tuple(dict.fromkeys(own.sentence for own in self.findings if own.keeps_from_passing))

    @property
    def outcome(self) -> Outcome:
        """Fail if a rule failed; else undecided if one was, or the run is in doubt; else pass."""
        outcomes = {ruling.outcome for ruling in self.rulings}
        if self.doubts:
            outcomes.add("undecided")
        if "fail" in outcomes:
            return "fail"
        return "undecided" if "undecided" in outcomes or not outcomes else "pass"

    @property
    def exit_code(self) -> int:
        """0 for a pass, 1 for a failure, 2 where it cannot be judged."""
        return {"pass": 0, "fail": 1, "undecided": 2}[self.outcome]


def margin_of(config: GateConfig) -> float | None:
    """An equivalence margin that the comparison is asked for, so that it has 90 % intervals."""
    every = (config.pooled, *config.tasks.values())
    given = [own.equivalence_margin for own in every if own.equivalence_margin is not None]
    return given[0] if given else None


def load_gate(path: Path) -> GateConfig:
    """Read a gate.toml.

    Raises:
        FlipsError: it cannot be read, or names a rule that does not exist or a threshold that is
            out of range.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=GateConfig)
    except OSError as error:
        raise FlipsError(f"'{path}' cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise FlipsError(f"'{path}' is no gate configuration: {error}") from None


def with_thresholds(config: GateConfig, pooled: Thresholds) -> GateConfig:
    """The configuration with other thresholds for the pool, those that are given."""
    return msgspec.structs.replace(
        config, pooled=msgspec.structs.replace(config.pooled, **pooled.given)
    )


def judged_by(config: GateConfig, how: Judge) -> GateConfig:
    """The configuration with another way to judge."""
    return msgspec.structs.replace(config, judge=how)


def refuse_no_rule(config: GateConfig) -> None:
    """Refuse a gate that nothing could fail.

    Raises:
        FlipsError: there is no threshold.
    """
    if not config.pooled.given and not any(own.given for own in config.tasks.values()):
        raise FlipsError("no threshold is given; name at least one, such as --max-flips 0.03")


def judge(comparison: Comparison, config: GateConfig) -> tuple[Gate, ...]:
    """Hold every compressed run against the thresholds.

    Raises:
        FlipsError: there is no rule, or a task that has one is in no run.

    Example:
        >>> gates = judge(comparison, GateConfig(pooled=Thresholds(max_flips=0.03)))
        ... # doctest: +SKIP
    """
    refuse_no_rule(config)
    return tuple(
        Gate(
            model=run.model,
            path=run.path,
            judge=config.judge,
            rulings=_judged(list(_rulings(run, config)), config.judge),
            findings=run.findings,
        )
        for run in comparison.compressed
    )


def _judged(rulings: Sequence[Ruling], how: Judge) -> tuple[Ruling, ...]:
    """With the failures told, over all rules together."""
    if how == "point":
        return tuple(rulings)
    adjusted = holm([ruling.p_broken for ruling in rulings])
    return tuple(
        replace(
            ruling, p_holm=p, outcome="fail" if p <= LEVEL and _broken(ruling) else ruling.outcome
        )
        for ruling, p in zip(rulings, adjusted, strict=True)
    )


def _broken(ruling: Ruling) -> bool:
    beyond = abs(ruling.value) if ruling.rule == "equivalence_margin" else ruling.value
    return beyond > ruling.threshold


def _rulings(run: RunComparison, config: GateConfig) -> Iterator[Ruling]:
    pooled = run.pooled if run.planned is None else run.planned.pooled
    for rule, threshold in config.pooled.given.items():
        yield _ruling(pooled, POOLED, rule, threshold, config.judge)
    for pattern, thresholds in config.tasks.items():
        rows = _rows(run)
        found = [row for row in rows.values() if fnmatchcase(row.name, pattern)]
        if not found:
            have = named(list(rows), shown=10)
            raise FlipsError(f"no task or group '{pattern}' was compared; there are {have}")
        for row in found:
            for rule, threshold in thresholds.given.items():
                yield _ruling(row, row.name, rule, threshold, config.judge)


def _rows(run: RunComparison) -> Mapping[str, Row | PlannedRow]:
    """A row for each task and group, a plan's where the run is of its samples."""
    if run.planned is None:
        return one_each((*run.tasks, *run.groups))
    rows = (*run.planned.tasks, *run.planned.groups)
    found: dict[str, Row | PlannedRow] = {}
    for row in (*filter(_binary, rows), *rows):
        found.setdefault(row.name, row)
    return {row.name: found[row.name] for row in rows}


def _binary(row: PlannedRow) -> bool:
    return "flips" in row.estimates


def _ruling(row: Row | PlannedRow, name: str, rule: str, threshold: float, how: Judge) -> Ruling:
    if isinstance(row, PlannedRow):
        value, interval = _estimated(row, rule)
    else:
        value, interval = _measured(row, rule)
    if rule == "equivalence_margin":
        outcome = _within(value, interval, threshold, how)
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
    )


def _measured(row: Row, rule: str) -> tuple[float, Interval]:
    """The number that a rule speaks of, and its interval; nan where there is none."""
    flips, direction, intervals = row.flips, row.direction, row.intervals
    change = intervals.get("score_change", NO_INTERVAL)
    match rule:
        case "max_flips":
            value, name = (nan if flips is None else flips.flips), "flips"
        case "max_all_flips":
            value, name = (nan if flips is None else flips.all_flips), "all_flips"
        case "max_negative_flip_rate":
            value = nan if direction is None else direction.negative_flip_rate
            name = "negative_flip_rate"
        case "max_choice_kl":
            value = nan if row.distances is None else row.distances.choice_kl.mean
            name = "choice_kl"
        case "max_token_kl":
            value = nan if row.tokens is None else row.tokens.token_kl.typical
            whole = row.tokens is not None and not isnan(row.tokens.token_kl.per_request_mean)
            name = "token_kl" if whole else "token_kl_first_position"
        case "equivalence_margin":
            inner = NO_INTERVAL if row.equivalence is None else row.equivalence.inner
            return row.score_change, inner
        case _ if row.higher_is_better:
            return -row.score_change, Interval(-change.high, -change.low)
        case _:
            return row.score_change, change
    return value, intervals.get(name, NO_INTERVAL)


def _estimated(row: PlannedRow, rule: str) -> tuple[float, Interval]:
    """The same of a plan's samples: the weighted estimate, and its interval for such questions.

    So that a gate decides about a planned run as about a full one.
    """
    change = row.estimates["score_change"]
    if rule == "equivalence_margin":
        return change.value, NO_INTERVAL if row.equivalence is None else row.equivalence.inner
    if rule == "max_loss":
        if row.higher_is_better:
            return -change.value, Interval(-change.general.high, -change.general.low)
        return change.value, change.general
    name = rule.removeprefix("max_")
    found = row.estimates.get(name, row.estimates.get(f"{name}_first_position"))
    return (nan, NO_INTERVAL) if found is None else (found.value, found.general)


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


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
