"""Runs of the first documents of an order, judged against the baseline's run of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import Unpack

from lm_eval_flips.comparison.compare import compare
from lm_eval_flips.comparison.options import CompareOptions, Options
from lm_eval_flips.comparison.paired_runs import Read
from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.gate.drawn import Drawn, Whole
from lm_eval_flips.gate.gate import Gate
from lm_eval_flips.gate.sequential import judge_in_order
from lm_eval_flips.gate.thresholds import GateConfig
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.pairs.logged_metrics import paired_metrics
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import pair
from lm_eval_flips.planning.order import Order, OrderedSamples, draw_order, load_order
from lm_eval_flips.planning.population import documents_digest


def order_of(base: Run, *, tasks: str = "*", seed: int = 0, read: Read = read_samples) -> Order:
    """A random order of all documents of a baseline's run.

    Raises:
        FlipsError: a task draws its few-shot examples document by document, so that others would
            be drawn where documents are left out.
    """
    doc_ids, digests = {}, {}
    for name in base.select(tasks):
        if base.draws_fewshot(name):
            raise FlipsError(
                f"task '{name}' draws its few-shot examples document by document, and others "
                "where documents are left out: it cannot be evaluated in an order; leave it out, "
                "or evaluate it whole"
            )
        samples = next(iter(read(base.tasks[name]).values()))
        doc_ids[name], digests[name] = samples.doc_id, documents_digest(samples)
    return draw_order(doc_ids, seed=seed, digests=digests)


def recorded_order(run: Run) -> Order:
    """The order of a run's documents.

    Raises:
        FlipsError: the run was not evaluated in one.
    """
    for folder in (run.path, *run.path.parents[:2]):
        if (order := load_order(folder)) is not None:
            return order
    raise FlipsError(f"'{run.path}' was not evaluated in a random order, by run --until")


def judge_drawn(
    base: Run,
    run: Run,
    order: Order,
    config: GateConfig,
    *,
    read: Read = read_samples,
    **options: Unpack[CompareOptions],
) -> tuple[Gate, Comparison]:
    """Hold what was drawn so far against the thresholds.

    Args:
        base: the baseline's run, of all documents.
        run: the compressed model's, of the first documents of the order.
        order: the order.
        config: the thresholds.
        read: as for ``compare``.
        options: as for ``compare``.

    Returns:
        The verdict, and the comparison of the drawn documents.

    Raises:
        FlipsError: as ``compare`` and ``judge_in_order``; the run holds other documents.
    """
    select = OrderedSamples(order, run.path)
    comparison = compare(base, run, read=read, select=select, **options)
    (compressed,) = comparison.compressed
    standing = primaries(compressed.metrics)
    drawn = Drawn(
        model=compressed.model,
        path=compressed.path,
        metrics=standing,
        wholes=_wholes(base, standing, read, Options(**options)),
        groups=base.groups,
        count=select.refuse_gaps(),
        findings=compressed.findings,
    )
    return judge_in_order(drawn, config, order), comparison


def _wholes(
    base: Run, standing: Sequence[PairedMetric], read: Read, asked: Options
) -> dict[str, Whole]:
    """The baseline's own answers to all documents, as if it were paired with itself."""
    wholes = {}
    for metric in standing:
        samples = read(base.tasks[metric.pairs.task])[metric.pairs.filter]
        with_itself = paired_metrics(pair(samples, samples), right_from=asked.right_from)
        whole = next((own for own in with_itself if own.metric == metric.metric), None)
        if whole is None:
            raise FlipsError(
                f"task '{metric.pairs.task}': the baseline's {metric.metric} of all documents "
                "cannot be read as that of those drawn"
            )
        wholes[metric.pairs.task] = Whole.of(whole)
    return wholes
