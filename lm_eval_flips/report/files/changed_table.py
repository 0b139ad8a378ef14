"""All changed samples with their whole texts as tables, for a Parquet file beside a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow as pa

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.report.changed.changed import ChangedSample, Found, read_changed

SCHEMA = pa.schema(
    {
        "compressed": pa.string(),
        "model": pa.string(),
        "task": pa.string(),
        "filter": pa.string(),
        "metric": pa.string(),
        "doc_id": pa.int64(),
        "direction": pa.string(),
        "top_margin": pa.float64(),
        "choice_kl": pa.float64(),
        "token_kl": pa.float64(),
        "question": pa.string(),
        "target": pa.string(),
        "choices": pa.list_(pa.string()),
        "gold": pa.list_(pa.bool_()),
        "baseline_probabilities": pa.list_(pa.float64()),
        "compressed_probabilities": pa.list_(pa.float64()),
        "baseline_answer": pa.string(),
        "compressed_answer": pa.string(),
    }
)


def changed_tables(comparison: Comparison, found: Sequence[Found]) -> Iterator[pa.Table]:
    """A table for each task, with one row for each changed sample of each run.

    Probabilities are shares 0..1, distances nats; null where undefined.

    Args:
        comparison: what the samples are of.
        found: those of ``find_changed``, in any order.

    Raises:
        FlipsError: a samples file is gone or has changed since it was compared.
    """
    by_task = sorted(found, key=lambda own: own.metric.pairs.task)
    for _, own in groupby(by_task, key=lambda own: own.metric.pairs.task):
        rows = [_row(comparison, sample) for sample in read_changed(list(own))]
        columns = {name: [row[name] for row in rows] for name in SCHEMA.names}
        yield pa.table(
            {
                name: pa.array(values, SCHEMA.field(name).type, from_pandas=True)
                for name, values in columns.items()
            },
            schema=SCHEMA,
        )


def _row(comparison: Comparison, sample: ChangedSample) -> dict[str, object]:
    found, text = sample.found, sample.text
    run, pairs = comparison.compressed[found.run], found.metric.pairs
    answers = sample.answers or tuple(
        next((choice.text for choice in sample.choices if getattr(choice, name)), None)
        for name in ("baseline_answer", "compressed_answer")
    )
    return {
        "compressed": run.path,
        "model": run.model,
        "task": pairs.task,
        "filter": pairs.filter,
        "metric": found.metric.metric,
        "doc_id": found.doc_id,
        "direction": found.direction,
        "top_margin": found.margin,
        "choice_kl": sample.choice_kl,
        "token_kl": sample.token_kl,
        "question": text.question,
        "target": text.target,
        "choices": [choice.text for choice in sample.choices],
        "gold": [choice.gold for choice in sample.choices],
        "baseline_probabilities": [choice.baseline for choice in sample.choices],
        "compressed_probabilities": [choice.compressed for choice in sample.choices],
        "baseline_answer": answers[0],
        "compressed_answer": answers[1],
    }
