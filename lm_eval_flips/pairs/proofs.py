"""Narrower proofs that two samples are the same, where honest runs differ in form only.

Strictly, document, target, prompt and all arguments hash alike. Each proof here asks for less, by
name, and says of what it cannot be sure. A proof gives the compressed run's samples with the
baseline's hashes wherever it holds, so that pairing stays strict for all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.logs.reading import each_line
from lm_eval_flips.logs.records import content_digest
from lm_eval_flips.logs.samples import HASHES, Samples
from lm_eval_flips.pairs.option_order import option_order, reorder

Holds = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A named, narrower proof: what it holds on to, and what it leaves open."""

    name: str
    by: str
    leaves_open: str
    apply: Callable[[Samples, Samples], Samples]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """The samples that both runs hold under one doc_id: their rows, and which hashes differ."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    differs: Mapping[str, NDArray[np.bool_]]

    @classmethod
    def of(cls, baseline: Samples, compressed: Samples) -> _Common:
        _, left, right = np.intersect1d(
            baseline.doc_id, compressed.doc_id, assume_unique=True, return_indices=True
        )
        differs = {
            name: (baseline.hashes[name][left] != compressed.hashes[name][right]).any(-1)
            for name in HASHES
        }
        return cls(left=left, right=right, differs=differs)

    def any_of(self, *names: str) -> NDArray[np.bool_]:
        """Samples of which one of these hashes differs."""
        differs: NDArray[np.bool_] = np.stack([self.differs[name] for name in names]).max(0)
        return differs


def by_document(baseline: Samples, compressed: Samples) -> Samples:
    """Pair by document and target: prompts and arguments may differ, as of a chat API."""
    common = _Common.of(baseline, compressed)
    same = ~common.any_of("document", "target")
    return _taken(baseline, compressed, common, same, ("prompt", "arguments"))


def by_logged_document(baseline: Samples, compressed: Samples) -> Samples:
    """Pair documents whose logged text is the same although their hash is not.

    The harness hashes an image by its address in memory, and logs it by its content
    (lm_eval 0.4.13, evaluator.py:644).
    """
    return _by_documents(baseline, compressed, _equal)


def by_fields(baseline: Samples, compressed: Samples) -> Samples:
    """Pair by prompt, target, arguments and all fields that both documents have."""
    return _by_documents(baseline, compressed, _equal_where_shared)


def by_options(baseline: Samples, compressed: Samples) -> Samples:
    """Pair by the options' texts: the same question with its options in another order.

    The compressed run's log-likelihoods are put into the baseline's order.
    """
    common = _Common.of(baseline, compressed)
    rows = np.flatnonzero(
        common.any_of(*HASHES) & (baseline.choices[common.left] == compressed.choices[common.right])
    )
    orders = {
        row: order
        for row, ours, theirs in _records(baseline, compressed, common, rows)
        if (order := option_order(ours, theirs)) is not None
    }
    same = np.isin(np.arange(len(common.left)), list(orders))
    moved = reorder(compressed, {int(common.right[row]): own for row, own in orders.items()})
    return _taken(baseline, moved, common, same, HASHES)


# What --pair-by takes, in the order in which an error offers them: the surest first.
PROOFS = {
    proof.name: proof
    for proof in (
        Proof(
            name="fields",
            by="prompt, target, arguments and the fields that both documents have",
            leaves_open="the other fields",
            apply=by_fields,
        ),
        Proof(
            name="options",
            by="the question and its options' texts",
            leaves_open="the order of the options, which moves answers by itself",
            apply=by_options,
        ),
        Proof(
            name="document",
            by="document and target",
            leaves_open="the prompts, which may move answers by themselves",
            apply=by_document,
        ),
    )
}


def _by_documents(baseline: Samples, compressed: Samples, holds: Holds) -> Samples:
    common = _Common.of(baseline, compressed)
    rows = np.flatnonzero(
        common.differs["document"] & ~common.any_of("target", "prompt", "arguments")
    )
    proven = [
        row
        for row, ours, theirs in _records(baseline, compressed, common, rows)
        if holds(_document(ours), _document(theirs))
    ]
    same = np.isin(np.arange(len(common.left)), proven)
    return _taken(baseline, compressed, common, same, ("document",))


def _taken(
    baseline: Samples,
    compressed: Samples,
    common: _Common,
    same: NDArray[np.bool_],
    names: Sequence[str],
) -> Samples:
    """The compressed run's samples with the baseline's hashes of the ``same`` ones."""
    if not same.any():
        return compressed
    hashes = dict(compressed.hashes)
    for name in names:
        hashes[name] = hashes[name].copy()
        hashes[name][common.right[same]] = baseline.hashes[name][common.left[same]]
    return replace(compressed, hashes=hashes)


def _records(
    baseline: Samples, compressed: Samples, common: _Common, rows: NDArray[np.int64]
) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """The logged records of some samples in both runs; none of samples that are in no file."""
    if not len(rows):
        return []
    lines = [
        side.line[places[rows]]
        for side, places in ((baseline, common.left), (compressed, common.right))
    ]
    if min(lines[0].min(), lines[1].min()) < 0:
        return []
    ours = dict(each_line(baseline.task, set(lines[0].tolist())))
    theirs = dict(each_line(compressed.task, set(lines[1].tolist())))
    return [
        (row, ours[left], theirs[right])
        for row, left, right in zip(
            rows.tolist(), lines[0].tolist(), lines[1].tolist(), strict=True
        )
    ]


def _document(record: Mapping[str, Any]) -> Mapping[str, Any]:
    document = record.get("doc")
    return document if isinstance(document, Mapping) else {"": document}


def _equal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return content_digest(ours) == content_digest(theirs)


def _equal_where_shared(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    shared = ours.keys() & theirs.keys()
    return bool(shared) and _equal(
        {name: ours[name] for name in shared}, {name: theirs[name] for name in shared}
    )
