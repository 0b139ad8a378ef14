"""Comparison -> one row per sample, for `--per-sample FILE.parquet`.

A sample is one document of one task under one filter. Its metrics stand side by side in columns
named after them, null where its task does not have the metric.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.sample_values import SAMPLE_VALUES


def to_table(comparison: Comparison) -> pa.Table:
    """Every paired sample of every compressed run, with all per-sample values.

    Columns: compressed, model, task, filter, doc_id, baseline_loglikelihoods and
    compressed_loglikelihoods (nats, as logged), and for each metric ``<metric>.<key>`` with the
    keys of the list of sample values, where they are defined; where a plan was given, weight: how
    many documents a sample stands for.
    """
    tables = [
        _samples(run, [m for m in run.metrics if m.pairs is pairs])
        for run in comparison.compressed
        for pairs in _distinct(run)
    ]
    return pa.concat_tables(tables, promote_options="default")


def _distinct(run: RunComparison) -> list[Pairs]:
    return list({id(m.pairs): m.pairs for m in run.metrics}.values())


def _samples(run: RunComparison, metrics: list[PairedMetric]) -> pa.Table:
    pairs = metrics[0].pairs
    n = len(pairs.doc_ids)
    columns: dict[str, Any] = {
        "compressed": pa.array([run.path] * n).dictionary_encode(),
        "model": pa.array([run.model] * n).dictionary_encode(),
        "task": pa.array([pairs.task] * n).dictionary_encode(),
        "filter": pa.array([pairs.filter] * n).dictionary_encode(),
        "doc_id": pa.array(pairs.doc_ids),
    }
    if run.planned is not None:
        weights = run.planned.weights[pairs.task]
        columns["weight"] = pa.array([weights[doc] for doc in pairs.doc_ids.tolist()])
    if pairs.kind != "text":
        counts = pairs.choices.tolist()
        for side, values in (("baseline", pairs.baseline), ("compressed", pairs.compressed)):
            rows = values.loglikelihoods.tolist()
            columns[f"{side}_loglikelihoods"] = pa.array(
                [row[:count] for row, count in zip(rows, counts, strict=True)],
                pa.list_(pa.float64()),
            )
    for metric in metrics:
        for value in SAMPLE_VALUES:
            column = value.of(metric)
            if column is not None and column.dim() == 1:
                columns[f"{metric.metric}.{value.key}"] = _spread(metric, column, n)
    return pa.table(columns)


def _spread(metric: PairedMetric, values: Tensor, n: int) -> pa.Array:
    """The metric's values on all samples, null where a sample lacks the metric."""
    own = _column(values)
    if len(own) == n:
        return own
    place: list[int | None] = [None] * n
    for i, row in enumerate(metric.rows.tolist()):
        place[row] = i
    return own.take(pa.array(place, pa.int64()))


def _column(values: Tensor) -> pa.Array:
    """Values of samples; what was not measured of one of them is null."""
    numbers = values.cpu().numpy()
    if values.dtype == torch.int8:
        return pa.array(numbers > 0, mask=numbers < 0)
    return pa.array(numbers, from_pandas=True)
