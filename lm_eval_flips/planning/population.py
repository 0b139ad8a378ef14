"""A baseline's run -> what is known of every document before a compressed model is evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.measures.sampling.change_rates import leads
from lm_eval_flips.pairs.answers import as_compared
from lm_eval_flips.pairs.logged_metrics import paired_metrics
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import pair


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Population:
    """Every document of one task as the baseline answered it, sorted by doc_id.

    ``margin`` is the top margin of its answer under ``metric``, None where the log has no choices;
    ``lead`` the same in units of noise (``measures.change_rates.leads``), by which documents are
    put in order; ``others`` the number of answers that an answer might change to.
    """

    task: str
    filter: str
    metric: str
    samples: Samples
    margin: Tensor | None
    lead: Tensor | None
    correct: Tensor
    others: Tensor
    fewshot_drawn: bool

    def __len__(self) -> int:
        return len(self.samples)


def populations(base: Run, tasks: str = "*") -> tuple[list[Population], list[str]]:
    """The documents of each task that has a metric of right and wrong; the names of the others.

    Each task's first such metric is taken, as ``compare`` pools it.

    Raises:
        FlipsError: a samples file cannot be read, samples are unusable, or no task is left.
    """
    every: list[PairedMetric] = []
    samples: dict[tuple[str, str], Samples] = {}
    names = base.select(tasks)
    for name in names:
        for label, found in read_samples(base.tasks[name]).items():
            _refuse_unusable(found)
            samples[name, label] = found
            every += paired_metrics(pair(found, found))
    chosen = [m for m in primaries(every) if m.baseline_correct is not None] if every else []
    if not chosen:
        raise FlipsError(
            f"no task of '{base.path}' has a metric that is right or wrong; flips cannot be planned"
        )
    known = [_population(base, samples[m.pairs.task, m.pairs.filter], m) for m in chosen]
    left_out = [name for name in names if name not in {own.task for own in known}]
    return known, left_out


def _refuse_unusable(samples: Samples) -> None:
    unusable = {**samples.unusable, **samples.nan_metrics()}
    if unusable:
        doc, why = next(iter(unusable.items()))
        raise FlipsError(
            f"task '{samples.task.name}': {why} in {len(unusable)} of the baseline's "
            f"samples (doc {doc}); rerun it in a wider dtype, or plan other tasks with --tasks"
        )


def _population(base: Run, samples: Samples, metric: PairedMetric) -> Population:
    if metric.baseline_correct is None or len(metric.rows) < len(samples):
        raise FlipsError(
            f"task '{samples.task.name}': {len(metric.rows)} of {len(samples)} samples have "
            f"{metric.metric}; plan other tasks with --tasks"
        )
    choices = metric.pairs.choices
    # a margin of a single choice is 1 and tells nothing
    margin = metric.margin if int(choices.max()) > 1 else None
    return Population(
        task=samples.task.name,
        filter=samples.filter,
        metric=metric.metric,
        samples=samples,
        margin=margin,
        lead=None if margin is None else _lead(metric),
        correct=metric.baseline_correct,
        others=(choices - 1).clamp(min=1),
        fewshot_drawn=base.draws_fewshot(samples.task.name),
    )


def _lead(metric: PairedMetric) -> Tensor | None:
    pairs, name = metric.pairs, metric.metric
    scores = as_compared(pairs, pairs.baseline, name)
    divisors = {"acc_norm": pairs.chars, "acc_bytes": pairs.bytes}.get(name)
    return None if scores is None else leads(scores, pairs.chars, divisors=divisors)


def refuse_no_margins(known: Sequence[Population]) -> None:
    """Refuse what cannot be stratified: then a plain random sample is as good.

    Raises:
        FlipsError: no task has choices, or all samples have the same margin.
    """
    margins = [own.margin for own in known if own.margin is not None]
    plain = "a plain random sample serves as well: lm_eval --limit, or a list for --samples"
    if not margins:
        raise FlipsError(
            f"no choices in task {named([own.task for own in known])}: without top margins "
            f"nothing tells which answers may change, and {plain}"
        )
    if torch.cat(margins).diff().count_nonzero() == 0:
        raise FlipsError(f"every sample has the same top margin: one stratum, and {plain}")


def document_hashes(samples: Samples) -> list[str]:
    """Each document's hash, as the log has it, its first half."""
    found: NDArray[np.uint64] = samples.hashes["document"]
    return [row.tobytes().hex() for row in found]


def documents_digest(samples: Samples) -> str:
    """One hash of which documents there are, under which doc_ids.

    The same documents in another order, or one more, give another.
    """
    content = samples.doc_id.astype("<i8").tobytes() + samples.hashes["document"].tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


def identity(run: Run) -> dict[str, object]:
    """Which model a run is of."""
    return {"model": run.model} | {
        name: run.model_args.get(name) for name in ("revision", "peft", "delta")
    }
