"""Two runs' samples -> Pairs: the same samples, proven by their hashes, as padded tensors.

The key is (task, filter, doc_id); document, target, prompt and all request arguments must hash
alike. What does not match is an error that names the samples and how to rerun, or, only when asked
for, is left out and recorded. Never a silent inner join.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.runs import TaskLog
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.pairs.agreement import findings, same_texts
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.mismatch import differences, mismatch, proven
from lm_eval_flips.pairs.readings import read_values
from lm_eval_flips.pairs.tokens import TokenValues
from lm_eval_flips.pairs.unused import not_compared, without_values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One run's half of the pairs: tensors whose rows are the pairs' samples, float64.

    Log-likelihoods are nats, ``[n, choices]``, -inf beyond a sample's own choices; the metrics are
    as logged, nan where a sample lacks one.
    """

    loglikelihoods: Tensor
    unconditional: Tensor | None
    answer: Tensor
    request_keys: NDArray[np.uint64] | None
    metrics: Mapping[str, Tensor]
    units: Mapping[str, Tensor]
    line: NDArray[np.int64]
    task: TaskLog


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
    ``tokens`` are the distances over the vocabulary that the compressed run measured, if it did.
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
    cluster_field: str | None = None


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
    if baseline.kind != compressed.kind:
        raise FlipsError(
            f"{where}: the baseline logged {baseline.kind} samples, the compressed run "
            f"{compressed.kind}; rerun both with the same version of the task"
        )
    compressed, narrower = proven(baseline, compressed, pair_by)
    readings = read_values(baseline), read_values(compressed)
    baseline, compressed = (reading.samples for reading in readings)
    found = differences(baseline, compressed)
    if found and on_mismatch == "error":
        raise FlipsError(mismatch(baseline, compressed, found))
    reasons = {reason: tuple(docs.tolist()) for reason, docs in found.items()}
    reasons |= _unusable(baseline, compressed, where, on_nan, paired_elsewhere=reasons)
    out = {doc for docs in reasons.values() for doc in docs}
    baseline, compressed, infinite = without_values(baseline, compressed, where, on_nan, gone=out)
    common, left, right = np.intersect1d(
        baseline.doc_id, compressed.doc_id, assume_unique=True, return_indices=True
    )
    if out:
        kept = ~np.isin(common, list(out))
        left, right = left[kept], right[kept]
    if not len(left):
        why = f". {mismatch(baseline, compressed, found)}" if found else ""
        raise FlipsError(
            f"{where}: the runs have no sample in common; nothing can be compared{why}"
        )
    # a run's table is as wide as its own widest sample, which the other may not hold
    width = max(baseline.loglikelihoods.shape[1], compressed.loglikelihoods.shape[1])
    baseline, compressed = _widened(baseline, width), _widened(compressed, width)
    ours, theirs = _side(baseline, left, device), _side(compressed, right, device)
    documents = baseline.hashes["document"][left][:, 0]
    return Pairs(
        task=baseline.task.name,
        filter=baseline.filter,
        kind=baseline.kind,
        doc_ids=baseline.doc_id[left],
        baseline=ours,
        compressed=theirs,
        choices=_tensor(baseline.choices[left], device),
        chars=_tensor(baseline.chars[left], device),
        bytes=_tensor(baseline.bytes[left], device),
        gold=_tensor(baseline.gold[left], device),
        # the hash itself, so that a document is the same one in every task that asks it
        clusters=_tensor(documents.astype(np.uint64).view(np.int64), device),
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


def _widened(samples: Samples, width: int) -> Samples:
    missing = width - samples.loglikelihoods.shape[1]
    if not missing:
        return samples

    def pad(values: NDArray[Any], empty: float) -> NDArray[Any]:
        return np.pad(values, ((0, 0), (0, missing)), constant_values=empty)

    return replace(
        samples,
        loglikelihoods=pad(samples.loglikelihoods, -np.inf),
        unconditional=None if samples.unconditional is None else pad(samples.unconditional, 0.0),
        chars=pad(samples.chars, np.nan),
        bytes=pad(samples.bytes, np.nan),
        gold=pad(samples.gold, 0.0),
        greedy=pad(samples.greedy, -1.0),
        request_keys=None
        if samples.request_keys is None
        else np.pad(samples.request_keys, ((0, 0), (0, missing), (0, 0))),
    )


def _side(samples: Samples, rows: NDArray[np.int64], device: str | torch.device) -> Side:
    return Side(
        loglikelihoods=_tensor(samples.loglikelihoods[rows], device),
        unconditional=None
        if samples.unconditional is None
        else _tensor(samples.unconditional[rows], device),
        answer=_tensor(samples.answer[rows].view(np.int64), device),
        request_keys=None if samples.request_keys is None else samples.request_keys[rows],
        metrics={name: _tensor(values[rows], device) for name, values in samples.metrics.items()},
        units={name: _tensor(values[rows], device) for name, values in samples.units.items()},
        line=samples.line[rows],
        task=samples.task,
    )


def _tensor(values: NDArray[np.generic], device: str | torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
