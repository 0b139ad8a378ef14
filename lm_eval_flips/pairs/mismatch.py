"""Samples that cannot be paired: which, in what they differ, and how to go on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import named
from lm_eval_flips.logs.reading import each_line
from lm_eval_flips.logs.samples import HASHES, Samples
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.proofs import PROOFS, by_logged_document
from lm_eval_flips.pairs.sides import only

RERUN = {
    "only in the baseline": "--limit and --samples",
    "only in the compressed run": "--limit and --samples",
    "document differs": "version of the task and of its data set",
    "prompt differs": "--num_fewshot, --apply_chat_template, --system_instruction, --seed and "
    "number of processes",
    "target differs": "version of the task",
    "number of choices differs": "version of the task",
    "arguments differ": "--apply_chat_template, --gen_kwargs and version of the task",
}
ABSENT = "not given"
SHOWN = 80  # characters of an argument
MISSING = frozenset({"only in the baseline", "only in the compressed run"})


def differences(baseline: Samples, compressed: Samples) -> dict[str, NDArray[np.int64]]:
    """The doc_ids that cannot be paired, by the first reason that applies to each."""
    left, right = baseline.shared_rows(compressed)
    found = {}
    for reason, side, rows in (
        ("only in the baseline", baseline, left),
        ("only in the compressed run", compressed, right),
    ):
        alone = np.ones(len(side), bool)
        alone[rows] = False
        found[reason] = side.doc_id[alone]
    open_ = np.ones(len(left), bool)

    def settle(reason: str, differs: NDArray[np.bool_]) -> None:
        found[reason] = only(baseline.doc_id, left)[differs & open_]
        open_[differs] = False

    def differ(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_]:
        unlike: NDArray[np.bool_] = only(ours, left) != only(theirs, right)
        return unlike if unlike.ndim == 1 else np.asarray(unlike.any(-1))

    reasons = ("document differs", "target differs", "prompt differs", "arguments differ")
    for name, reason in zip(HASHES, reasons, strict=True):
        if name == "arguments":
            settle("number of choices differs", differ(baseline.choices, compressed.choices))
        settle(reason, differ(baseline.hashes[name], compressed.hashes[name]))
    return {reason: docs for reason, docs in found.items() if len(docs)}


class Proven(NamedTuple):
    """The compressed run's samples as far as they are proven, and what their proof leaves open.

    ``differing`` are those that differ all the same, as ``differences`` tells.
    """

    samples: Samples
    findings: tuple[Finding, ...]
    differing: Mapping[str, NDArray[np.int64]]


def proven(baseline: Samples, compressed: Samples, name: str | None) -> Proven:
    """The compressed run's samples as far as a narrower proof holds.

    Documents whose hash differs and whose logged text agrees are proven in any case.

    Args:
        baseline: the baseline's samples.
        compressed: the compressed run's samples.
        name: a proof of ``PROOFS``, or None.
    """
    before = differences(baseline, compressed)
    if before.keys() <= MISSING:
        return Proven(compressed, (), before)
    compressed = by_logged_document(baseline, compressed)
    open_ = differences(baseline, compressed)
    by_text = _by_text(baseline, _count(before) - _count(open_))
    if name is None:
        return Proven(compressed, by_text, open_)
    proof = PROOFS[name]
    narrowed = proof.apply(baseline, compressed)
    left = differences(baseline, narrowed)
    count = _count(open_) - _count(left)
    if not count:
        return Proven(compressed, by_text, open_)
    reasons = ", ".join(
        f"{len(docs)} {reason}" for reason, docs in open_.items() if reason not in MISSING
    )
    paired_by = Finding(
        code="pair_by",
        task=baseline.task.name,
        filter=baseline.filter,
        text=f"{count} samples were paired by {proof.by} only ({reasons})",
        way_out=f"Not proven is {proof.leaves_open}: rerun both in the same way for a strict "
        "comparison",
        impossible=False,
        keeps_from_passing=False,
    )
    return Proven(narrowed, (*by_text, paired_by), left)


def _by_text(baseline: Samples, count: int) -> tuple[Finding, ...]:
    """What is said where documents were proven by their text and not by their hash."""
    if not count:
        return ()
    return (
        Finding(
            code="document-hash",
            task=baseline.task.name,
            filter=baseline.filter,
            text=f"{count} documents have other hashes in the two runs, and were paired by what "
            "the logs hold of them",
            way_out="Images have another hash each time; of text alone, a log was edited",
            impossible=False,
            keeps_from_passing=False,
        ),
    )


def _count(found: Mapping[str, NDArray[np.int64]]) -> int:
    return sum(len(docs) for reason, docs in found.items() if reason not in MISSING)


def mismatch(baseline: Samples, compressed: Samples, found: Mapping[str, NDArray[np.int64]]) -> str:
    """What differs, in which samples, and how to go on: one line."""
    where = f"task '{baseline.task.name}', filter '{baseline.filter}'"
    parts = [f"{len(docs)} {reason} (doc {named(docs.tolist())})" for reason, docs in found.items()]
    message = f"{where}: the runs hold different samples: {'; '.join(parts)}"
    if "document differs" in found and _same_documents(baseline, compressed):
        return (
            f"{message}. Both hold the same documents under other doc_ids, which an unsorted "
            "--samples list does: sort it and rerun"
        )
    chats = "prompt differs" in found and _chat_and_text(baseline, compressed)
    flags = dict.fromkeys(RERUN[reason] for reason in found)
    planned = "; a plan's samples go with --plan" if list(found) == ["only in the baseline"] else ""
    rerun = chats or f"Rerun both with the same {', '.join(flags)}{planned}"
    if "arguments differ" in found:
        message += _first_argument(baseline, compressed, int(found["arguments differ"][0]))
    offer = _offer(baseline, compressed, found)
    return f"{message}. {rerun}{f'. Or pair them by less: {offer}' if offer else ''}"


def _first_argument(baseline: Samples, compressed: Samples, doc: int) -> str:
    """Which argument of a document differs first, with both its values."""
    records: list[Any] = []
    for side in (baseline, compressed):
        line = int(side.line[side.doc_id == doc][0])
        if line < 0:
            return ""
        ((_, record),) = each_line(side.task, {line})
        records.append(record.get("arguments"))
    place, one, other = _first_difference(records[0], records[1], place="")
    return f": {place or 'arguments'} of doc {doc} is {_short(one)} and {_short(other)}"


def _first_difference(one: Any, other: Any, place: str) -> tuple[str, Any, Any]:
    """Where two values differ first, and what they are there."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys: Iterable[Any] = dict.fromkeys([*one, *other])
        pairs = ((key, one.get(key, ABSENT), other.get(key, ABSENT)) for key in keys)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = ((key, *both) for key, both in enumerate(zip(one, other, strict=True)))
    else:
        return place, one, other
    for key, left, right in pairs:
        if left != right:
            return _first_difference(left, right, f"{place}.{key}" if place else str(key))
    return place, one, other


