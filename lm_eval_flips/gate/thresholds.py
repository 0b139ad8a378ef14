"""What a gate allows: thresholds of numbers, from options or a gate.toml."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Literal, get_args

import msgspec

from lm_eval_flips.comparison.numbers import SPECS
from lm_eval_flips.errors import FlipsError, named

Judge = Literal["interval", "point", "sequential"]
Tier = Literal["critical", "supporting", "advisory"]
TIERS: tuple[Tier, ...] = get_args(Tier)

REQUIRED, AGE = "required", "max_age_days"  # of a policy, not of a row's number
LOSS, EQUIVALENCE = "max_loss", "equivalence_margin"
PREFERENCE = "min_judge_preference"  # below 0 where the baseline's answers are preferred
# A number that has an interval can be judged: "max_" and its key, or "min_" where less is a loss.
RULES: Mapping[str, str] = {
    f"{'min' if spec.least else 'max'}_{spec.key}": spec.unit
    for spec in SPECS
    if not spec.no_interval and spec.unit in ("share", "nats", "bits", "ratio")
}
# Shares of counted samples; other numbers that lie in 0..1 are means.
SHARES = frozenset(
    {rule for rule in RULES if rule.endswith("_share")}
    | {"max_flips", "max_all_flips", "max_negative_flip_rate"}
    | {"max_changed_of_correct", "max_changed_of_incorrect"}
    | {"min_same_text", "min_never_diverges", "max_expected_flips"}
)
DISTANCES = frozenset({rule for rule, unit in RULES.items() if unit == "nats"})
ALL = (LOSS, EQUIVALENCE, *RULES)


def number_of(rule: str) -> str:
    """The key of the number that a rule of ``RULES`` speaks of.

    Example:
        >>> number_of("max_flips"), number_of("min_same_text")
        ('flips', 'same_text')
    """
    return rule.partition("_")[2]


def is_least(rule: str) -> bool:
    """Whether a rule asks for at least its threshold.

    Example:
        >>> is_least("max_flips"), is_least("min_same_text")
        (False, True)
    """
    return rule.startswith("min_")


class Thresholds:
    """The most that may be lost, by rule: ``max_`` and the key of any number of a row.

    Of a number whose loss is less of it, such as the share of equal texts, the rule is ``min_`` and
    its key, and its threshold the least that is enough.

    Shares lie in 0..1, distances are nats; ``max_loss`` is a drop of the score, and
    ``equivalence_margin`` a change of it in either direction. None is not judged.

    Args:
        tier: what their outcomes mean for the gate's: those of a "critical" rule are the gate's, of
            a "supporting" one a failure is, and what cannot be judged does not hold it up; an
            "advisory" one is told and changes nothing.
        most: the thresholds by rule.

    Raises:
        FlipsError: there is no such rule, or a threshold is out of range.

    Example:
        >>> Thresholds(max_flips=0.03, max_choice_kl_p99=0.5).given
        {'max_flips': 0.03, 'max_choice_kl_p99': 0.5}
        >>> Thresholds(max_flops=0.03)
        Traceback (most recent call last):
        ...
        lm_eval_flips.errors.FlipsError: there is no rule 'max_flops'; there are max_loss, ...
    """

    __slots__ = ("given", "tier")

    given: Mapping[str, float]
    tier: Tier

    def __init__(self, tier: Tier = "critical", /, **most: int | float | None) -> None:
        given = {rule: float(value) for rule, value in most.items() if value is not None}
        for rule, value in given.items():
            _refuse(rule, value)
        self.given, self.tier = given, tier

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thresholds) and (self.given, self.tier) == (
            other.given,
            other.tier,
        )

    def __hash__(self) -> int:
        return hash((self.tier, *self.given.items()))

    def __repr__(self) -> str:
        tier = [] if self.tier == "critical" else [repr(self.tier)]
        given = (f"{rule}={most}" for rule, most in self.given.items())
        return f"Thresholds({', '.join([*tier, *given])})"


def _refuse(rule: str, value: float) -> None:
    if rule not in ALL:
        other = f"{'max' if is_least(rule) else 'min'}_{number_of(rule)}"
        if other in ALL:
            raise FlipsError(f"there is no rule '{rule}', but '{other}'")
        raise FlipsError(f"there is no rule '{rule}'; there are {named(list(ALL), shown=99)}")
    largest = None if RULES.get(rule, "share") != "share" else 1
    fits = value >= (-1 if rule == PREFERENCE else 0) and (largest is None or value <= largest)
    if isnan(value) or not fits or (rule == EQUIVALENCE and not value):
        raise FlipsError(f"the threshold --{rule.replace('_', '-')} {value} is out of range")


class GateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gate.toml: thresholds of all tasks pooled, and of single tasks by their name or glob.

    A ``required`` task, a name or a glob, fails the gate where it was not compared; a baseline that
    is older than ``max_age_days`` leaves it undecided.
    """

    pooled: Thresholds = msgspec.field(default_factory=Thresholds)
    tasks: dict[str, Thresholds] = msgspec.field(default_factory=dict)
    judge: Judge = "interval"
    required: list[str] = []
    max_age_days: float | None = None


