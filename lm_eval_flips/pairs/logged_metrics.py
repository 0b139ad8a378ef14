"""Pairs -> every metric that both runs logged, but those that FlipsTask adds."""

from __future__ import annotations

from lm_eval_flips.pairs.metric import PairedMetric, paired_metric, shared_samples
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.sample_values import AGGREGATED, MARKS


def paired_metrics(pairs: Pairs) -> list[PairedMetric]:
    """Every metric that both runs logged for these samples as a number, in logged order.

    What FlipsTask logs itself is a result, not a metric to compare.

    Raises:
        FlipsError: a logged correctness contradicts the log-likelihoods it was made from.
    """
    both = [name for name in pairs.baseline.metrics if name in pairs.compressed.metrics]
    names = [name for name in both if name not in AGGREGATED and name not in MARKS]
    return [paired_metric(pairs, name) for name in names if shared_samples(pairs, name).any()]