def _short(value: Any) -> str:
    text = value if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _same_documents(baseline: Samples, compressed: Samples) -> bool:
    ours, theirs = baseline.hashes["document"], compressed.hashes["document"]
    return ours.shape == theirs.shape and np.array_equal(
        np.unique(ours, axis=0), np.unique(theirs, axis=0)
    )


def _offer(baseline: Samples, compressed: Samples, found: Mapping[str, NDArray[np.int64]]) -> str:
    """The narrower proofs under which all of the samples that both runs hold are the same."""
    if found.keys() <= MISSING:
        return ""
    return " or ".join(
        f"--pair-by {proof.name} (by {proof.by}; open is {proof.leaves_open})"
        for proof in PROOFS.values()
        if differences(baseline, proof.apply(baseline, compressed)).keys() <= MISSING
    )


def _chat_and_text(baseline: Samples, compressed: Samples) -> str:
    """That one run logs a chat's messages, which a server renders, and the other rendered text."""
    messages = [_logs_messages(side) for side in (baseline, compressed)]
    if messages[0] == messages[1]:
        return ""
    runs = ("the baseline", "the compressed run")
    chat, text = runs if messages[0] else runs[::-1]
    return (
        f"{chat[0].upper()}{chat[1:]} logs messages, which its server renders, {text} rendered "
        "text: their prompts cannot be compared"
    )


def _logs_messages(samples: Samples) -> bool:
    line = int(samples.line[0]) if len(samples) else -1
    if line < 0:
        return False
    ((_, record),) = each_line(samples.task, {line})
    first: Any = next(iter(record["arguments"].values()), {})
    context = first.get("arg_0") if isinstance(first, Mapping) else None
    while isinstance(context, list) and context:
        context = context[0]
    return isinstance(context, Mapping) or str(context).lstrip().startswith('[{"role"')
