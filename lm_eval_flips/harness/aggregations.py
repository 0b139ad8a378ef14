"""One number from the values of a task's samples, as the harness gathers them from all ranks.

Means take a number a sample, the others what ``pairs/over_samples.py`` says: this is the harness's
one hook after it has gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import fsum
from typing import Any

import lm_eval.api.metrics

from lm_eval_flips.harness.measured_answer import MeanOfRequests
from lm_eval_flips.pairs.over_samples import (
    change_of_bits,
    correlation,
    median,
    ratio_of_perplexities,
)
from lm_eval_flips.pairs.sample_values import Aggregation

mean = lm_eval.api.metrics.mean  # the harness knows its standard error


def mean_over_requests(items: Sequence[MeanOfRequests]) -> float:
    """Mean over all requests of a task, from each sample's own mean and number of requests.

    Example:
        >>> mean_over_requests([MeanOfRequests(0.25, 4), MeanOfRequests(1.0, 2)])
        0.5
    """
    return fsum(mean * mean.requests for mean in items) / sum(mean.requests for mean in items)


OVER_SAMPLES: Mapping[Aggregation, Callable[[Any], float]] = {
    Aggregation.MEAN: mean,
    Aggregation.MEDIAN: median,
    Aggregation.MEAN_OVER_REQUESTS: mean_over_requests,
    Aggregation.CORRELATION: correlation,
    Aggregation.PERPLEXITY_RATIO: ratio_of_perplexities,
    Aggregation.BITS_CHANGE: change_of_bits,
}