def margin_of(config: GateConfig) -> float | None:
    """An equivalence margin that the comparison is asked for, so that it has 90 % intervals."""
    every = (config.pooled, *config.tasks.values())
    return next((own.given[EQUIVALENCE] for own in every if EQUIVALENCE in own.given), None)


def load_gate(path: Path) -> GateConfig:
    """Read a gate.toml.

    Raises:
        FlipsError: it cannot be read, or names a rule that does not exist or a threshold that is
            out of range.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=GateConfig, dec_hook=_thresholds)
    except OSError as error:
        raise FlipsError(f"'{path}' cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise FlipsError(f"'{path}' is no gate configuration: {error}") from None


def parse_rules(text: str) -> GateConfig:
    """Rules as one word of a command line, or the path of a gate.toml.

    Raises:
        FlipsError: it is neither, or as ``Thresholds``.

    Example:
        >>> parse_rules("max-flips=0.05,max-loss=0.02").pooled
        Thresholds(max_flips=0.05, max_loss=0.02)
    """
    if text.endswith(".toml"):
        return load_gate(Path(text))
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            given[name.strip().strip("-").replace("-", "_")] = float(value)
        except ValueError:
            raise FlipsError(
                f"'{part}' is no rule; give them as max-flips=0.05,max-loss=0.02, or a gate.toml"
            ) from None
    return GateConfig(pooled=Thresholds(**given), judge="sequential")


def _thresholds(kind: type, content: object) -> Thresholds:
    """Those of one table of the file."""
    try:
        given = msgspec.convert(content, type=dict[str, float | str])
        words = {name: value for name, value in given.items() if isinstance(value, str)}
        tier = msgspec.convert(words.pop("tier", "critical"), type=Tier)
        if words:
            raise FlipsError(f"{named(list(words))} is text where a number belongs")
        return Thresholds(tier, **{k: v for k, v in given.items() if not isinstance(v, str)})
    except FlipsError as error:
        raise ValueError(str(error)) from None


def with_thresholds(config: GateConfig, pooled: Thresholds) -> GateConfig:
    """The configuration with other thresholds for the pool, those that are given."""
    both = Thresholds(config.pooled.tier, **{**config.pooled.given, **pooled.given})
    return msgspec.structs.replace(config, pooled=both)


def judged_by(config: GateConfig, how: Judge) -> GateConfig:
    """The configuration with another way to judge."""
    return msgspec.structs.replace(config, judge=how)


def refuse_no_rule(config: GateConfig) -> None:
    """Refuse a gate that nothing could fail.

    Raises:
        FlipsError: there is no threshold, or only advisory ones.
    """
    given = [own for own in (config.pooled, *config.tasks.values()) if own.given]
    if not given:
        raise FlipsError("no threshold is given; name at least one, such as --max-flips 0.03")
    if all(own.tier == "advisory" for own in given):
        raise FlipsError("all thresholds are advisory, so that nothing could fail the gate")
