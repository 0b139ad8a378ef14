"""What FlipsTask hands to the harness for each sample: ``(doc_id, metric, value)``.

Values of the metrics that are means are 0 or 1, or nats; the others carry plain numbers, which any
rank can send and any log can hold, for the aggregations in ``plugin.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval_flips.logs.metric_columns import PERPLEXITIES
from lm_eval_flips.pairs.indicators import indicators
from lm_eval_flips.pairs.metric import PairedMetric, as_compared

Value = tuple[int, str, Any]


def flip_values(metric: PairedMetric) -> Iterator[Value]:
    """``(doc_id, metric, value)`` of every flip metric that is defined for these samples."""
    columns: dict[str, list[Any]] = {
        name: marks.int().tolist() for name, marks in indicators(metric).items()
    }
    if metric.divergence is not None:
        columns["choice_kl"] = metric.divergence.kl.tolist()
        columns["flips_kl_correlation"] = _gatherable(metric, columns["flips"])
    for name, values in columns.items():
        for doc_id, value in zip(metric.doc_ids.tolist(), values, strict=True):
            yield doc_id, name, value


def _gatherable(metric: PairedMetric, flipped: list[int]) -> list[Any]:
    """What the post-aggregation hook needs of a sample: plain numbers, which any rank can send."""
    pairs = metric.pairs
    sides = [as_compared(pairs, side, metric.metric) for side in (pairs.baseline, pairs.compressed)]
    counts = pairs.choices[metric.rows].tolist()
    left, right = ([] if side is None else side[metric.rows].tolist() for side in sides)
    return [
        (doc_id, flip, a[:count], b[:count])
        for doc_id, flip, a, b, count in zip(
            metric.doc_ids.tolist(), flipped, left, right, counts, strict=True
        )
    ]


def perplexity_values(metrics: Sequence[PairedMetric]) -> Iterator[Value]:
    """The values of the perplexity metrics: a ratio, and bits per byte where it has them."""
    every = [m for m in metrics if m.units is not None]
    ratio = [m for m in every if m.metric in ("word_perplexity", "perplexity")] or [
        m for m in every if m.metric in PERPLEXITIES
    ]
    bits = [m for m in every if m.metric in ("bits_per_byte", "byte_perplexity")]
    for name, found in (("perplexity_ratio", ratio), ("bits_per_byte_change", bits)):
        if found:
            yield from _weighted(name, found[0])


def _weighted(name: str, metric: PairedMetric) -> Iterator[Value]:
    if metric.units is None:
        return
    rows = zip(
        metric.doc_ids.tolist(),
        metric.baseline_value.tolist(),
        metric.compressed_value.tolist(),
        metric.units.tolist(),
        strict=True,
    )
    for doc_id, before, after, units in rows:
        yield doc_id, name, (doc_id, before, after, units)
