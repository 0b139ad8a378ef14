"""Registers what the harness's own table shows of the list of sample values.

lm_eval 0.4.14 finds them by entry point; before that they are registered when FlipsTask is
imported. The values are made by FlipsTask, sample by sample; the metrics registered here only carry
the names, their aggregation and their direction.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from types import SimpleNamespace
from typing import Any

# Registering before the built-ins are there would keep lm_eval from ever loading them.
import lm_eval.api.metrics
import lm_eval.models  # noqa: F401
from lm_eval.api.registry import (
    aggregation_registry,
    metric_registry,
    register_aggregation,
    register_metric,
)

from lm_eval_flips.harness.aggregations import OVER_SAMPLES, mean
from lm_eval_flips.pairs.sample_values import AGGREGATED, Aggregation

AGGREGATIONS: dict[str, Callable[[Any], float]] = {
    key: OVER_SAMPLES[value.aggregation]
    for key, value in AGGREGATED.items()
    if value.aggregation is not None
}
# of a correlation, more is neither better nor worse
MORE_IS_BETTER = {
    key: value.nearer
    for key, value in AGGREGATED.items()
    if value.aggregation is not Aggregation.CORRELATION
}


def _register(name: str) -> Callable[..., float]:
    def carried(*_: object, **__: object) -> float:
        return nan  # only FlipsTask knows the baseline; it puts its own value in this place

    carried.__name__ = name
    if name in metric_registry:
        return metric_registry.get(name)  # type: ignore[no-any-return]
    aggregation = AGGREGATIONS[name]
    label = "mean" if aggregation is mean else name
    if aggregation is not mean and name not in aggregation_registry:
        register_aggregation(name)(aggregation)
    direction = {"higher_is_better": MORE_IS_BETTER[name]} if name in MORE_IS_BETTER else {}
    register_metric(metric=name, aggregation=label, **direction)(carried)
    return carried


# where the entry points find them
METRICS = SimpleNamespace(**{name: _register(name) for name in AGGREGATED})
NOT_MEANS = SimpleNamespace(**{k: of for k, of in AGGREGATIONS.items() if of is not mean})
