"""A per-sample value that not every sample has."""

from __future__ import annotations

import torch
from torch import Tensor

from lm_eval_flips.pairs.metric import PairedMetric


def known_values(metric: PairedMetric, values: Tensor) -> tuple[PairedMetric, Tensor]:
    """The samples of a metric that have a value, and these values.

    Args:
        metric: of ``n`` samples.
        values: [n]; numbers, nan where there is none; marks; or marks as int8, -1 where unknown.
    """
    if values.dtype == torch.int8:
        known, values = values >= 0, values > 0
    elif values.dtype == torch.bool:
        return metric, values
    else:
        known = ~values.isnan()
    if bool(known.all()):
        return metric, values
    rows = known.nonzero()[:, 0]
    return metric.at(rows), values[rows]
