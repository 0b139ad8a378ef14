"""One number from the values of a task's samples, where that is more than a mean.

Those of more than one column take ``(doc_id, column, ...)``, plain numbers that any rank can send
and any log can hold; they are put in the order of the documents, on the GPU where there is one.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lm_eval_flips.measures.correlation import spearman
from lm_eval_flips.measures.perplexity import PerplexityChange, perplexity_change


def gathered_device() -> torch.device:
    """Where gathered samples go: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
