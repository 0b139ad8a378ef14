"""The changed samples as a page's browser takes them: each text once, numbers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.report.changed.changed import ChangedSample, Found, read_changed
from lm_eval_flips.report.changed.sample_text import Limits, SampleText
from lm_eval_flips.report.charts.shown_runs import shown_runs
from lm_eval_flips.report.page.embedded import plain_number

MOST = 10_000  # samples in a page; more would make it slow to open
# What is said of an answer that has a sign.
SIGN_WORDS = {
    "empty": "empty",
    "invalid": "no answer found",
    "looped": "ends in a loop",
    "truncated": "cut off",
    "script": "another script",
}
LIMITS = Limits(question=3000, choice=1000, answer=3000)


def browser_data(comparison: Comparison, found: Sequence[Found]) -> dict[str, Any]:
    """Changed samples with their texts.

    Args:
        comparison: what the samples are of.
        found: those of ``find_changed`` that are to be in the page, in their order.

    Raises:
        FlipsError: a samples file is gone or has changed since it was compared.
    """
    documents: dict[tuple[str, str, int], int] = {}
    texts: list[dict[str, Any]] = []
    samples, runs = [], sorted(shown_runs(comparison), key=lambda own: own.place)
    for sample in read_changed(found, limits=LIMITS):
        pairs, doc_id = sample.found.metric.pairs, sample.found.doc_id
        key = (pairs.task, pairs.filter, doc_id)
        if key not in documents:
            documents[key] = len(texts)
            texts.append(_document(sample, *key))
        samples.append(_sample(sample, documents[key]))
    return {
        "runs": [run.name for run in runs],
        "colours": [run.colour for run in runs],
        "documents": texts,
        "samples": samples,
    }


def _document(sample: ChangedSample, task: str, label: str, doc_id: int) -> dict[str, Any]:
    """What is the same in all runs: the question and its choices, and the baseline's side."""
    text = sample.text
    document: dict[str, Any] = {
        "task": task,
        "filter": label,
        "metric": sample.found.metric.metric,
        "doc": doc_id,
        "question": _question(text),
        "target": text.target,
        "margin": plain_number(sample.found.margin),
    }
    optional = {
        "cut": text.cut,
        "shots": text.shots,
        "choices": [choice.text for choice in sample.choices],
        "turns": [[turn.role, turn.text] for turn in text.turns],
        "gold": [place for place, choice in enumerate(sample.choices) if choice.gold],
        "p": [plain_number(choice.baseline, digits=4) for choice in sample.choices],
    }
    return document | {name: value for name, value in optional.items() if value}


def _question(text: SampleText) -> str:
    return f"… {text.ending}" if text.ending else text.question


def _sample(sample: ChangedSample, document: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "run": sample.found.run,
        "document": document,
        "direction": sample.found.direction,
        "choice_kl": plain_number(sample.choice_kl),
        "token_kl": plain_number(sample.token_kl),
        "p": [plain_number(choice.compressed, digits=4) for choice in sample.choices],
        "answers": [_answered(sample, "baseline"), _answered(sample, "compressed")],
    }
    if not sample.choices and sample.answers is not None:
        found["answers"] = list(sample.answers)
        if sample.said is not None and sample.said != sample.answers:
            found["said"] = list(sample.said)
    if sample.written is not None:
        found["lengths"] = list(sample.written.lengths)
        if any(sample.written.signs):
            found["signs"] = [list(own) for own in sample.written.signs]
    if sample.judged is not None:
        found["judge"] = sample.judged.judge
        found["scores"] = [plain_number(own, digits=3) for own in sample.judged.scores]
        found["reasons"] = list(sample.judged.reasons)
    return {name: value for name, value in found.items() if value is not None and value != []}


def _answered(sample: ChangedSample, side: str) -> int | None:
    """The place of a side's answer among the choices."""
    marks = [
        choice.baseline_answer if side == "baseline" else choice.compressed_answer
        for choice in sample.choices
    ]
    return marks.index(True) if True in marks else None
