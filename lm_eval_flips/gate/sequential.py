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
from lm_eval_flips.measures.betting import Draws, bounds, p_at_least, p_at_most
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.planning.order import Order
from lm_eval_flips.shapes import Float, Int

TWO_SIDED = 0.05  # of each side of an equivalence test, as its 90 % interval has it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rule:
    """A rule's draws, and how sure it is after each document of the order that it is kept, or not.

    ``kept`` and ``broken`` are anytime-valid p that it is not, ``[count]``: small where it is.
    """

    row: str
    rule: str
    threshold: float
    draws: Draws
    after: Int[Tensor, " count"]
    kept: Float[Tensor, " count"]
    broken: Float[Tensor, " count"]
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
        [rule.tier for rule in rules], [float(rule.broken[stop - 1]) for rule in rules]
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
    places = [_places(metric, order, drawn.count) for metric in measured]
    asked = [own.asked.cpu() for own in values]
    place = torch.cat([all_[kept] for all_, kept in zip(places, asked, strict=True)])
    numbers = torch.cat([own.values.cpu()[kept] for own, kept in zip(values, asked, strict=True)])
    by_place = place.argsort()
    draws = Draws(
        values=numbers[by_place],
        whole=_size(measured, drawn.wholes, rule),
        low=values[0].low,
        high=values[0].high,
    )
    after = torch.searchsorted(place[by_place], torch.arange(drawn.count), right=True)
    kept, broken = _evidence(draws, rule, threshold)
    return _Rule(
        row=row,
        rule=rule,
        threshold=threshold,
        draws=draws,
        after=after,
        kept=_at(kept, after),
        broken=_at(broken, after),
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


def _evidence(draws: Draws, rule: str, threshold: float) -> tuple[Tensor, Tensor]:
    """After each draw, p that the rule is broken, and p that it is kept."""
    kept = p_at_least(draws, threshold)
    broken = p_at_most(draws, threshold)
    mean = abs(draws.mean) if rule == EQUIVALENCE else draws.mean
    if rule == EQUIVALENCE:
        kept = torch.maximum(kept, p_at_most(draws, -threshold))
        broken = (2 * torch.minimum(broken, p_at_least(draws, -threshold))).clamp(max=1.0)
    if len(draws.values) == draws.whole > 0:  # nothing is left to chance
        holds = mean <= threshold + 1e-12
        kept[-1], broken[-1] = (0.0, 1.0) if holds else (1.0, 0.0)
    return kept, broken


def _at(p: Tensor, after: Tensor) -> Tensor:
    """After each document of the order; 1 before the first draw."""
    return torch.cat([torch.ones(1, dtype=torch.float64), p.cpu()])[after]


def _stop(rules: Sequence[_Rule], count: int) -> int:
    """After how many documents the gate is decided; all that were drawn where it is not.

    Advisory rules do not keep it waiting.
    """
    rules = [rule for rule in rules if rule.tier != "advisory"]
    passed = torch.stack([rule.kept <= rule.level for rule in rules]).all(0)
    failed = torch.stack([rule.broken for rule in rules]).amin(0) * len(rules) <= LEVEL
    decided = passed | failed
    return int(decided.double().argmax()) + 1 if bool(decided.any()) else count


def _ruling(rule: _Rule, stop: int, p_holm: float) -> Ruling:
    n = int(rule.after[stop - 1])
    seen = Draws(
        values=rule.draws.values[:n],
        whole=rule.draws.whole,
        low=rule.draws.low,
        high=rule.draws.high,
    )
    outcome: Outcome = "undecided"
    if float(rule.kept[stop - 1]) <= rule.level:
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
        p_broken=float(rule.broken[stop - 1]),
        p_holm=p_holm,
        drawn=n,
        whole=rule.draws.whole,
        cut=rule.cut,
        tier=rule.tier,
    )
