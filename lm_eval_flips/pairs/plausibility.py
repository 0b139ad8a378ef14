"""Samples of one run that cannot be right, told before they are compared.

A backend that breaks keeps writing logs: every choice 0.0, the same text for every prompt, another
unit. Two such runs agree with each other, and a comparison of them would pass any gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.measures.plausibility import (
    POSITIVE,
    contradicts_greedy,
    grid,
    overfull,
)
from lm_eval_flips.pairs.checked_run import ENOUGH, MANY, SOME, Checked
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.text_plausibility import sampling_findings, text_findings

BACKEND = (
    "The backend answered without scoring: check it with one request, and rerun with another "
    "--model or version"
)
LOGGED = "Log with all digits and in nats, as the harness does: rerun with its own --model"
PRECISION = "Rerun with softmax_dtype=float32 in --model_args"


def known_findings(checked: Checked) -> tuple[Finding, ...]:
    """``run_findings``, looked for once in the same samples: of a baseline, for all runs."""
    known = checked.samples.known
    if "findings" not in known:
        known["findings"] = run_findings(checked)
    findings: tuple[Finding, ...] = known["findings"]
    return findings


def run_findings(checked: Checked) -> tuple[Finding, ...]:
    """What is doubtful or impossible in one run's samples of a task."""
    samples = checked.samples
    if not len(samples):
        return ()
    of_log = _of_log(checked)
    if samples.kind == "text":
        return (*of_log, *text_findings(checked), *sampling_findings(checked))
    scores = checked.scores.table
    found = [*of_log, *_constant(checked, scores), *_positive(checked, scores)]
    if samples.kind == "choices":
        found += [*_all_tied(checked), *_overfull(checked)]
        found += _same_answer(checked, scores)
    return (*found, *_greedy(checked, scores), *_grid(checked))


def _of_log(checked: Checked) -> Iterator[Finding]:
    """What the samples contradict in their own run's results."""
    for fault in checked.samples.faults:
        yield checked.finding(
            fault.code,
            f"{checked.run}: {fault.text}",
            fault.way_out,
            impossible=False,
            blocks=fault.severity == "fault",
        )


def _all_tied(checked: Checked) -> Iterator[Finding]:
    scores, alike = checked.scores.table, checked.scores.tied
    several = checked.scores.choices > 1
    n, count = int(several.sum()), int(alike.sum())
    if not n or count < ENOUGH * n:
        return
    if count < SOME and (count < n or bool((scores[several][:, 0] != 0).any())):
        return
    values = set(scores[alike][:, 0].tolist())
    value = f", {values.pop()} each" if len(values) == 1 else ""
    yield checked.finding(
        "all_tied",
        f"in {checked.run} all choices of {count} of {n} samples have the same log-likelihood"
        f"{value}: their answer is the first choice whatever the question",
        BACKEND,
        impossible=count > 0.9 * n,
        blocks=True,
    )


def _constant(checked: Checked, scores: Tensor) -> Iterator[Finding]:
    if not bool((scores == scores[0]).all()):
        return  # first, for telling samples apart takes longer and more memory than all the rest
    asked = len(np.unique(checked.samples.hashes["arguments"], axis=0))
    if asked >= MANY:
        row = ", ".join(f"{value:.6g}" for value in scores[0].tolist())
        yield checked.finding(
            "constant",
            f"in {checked.run} {asked} different samples have the same log-likelihoods ({row})",
            BACKEND,
            impossible=isnan(grid(scores.flatten())),  # rounded ones may agree by chance
            blocks=True,
        )


def _positive(checked: Checked, scores: Tensor) -> Iterator[Finding]:
    positive = scores > POSITIVE
    if not positive.any():
        return
    above = (positive & scores.isfinite()).any(-1)
    if above.any():
        yield checked.finding(
            "positive",
            f"in {checked.run} {int(above.sum())} of {len(above)} samples have a log-likelihood "
            f"above 0, up to {float(scores[above].max()):.6g} ({checked.docs(above)}): no "
            "probability exceeds 1",
            LOGGED,
            impossible=float(above.double().mean()) > 0.5,  # else an edited or overflown value
            blocks=True,
        )


def _overfull(checked: Checked) -> Iterator[Finding]:
    scores = checked.scores.table
    too_much = overfull(scores, torch.from_numpy(checked.samples.chars), checked.scores.choices)
    if int(too_much.sum()) < SOME:
        return
    too_much &= ~checked.scores.tied & (scores <= POSITIVE).all(-1)
    count = int(too_much.sum())
    if count >= SOME and count > ENOUGH * len(too_much):
        yield checked.finding(
            "overfull",
            f"in {checked.run} the choices of {count} of {len(too_much)} samples hold more than "
            f"the whole probability ({checked.docs(too_much)}): their log-likelihoods are not in "
            "nats, or are means over tokens",
            LOGGED,
            impossible=isnan(grid(scores.flatten())),
            blocks=True,
        )


def _same_answer(checked: Checked, scores: Tensor) -> Iterator[Finding]:
    several = checked.samples.choices > 1
    places = scores.argmax(-1).numpy()[several]
    if len(places) < MANY or (places != places[0]).any():
        return
    right = checked.samples.gold[several]
    always = right.any(0).sum() == 1  # one place is right everywhere: a good model names it
    if not always:
        yield checked.finding(
            "same_answer",
            f"{checked.run} chooses choice {int(places[0]) + 1} in all {len(places)} "
            "samples: a model that knows nothing of the task, or a prompt that it cannot read",
            "Look at a few prompts with --log_samples, and at the score against chance",
            impossible=False,
        )


def _greedy(checked: Checked, scores: Tensor) -> Iterator[Finding]:
    samples = checked.samples
    flags, lengths = torch.from_numpy(samples.greedy), torch.from_numpy(samples.chars)
    wrong = contradicts_greedy(scores, flags, lengths) & (scores != 0).any(-1)
    count = int(wrong.sum())
    if count < SOME:
        return
    scored = samples.kind == "cloze" and count > ENOUGH * len(wrong)  # there the flag is the score
    yield checked.finding(
        "greedy",
        f"in {checked.run} is_greedy contradicts the log-likelihoods of {count} of {len(wrong)} "
        f"samples ({checked.docs(wrong)}): more than half of the probability, and not the "
        "likeliest tokens, or the reverse",
        "The backend does not tell greedy answers: do not read tasks that are scored by them, such "
        "as lambada, from it",
        impossible=scored,
    )


def more_than_two(values: Tensor) -> bool:
    """Whether there are more than two different values, nan being one; without sorting them."""
    numbers = values.numpy()
    low, high = np.fmin.reduce(numbers), np.fmax.reduce(numbers)
    between = bool(((numbers > low) & (numbers < high)).any())
    return between or (bool(low < high) and bool(np.isnan(numbers).any()))


def _grid(checked: Checked) -> Iterator[Finding]:
    own = checked.scores.own
    told = len(own) >= MANY and not isnan(checked.scores.grid) and more_than_two(own)
    step = checked.scores.grid if told else torch.nan
    if not isnan(step):
        yield checked.finding(
            "grid",
            f"in {checked.run} all {len(own)} log-likelihoods are multiples of {step:g} nats: they "
            "were rounded, and smaller changes of the model are not in them",
            PRECISION,
            impossible=False,
        )
