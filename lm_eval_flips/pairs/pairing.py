"""Two runs' samples -> Pairs: the same samples, proven by their hashes, as padded tensors.

The key is (task, filter, doc_id); document, target, prompt and all request arguments must hash
alike. What does not match is an error that names the samples and how to rerun, or, only when asked
for, is left out and recorded. Never a silent inner join.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.pairs.agreement import findings
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.identical import same_texts
from lm_eval_flips.pairs.judged import JudgedValues
from lm_eval_flips.pairs.measured_answers import AnswerValues
from lm_eval_flips.pairs.mismatch import mismatch, proven
from lm_eval_flips.pairs.readings import known_reading, read_values
from lm_eval_flips.pairs.sides import Side, as_tensor, only, side_of, widened
from lm_eval_flips.pairs.tokens import TokenValues
from lm_eval_flips.pairs.unused import not_compared, without_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Samples that are left out, by reason: doc_ids, the first hundred of each reason named."""

    task: str
    filter: str
    reasons: Mapping[str, tuple[int, ...]]

    @property
    def count(self) -> int:
        """Number of samples left out; one that has several reasons counts once."""
        return len(set().union(*self.reasons.values()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """The same samples in both runs, row by row, sorted by doc_id.

    ``gold`` marks the right choices, no mark in a row where the log does not tell; ``chars`` and
    ``bytes`` are the choices' lengths, nan where unknown. Equal documents share a cluster, or those
    of an equal ``cluster_field`` where one was asked for, over all tasks.
    ``identical`` tells whether every log-likelihood, or every generated text, agrees to the last
    digit; None where the texts are too short to tell.
    ``findings`` say what is doubtful or impossible in either run, or between the two.
    ``tokens`` are the distances over the vocabulary that the compressed run measured, if it did,
    ``answers`` those along what the baseline wrote; ``judged`` is what a judge said of the answers.
    ``known`` is what was computed of all of these samples, by name, for more than one metric.
    """

    task: str
    filter: str
    kind: str
    doc_ids: NDArray[np.int64]
    baseline: Side
    compressed: Side
    choices: Tensor
    chars: Tensor
    bytes: Tensor
    gold: Tensor
    clusters: Tensor
    dropped: Dropped
    findings: tuple[Finding, ...]
    identical: bool | None
    tokens: TokenValues | None = None
    answers: AnswerValues | None = None
    judged: JudgedValues | None = None
    cluster_field: str | None = None
    known: dict[str, Any] = field(init=False, default_factory=dict, repr=False)


def pair(
    baseline: Samples,
    compressed: Samples,
    *,
    on_mismatch: Literal["error", "intersect"] = "error",
    on_nan: Literal["error", "exclude"] = "error",
    pair_by: str | None = None,
    device: str | torch.device = "cpu",
) -> Pairs:
    """Pair the samples of one task and filter in two runs.

    Args:
        baseline: the baseline's samples.
        compressed: the compressed run's samples.
        on_mismatch: what to do with samples that are missing or differ in one run.
        on_nan: what to do with samples that have a nan or +inf log-likelihood or a nan metric.
        pair_by: a narrower proof of ``PROOFS`` for samples that differ; None for none but that of
            documents whose logged text agrees.
        device: where the tensors go.

    Raises:
        FlipsError: samples differ, are unusable, or none is left.
    """
    where = f"task '{baseline.task.name}', filter '{baseline.filter}'"
    _refuse_kinds(baseline, compressed, where)
    compressed, narrower, differing = proven(baseline, compressed, pair_by)
    readings = known_reading(baseline), read_values(compressed)
    baseline, compressed = (reading.samples for reading in readings)
    if differing and on_mismatch == "error":
        raise FlipsError(mismatch(baseline, compressed, differing))
    reasons = {reason: tuple(docs.tolist()) for reason, docs in differing.items()}
    reasons |= _unusable(baseline, compressed, where, on_nan, paired_elsewhere=reasons)
    out = {doc for docs in reasons.values() for doc in docs}
    baseline, compressed, infinite = without_values(baseline, compressed, where, on_nan, gone=out)
    left, right = _rows(baseline, compressed, without=out)
    if not len(left):
        why = f". {mismatch(baseline, compressed, differing)}" if differing else ""
        raise FlipsError(
            f"{where}: the runs have no sample in common; nothing can be compared{why}"
        )
    baseline, compressed = widened(baseline, compressed)
    ours, theirs = side_of(baseline, left, device), side_of(compressed, right, device)
    return Pairs(
        task=baseline.task.name,
        filter=baseline.filter,
        kind=baseline.kind,
        doc_ids=only(baseline.doc_id, left),
        baseline=ours,
        compressed=theirs,
        choices=as_tensor(only(baseline.choices, left), device),
        chars=as_tensor(only(baseline.chars, left), device),
        bytes=as_tensor(only(baseline.bytes, left), device),
        gold=as_tensor(only(baseline.gold, left), device),
        clusters=as_tensor(_documents(baseline, left), device),
        dropped=Dropped(
            task=baseline.task.name,
            filter=baseline.filter,
            reasons={**reasons, **infinite.left_out},
        ),
        findings=(
            *narrower,
            *infinite.findings,
            *not_compared(*readings),
            *findings(baseline, compressed),
        ),
        identical=same_texts(baseline, compressed)
        if baseline.kind == "text"
        else torch.equal(ours.loglikelihoods, theirs.loglikelihoods),
    )


def _refuse_kinds(baseline: Samples, compressed: Samples, where: str) -> None:
    if baseline.kind != compressed.kind:
        raise FlipsError(
            f"{where}: the baseline logged {baseline.kind} samples, the compressed run "
            f"{compressed.kind}; rerun both with the same version of the task"
        )


def _rows(
    baseline: Samples, compressed: Samples, *, without: set[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the documents that both runs hold, in each of them."""
    left, right = baseline.shared_rows(compressed)
    if not without:
        return left, right
    kept = ~np.isin(baseline.doc_id[left], list(without))
    return left[kept], right[kept]


def _documents(samples: Samples, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each document: its hash, so that it is the same one in every task."""
    return only(samples.hashes["document"], rows)[:, 0].astype(np.uint64).view(np.int64)


def _unusable(
    baseline: Samples,
    compressed: Samples,
    where: str,
    on_nan: str,
    *,
    paired_elsewhere: Mapping[str, tuple[int, ...]],
) -> dict[str, tuple[int, ...]]:
    gone = {doc for docs in paired_elsewhere.values() for doc in docs}
    reasons: dict[str, list[int]] = {}
    for side, samples in (("baseline", baseline), ("compressed run", compressed)):
        for doc, reason in sorted(samples.unusable.items()):
            if doc not in gone:
                gone.add(doc)
                reasons.setdefault(f"{reason} in the {side}", []).append(doc)
    if reasons and on_nan == "error":
        parts = [f"{reason} (doc {named(docs)})" for reason, docs in reasons.items()]
        raise FlipsError(
            f"{where}: {'; '.join(parts)}. Rerun in a wider dtype, or leave these samples out with "
            "--on-nan exclude"
        )
    return {reason: tuple(docs) for reason, docs in reasons.items()}
