"""What FlipsTask hands to the harness for each sample: ``(doc_id, key, value)``.

Values of the metrics that are means are 0 or 1, or nats; the others carry plain numbers, which any
rank can send and any log can hold, for the aggregations in ``aggregations.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lm_eval_flips.errors import named
from lm_eval_flips.pairs.known_values import known_values
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.sample_values import AGGREGATED, Aggregation, Column

logger = logging.getLogger(__name__)

# A text's perplexity may be given by words, bytes or bits; its ratio is that of the words.
PREFERRED = ("word_perplexity", "perplexity")


def deciding(metrics: Sequence[PairedMetric], asked: str | None = None) -> PairedMetric | None:
    """The binary metric that decides what is correct: the one asked for, else the first."""
    binary = [metric for metric in metrics if metric.baseline_correct is not None]
    if asked is None or not metrics:
        return next(iter(binary), None)
    chosen = [metric for metric in binary if metric.metric == asked]
    if not chosen:
        logger.warning(
            "task '%s': no flips, as it has no binary metric '%s' but %s",
            metrics[0].pairs.task,
            asked,
            named([metric.metric for metric in binary]) or "none",
        )
    return next(iter(chosen), None)


def sample_values(
    deciding: PairedMetric | None, metrics: Sequence[PairedMetric]
) -> Iterator[tuple[int, str, Any]]:
    """Every value of the harness's table that is defined for these samples, sample by sample.

    Args:
        deciding: the metric that decides what is correct; None where there is none.
        metrics: all of the task's, of which the perplexities have values of their own.
    """
    texts = [metric for metric in metrics if metric.units is not None]
    texts.sort(key=lambda metric: metric.metric not in PREFERRED)
    read_from = texts if deciding is None else [deciding, *texts]
    for key, value in AGGREGATED.items():
        if value.aggregation is Aggregation.MEAN_OVER_REQUESTS:
            continue  # the requests of this run, as flips-hf measured them: `mean_token_kl`
        if defined := _first_defined(value.of, read_from):
            metric, column = defined
            yield from _by_sample(key, metric, column)


def _first_defined(
    of: Column, metrics: Sequence[PairedMetric]
) -> tuple[PairedMetric, Tensor] | None:
    columns = ((metric, of(metric)) for metric in metrics)
    return next(((metric, column) for metric, column in columns if column is not None), None)


def _by_sample(key: str, metric: PairedMetric, column: Tensor) -> Iterator[tuple[int, str, Any]]:
    """A number of each sample; where there are several columns, its doc_id and their numbers."""
    if column.dim() == 1:
        metric, column = known_values(metric, column)
    numbers = column.int() if column.dtype == torch.bool else column
    for doc_id, number in zip(metric.doc_ids.tolist(), numbers.tolist(), strict=True):
        yield doc_id, key, number if column.dim() == 1 else (doc_id, *number)
