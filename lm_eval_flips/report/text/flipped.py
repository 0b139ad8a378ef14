"""The flipped samples as text, for `--show-flips`: question, choices, both answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.report.changed.changed import WORDS, ChangedSample, find_changed, read_changed
from lm_eval_flips.report.changed.choices import Choice
from lm_eval_flips.report.changed.sample_text import Limits

# the end of a prompt holds its question
LIMITS = Limits(question=600, choice=200, answer=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlippedSample:
    """A sample whose correctness changed.

    Generated answers stand as choices without probabilities.
    """

    compressed: str
    task: str
    doc_id: int
    metric: str
    direction: str
    margin: float
    target: str
    question: str
    choices: tuple[Choice, ...]


def flipped_samples(comparison: Comparison, *, limit: int) -> Iterator[FlippedSample]:
    """The flips of each compressed run, those that the baseline was surest of first.

    Args:
        comparison: what ``compare`` returned; the runs' files are read again for the text.
        limit: the most to give for each compressed run.

    Raises:
        FlipsError: a samples file is gone or has changed since it was compared.
    """
    flipped = [own for own in find_changed(comparison) if own.flipped]
    for number, run in enumerate(comparison.compressed):
        shown = [own for own in flipped if own.run == number][:limit]
        for sample in read_changed(shown, limits=LIMITS):
            yield _flipped(run.model, sample)


def _flipped(model: str, sample: ChangedSample) -> FlippedSample:
    found, text = sample.found, sample.text
    return FlippedSample(
        compressed=model,
        task=found.metric.pairs.task,
        doc_id=found.doc_id,
        metric=found.metric.metric,
        direction=WORDS[found.direction],
        margin=found.margin,
        target=text.target,
        question=f"… {text.question}" if text.cut else text.question,
        choices=sample.choices if sample.answers is None else _answers(*sample.answers),
    )


def _answers(baseline: str, compressed: str) -> tuple[Choice, ...]:
    return tuple(
        Choice(
            text=text,
            baseline=nan,
            compressed=nan,
            baseline_answer=text_is == "baseline",
            compressed_answer=text_is == "compressed",
            gold=False,
        )
        for text, text_is in ((baseline, "baseline"), (compressed, "compressed"))
    )
