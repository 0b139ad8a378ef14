"""Thresholds judged while the documents are drawn: as soon as they can be, at no more risk.

Each rule speaks of the mean of bounded numbers over all questions that there are, and is held
against them in a random order by betting (``measures.betting``): it passes as soon as a mean at the
threshold is refuted from above, and fails as soon as one is from below, at 2.5 % each whatever the
number of looks. With several rules a failure is adjusted by Holm, and a pass needs every rule. Who
has drawn all questions knows the means, and nothing is left to chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import nan

import torch
from torch import Tensor

from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.gate.drawn import Drawn, Whole
from lm_eval_flips.gate.evidence import LEVEL
from lm_eval_flips.gate.gate import POOLED, Gate, holm_of
from lm_eval_flips.gate.rule_values import rule_values
from lm_eval_flips.gate.ruling import Outcome, Ruling
from lm_eval_flips.gate.thresholds import EQUIVALENCE, GateConfig, Tier, refuse_no_rule
from lm_eval_flips.measures.betting import Draws, bounds
from lm_eval_flips.measures.course import Course, course
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.planning.order import Order

TWO_SIDED = 0.05  # of each side of an equivalence test, as its 90 % interval has it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rule:
    """A rule, and how sure it is after each document of the order that it is kept, or not."""

    row: str
    rule: str
    threshold: float
    course: Course
    cut: float | None
    tier: Tier

    @property
    def level(self) -> float:
        """The p at which it counts as kept."""
        return TWO_SIDED if self.rule == EQUIVALENCE else LEVEL


def judge_in_order(drawn: Drawn, config: GateConfig, order: Order) -> Gate:
    """Hold a run against the thresholds, document by document, and stop where all is decided.

    Args:
        drawn: the run.
        config: the thresholds.
        order: the order of its documents.

    Raises:
        FlipsError: there is no rule, a task that has one was not drawn, or a rule is no mean of
            bounded numbers.
    """
    refuse_no_rule(config)
    rules = [
        replace(_rule(drawn, order, metrics, row=row, rule=rule, threshold=threshold), tier=tier)
        for row, metrics, tier, rule, threshold in _asked(drawn, config)
    ]
    stop = _stop(rules, drawn.count)
    adjusted = holm_of(
        [rule.tier for rule in rules], [float(rule.course.broken[stop - 1]) for rule in rules]
    )
    judged = zip(rules, adjusted, strict=True)
    return Gate(
        model=drawn.model,
        path=drawn.path,
        judge="sequential",
        rulings=tuple(_ruling(rule, stop, p_holm) for rule, p_holm in judged),
        findings=drawn.findings,
        decided_after=stop,
        documents=len(order.documents),
        seed=order.seed,
    )


def _asked(
    drawn: Drawn, config: GateConfig
) -> Iterator[tuple[str, Sequence[PairedMetric], Tier, str, float]]:
    """Each rule's row, its metrics, its tier and its threshold."""
    standing = {metric.pairs.task: metric for metric in primaries(drawn.metrics)}
    for rule, threshold in config.pooled.given.items():
        yield POOLED, list(standing.values()), config.pooled.tier, rule, threshold
    rows: dict[str, list[PairedMetric]] = {name: [own] for name, own in standing.items()}
    for group, leaves in drawn.groups.items():
        if leaves and set(leaves) <= set(standing):
            rows.setdefault(group, [standing[leaf] for leaf in leaves])
    for pattern, thresholds in config.tasks.items():
        names = [name for name in rows if fnmatchcase(name, pattern)]
        if not names:
            raise FlipsError(
                f"no task or group '{pattern}' was drawn; there are {named(list(rows), shown=10)}"
            )
        for name in names:
            for rule, threshold in thresholds.given.items():
                yield name, rows[name], thresholds.tier, rule, threshold


def _rule(
    drawn: Drawn,
    order: Order,
    metrics: Sequence[PairedMetric],
    *,
    row: str,
    rule: str,
    threshold: float,
) -> _Rule:
    of_metric = [(metric, rule_values(metric, rule, threshold)) for metric in metrics]
    measured = [metric for metric, own in of_metric if own is not None]
    values = [own for _, own in of_metric if own is not None]
    if not values:
        raise FlipsError(f"{row}: {rule} has no numbers, as no such distances were measured")
    held = course(
        values,
        [_places(metric, order, drawn.count) for metric in measured],
        count=drawn.count,
        whole=_size(measured, drawn.wholes, rule),
        threshold=threshold,
        two_sided=rule == EQUIVALENCE,
    )
    return _Rule(
        row=row,
        rule=rule,
        threshold=threshold,
        course=held,
        cut=values[0].cut,
        tier="critical",
    )


def _places(metric: PairedMetric, order: Order, count: int) -> Tensor:
    """The place in the order of each sample, which are all that were drawn of the task."""
    place_of = order.places(metric.pairs.task)
    places = [place_of[doc] for doc in metric.doc_ids.tolist()]
    expected = sum(place < count for place in place_of.values())
    if len(places) != expected or len(set(places)) != expected:
        raise FlipsError(
            f"task '{metric.pairs.task}': {len(set(places))} of {expected} drawn documents have "
            f"{metric.metric}; a verdict while drawing needs all of them"
        )
    return torch.tensor(places)


def _size(metrics: Sequence[PairedMetric], wholes: Mapping[str, Whole], rule: str) -> int:
    own = [wholes[metric.pairs.task] for metric in metrics]
    if rule == "max_negative_flip_rate":
        return sum(whole.baseline_correct for whole in own)
    return sum(whole.documents for whole in own)


def _stop(rules: Sequence[_Rule], count: int) -> int:
    """After how many documents the gate is decided; all that were drawn where it is not.

    Advisory rules do not keep it waiting.
    """
    rules = [rule for rule in rules if rule.tier != "advisory"]
    passed = torch.stack([rule.course.kept <= rule.level for rule in rules]).all(0)
    failed = torch.stack([rule.course.broken for rule in rules]).amin(0) * len(rules) <= LEVEL
    decided = passed | failed
    return int(decided.double().argmax()) + 1 if bool(decided.any()) else count


def _ruling(rule: _Rule, stop: int, p_holm: float) -> Ruling:
    n = int(rule.course.after[stop - 1])
    seen = Draws(
        values=rule.course.draws.values[:n],
        whole=rule.course.draws.whole,
        low=rule.course.draws.low,
        high=rule.course.draws.high,
    )
    outcome: Outcome = "undecided"
    if float(rule.course.kept[stop - 1]) <= rule.level:
        outcome = "pass"
    elif p_holm <= LEVEL:
        outcome = "fail"
    return Ruling(
        row=rule.row,
        rule=rule.rule,
        value=seen.mean if n else nan,
        interval=bounds(seen, level=1 - 2 * rule.level),
        threshold=rule.threshold,
        outcome=outcome,
        p_broken=float(rule.course.broken[stop - 1]),
        p_holm=p_holm,
        drawn=n,
        whole=rule.course.draws.whole,
        cut=rule.cut,
        tier=rule.tier,
    )
