"""Samples of one run that cannot be right, told before they are compared.

A backend that breaks keeps writing logs: every choice 0.0, the same text for every prompt, another
unit. Two such runs agree with each other, and a comparison of them would pass any gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.errors import named
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.measures.plausibility import (
    POSITIVE,
    contradicts_greedy,
    grid,
    overfull,
    own_choices,
    tied,
)
from lm_eval_flips.pairs.findings import Finding

SOME, MANY = 5, 20  # samples that it takes to tell a fault from chance
ENOUGH = 0.2  # share of the samples from which on a fault is the run's, not a sample's
LONG = 100  # characters of a text that no model repeats for every prompt by chance

BACKEND = (
    "The backend answered without scoring: check it with one request, and rerun with another "
    "--model or version"
)
LOGGED = "Log with all digits and in nats, as the harness does: rerun with its own --model"
PRECISION = "Rerun with softmax_dtype=float32 in --model_args"
GENERATION = "Check the chat template, --gen_kwargs (until, max_gen_toks) and the server: rerun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One run's samples, under the name by which findings speak of it."""

    samples: Samples
    run: str

    def finding(
        self, code: str, text: str, way_out: str, *, impossible: bool, blocks: bool | None = None
    ) -> Finding:
        """A finding about these samples; it keeps a gate from passing if it is impossible."""
        return Finding(
            code=code,
            task=self.samples.task.name,
            filter=self.samples.filter,
            text=text,
            way_out=way_out,
            impossible=impossible,
            keeps_from_passing=impossible if blocks is None else blocks,
        )

    def docs(self, which: Tensor) -> str:
        """The first samples of a mask, by doc_id."""
        return f"doc {named(self.samples.doc_id[which.numpy()].tolist())}"


def run_findings(samples: Samples, run: str) -> tuple[Finding, ...]:
    """What is doubtful or impossible in one run's samples of a task.

    Args:
        samples: the samples of one task and filter.
        run: what findings call the run, such as "the baseline".
    """
    if not len(samples):
        return ()
    checked = Checked(samples=samples, run=run)
    of_log = _of_log(checked)
    if samples.kind == "text":
        return (*of_log, *_texts(checked), *_sampling(checked))
    scores = torch.from_numpy(samples.loglikelihoods)
    choices = torch.from_numpy(samples.choices)
    own = scores[own_choices(choices, scores.shape[1])]
    found = [*of_log, *_constant(checked, scores), *_positive(checked, scores)]
    if samples.kind == "choices":
        found += [*_all_tied(checked, scores, choices), *_overfull(checked, scores, choices)]
        found += _same_answer(checked, scores)
    return (*found, *_greedy(checked, scores), *_grid(checked, own))


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


def _all_tied(checked: Checked, scores: Tensor, choices: Tensor) -> Iterator[Finding]:
    several, alike = choices > 1, tied(scores, choices)
    n, count = int(several.sum()), int(alike.sum())
    nothing = bool((scores[several][:, 0] == 0).all()) and count == n
    if not n or count < ENOUGH * n or (count < SOME and not nothing):
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
    asked = len(np.unique(checked.samples.hashes["arguments"], axis=0))
    if asked >= MANY and len(np.unique(scores.numpy(), axis=0)) == 1:
        row = ", ".join(f"{value:.6g}" for value in scores[0].tolist())
        yield checked.finding(
            "constant",
            f"in {checked.run} {asked} different samples have the same log-likelihoods ({row})",
            BACKEND,
            impossible=isnan(grid(scores.flatten())),  # rounded ones may agree by chance
            blocks=True,
        )


def _positive(checked: Checked, scores: Tensor) -> Iterator[Finding]:
    above = ((scores > POSITIVE) & scores.isfinite()).any(-1)
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


def _overfull(checked: Checked, scores: Tensor, choices: Tensor) -> Iterator[Finding]:
    lengths = torch.from_numpy(checked.samples.chars)
    too_much = overfull(scores, lengths, choices) & ~tied(scores, choices)
    too_much &= (scores <= POSITIVE).all(-1)
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
    places = np.unique(scores.argmax(-1).numpy()[several])
    right = checked.samples.gold[several]
    always = right.any(0).sum() == 1  # one place is right everywhere: a good model names it
    if several.sum() >= MANY and len(places) == 1 and not always:
        yield checked.finding(
            "same_answer",
            f"{checked.run} chooses choice {int(places[0]) + 1} in all {int(several.sum())} "
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


def _grid(checked: Checked, own: Tensor) -> Iterator[Finding]:
    step = grid(own) if len(own) >= MANY and len(np.unique(own.numpy())) > 2 else torch.nan
    if not isnan(step):
        yield checked.finding(
            "grid",
            f"in {checked.run} all {len(own)} log-likelihoods are multiples of {step:g} nats: they "
            "were rounded, and smaller changes of the model are not in them",
            PRECISION,
            impossible=False,
        )


def _texts(checked: Checked) -> Iterator[Finding]:
    samples = checked.samples
    n, length = len(samples), samples.response_length
    empty = int((length == 0).sum())
    if empty >= SOME and empty >= ENOUGH * n:
        yield checked.finding(
            "empty",
            f"{checked.run} wrote nothing for {empty} of {n} samples",
            GENERATION,
            impossible=empty > 0.9 * n,
            blocks=empty > 0.5 * n,
        )
    asked = len(_distinct(samples.hashes["prompt"]))
    alike = len(_distinct(samples.response)) == 1 and empty < n
    if alike and asked >= MANY and len(_distinct(samples.hashes["target"])) > 1:
        yield checked.finding(
            "same_text",
            f"{checked.run} wrote the same text of {int(length[0])} characters for {asked} "
            "different prompts",
            GENERATION,
            impossible=int(length[0]) >= LONG,
            blocks=True,
        )


def _distinct(digests: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.unique(digests, axis=0)


def is_sampled(settings: dict[str, Any]) -> bool:
    """Whether answers were drawn at random, by the harness's settings of generation.

    Example:
        >>> is_sampled({"do_sample": True, "temperature": 0.6}), is_sampled({"temperature": 0.0})
        (True, False)
    """
    temperature = settings.get("temperature")
    cold = temperature is not None and not float(temperature) > 0
    return not cold and bool(settings.get("do_sample", temperature is not None))


def _sampling(checked: Checked) -> Iterator[Finding]:
    settings = dict(checked.samples.sampling)
    if is_sampled(settings):
        told = ", ".join(f"{name} {str(value).lower()}" for name, value in settings.items())
        yield checked.finding(
            "sampled",
            f"{checked.run} drew its answers at random ({told}): flips hold the noise of drawing",
            "Give a second run of the baseline with --noise-floor, drawn with another seed, or "
            "rerun both with do_sample=false in --gen_kwargs",
            impossible=False,
        )
