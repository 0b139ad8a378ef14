"""The flipped samples as text, for `--show-flips`: question, choices, both answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from lm_eval_flips.paired_metric import PairedMetric, as_compared
from lm_eval_flips.reading import read_lines
from lm_eval_flips.result import Comparison, RunComparison

QUESTION = 600  # characters shown; the end of a prompt holds its question
CONTINUATION = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice with its probability in both runs (0..1), or a generated answer with none."""

    text: str
    baseline: float
    compressed: float
    baseline_answer: bool
    compressed_answer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FlippedSample:
    """A sample whose correctness changed."""

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
    """
    for run in comparison.compressed:
        yield from _of_run(run, limit)


def _of_run(run: RunComparison, limit: int) -> Iterator[FlippedSample]:
    found: list[tuple[float, PairedMetric, int]] = []
    shown: set[tuple[str, str]] = set()
    for metric in run.metrics:
        key = (metric.pairs.task, metric.pairs.filter)
        if metric.flipped is None or key in shown:
            continue  # the first binary metric of a task stands for it
        shown.add(key)
        margin = metric.margin if metric.margin is not None else torch.zeros(len(metric.rows))
        flipped = metric.flipped.nonzero()[:, 0].tolist()
        found += [(float(margin[row]), metric, row) for row in flipped]
    found.sort(key=lambda item: (-item[0], item[1].pairs.task, int(item[1].doc_ids[item[2]])))
    for _, metric, row in found[:limit]:
        yield _sample(run, metric, row)


def _sample(run: RunComparison, metric: PairedMetric, row: int) -> FlippedSample:
    pairs, place = metric.pairs, int(metric.rows[row])
    left = _record(metric, place, baseline=True)
    right = _record(metric, place, baseline=False)
    lost = bool(metric.baseline_correct is not None and metric.baseline_correct[row])
    return FlippedSample(
        compressed=run.model,
        task=pairs.task,
        doc_id=int(metric.doc_ids[row]),
        metric=metric.metric,
        direction="correct → incorrect" if lost else "incorrect → correct",
        margin=float(metric.margin[row]) if metric.margin is not None else torch.nan,
        target=str(left["target"]),
        question=_question(
            left, pairs.baseline.task.fewshot_delimiter, pairs.baseline.task.num_fewshot
        ),
        choices=_choices(metric, row, place, left)
        if metric.margin is not None
        else _answers(left, right),
    )


def _record(metric: PairedMetric, place: int, *, baseline: bool) -> dict[str, Any]:
    side = metric.pairs.baseline if baseline else metric.pairs.compressed
    line = int(side.line[place])
    return read_lines(side.task, {line})[line]


def _question(record: dict[str, Any], delimiter: str, num_fewshot: int) -> str:
    context = str(record["arguments"]["gen_args_0"]["arg_0"])
    if num_fewshot and delimiter.strip("\n") == "":
        context = context.rsplit(delimiter, 1)[-1]
    return context if len(context) <= QUESTION else f"… {context[-QUESTION:]}"


def _choices(
    metric: PairedMetric, row: int, place: int, record: dict[str, Any]
) -> tuple[Choice, ...]:
    pairs = metric.pairs
    probabilities = []
    for side in (pairs.baseline, pairs.compressed):
        scores = as_compared(pairs, side, metric.metric)
        probabilities.append([] if scores is None else scores[place].softmax(-1).tolist())
    requests = list(record["arguments"].values())[: int(pairs.choices[place])]
    same_context = len({request["arg_0"] for request in requests}) == 1
    shown = ["arg_1" if same_context else "arg_0"] * len(requests)
    best = [
        None if answer is None else int(answer[row])
        for answer in (metric.baseline_answer, metric.compressed_answer)
    ]
    return tuple(
        Choice(
            text=str(request[name]).strip()[-CONTINUATION:],
            baseline=probabilities[0][i],
            compressed=probabilities[1][i],
            baseline_answer=best[0] == i,
            compressed_answer=best[1] == i,
        )
        for i, (request, name) in enumerate(zip(requests, shown, strict=True))
    )


def _answers(left: dict[str, Any], right: dict[str, Any]) -> tuple[Choice, ...]:
    nothing = torch.nan
    return (
        Choice(
            text=_text(left["filtered_resps"]),
            baseline=nothing,
            compressed=nothing,
            baseline_answer=True,
            compressed_answer=False,
        ),
        Choice(
            text=_text(right["filtered_resps"]),
            baseline=nothing,
            compressed=nothing,
            baseline_answer=False,
            compressed_answer=True,
        ),
    )


def _text(responses: list[Any]) -> str:
    first = responses[0] if responses else ""
    return (first if isinstance(first, str) else str(first))[:CONTINUATION]
