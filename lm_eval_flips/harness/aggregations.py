"""One number from the values of a task's samples, as the harness gathers them from all ranks.

Means take a number a sample. The others take ``(doc_id, column, ...)``, plain numbers that any rank
can send and any log can hold; they are put in the order of the documents, on the GPU where there is
one: the harness's one hook after it has gathered.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from math import fsum
from typing import Any

import lm_eval.api.metrics
import torch
from torch import Tensor

from lm_eval_flips.harness.measured_answer import MeanOfRequests
from lm_eval_flips.measures.correlation import spearman
from lm_eval_flips.measures.perplexity import PerplexityChange, perplexity_change
from lm_eval_flips.pairs.sample_values import Aggregation

mean = lm_eval.api.metrics.mean  # the harness knows its standard error


def gathered_device() -> torch.device:
    """Where gathered samples go: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mean_over_requests(items: Sequence[MeanOfRequests]) -> float:
    """Mean over all requests of a task, from each sample's own mean and number of requests.

    Example:
        >>> mean_over_requests([MeanOfRequests(0.25, 4), MeanOfRequests(1.0, 2)])
        0.5
    """
    return fsum(mean * mean.requests for mean in items) / sum(mean.requests for mean in items)


def median(items: Sequence[float]) -> float:
    """The middle of some numbers, or half way between the two middle ones.

    Example:
        >>> median([4.0, 1.0, 9.0, 2.0])
        3.0
    """
    return float(statistics.median(items))


def correlation(items: Sequence[tuple[Any, ...]]) -> float:
    """Spearman's correlation of two columns; nan where one of them is constant.

    Example:
        >>> correlation([(0, 0.1, 0), (2, 0.3, 1), (1, 0.2, 0)])
        0.8660254037844387
    """
    columns = _columns(items)
    return spearman(columns[:, 0], columns[:, 1]).statistic


def ratio_of_perplexities(items: Sequence[tuple[Any, ...]]) -> float:
    """Compressed perplexity over the baseline's, from ``(doc_id, baseline, compressed, units)``."""
    return _perplexity_change(items).ratio


def change_of_bits(items: Sequence[tuple[Any, ...]]) -> float:
    """Change of bits per byte, from ``(doc_id, baseline, compressed, bytes)``."""
    return _perplexity_change(items).bits_change


def _columns(items: Sequence[tuple[Any, ...]]) -> Tensor:
    rows = [item[1:] for item in sorted(items, key=lambda item: item[0])]
    return torch.tensor(rows, dtype=torch.float64, device=gathered_device())


def _perplexity_change(items: Sequence[tuple[Any, ...]]) -> PerplexityChange:
    columns = _columns(items)
    return perplexity_change(baseline=columns[:, 0], compressed=columns[:, 1], units=columns[:, 2])


OVER_SAMPLES: Mapping[Aggregation, Callable[[Any], float]] = {
    Aggregation.MEAN: mean,
    Aggregation.MEDIAN: median,
    Aggregation.MEAN_OVER_REQUESTS: mean_over_requests,
    Aggregation.CORRELATION: correlation,
    Aggregation.PERPLEXITY_RATIO: ratio_of_perplexities,
    Aggregation.BITS_CHANGE: change_of_bits,
}
