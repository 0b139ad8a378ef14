"""Two runs' samples of one task that cannot belong together, and answers that hang on ties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isnan, log

import numpy as np
import torch
from numpy.typing import NDArray

from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.measures.agreement import (
    FEW,
    Relation,
    out_of_step,
    relation,
    reordered,
)
from lm_eval_flips.pairs.checked_run import ENOUGH, MANY, SOME, Checked
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.identical import repeated_samples, repeated_texts
from lm_eval_flips.pairs.plausibility import LOGGED, PRECISION, known_findings, run_findings

BASELINE, OTHER = "the baseline", "the compressed run"  # what findings call them
STEP = (
    "The backend lost or mixed up answers: rerun with --batch_size 1, or with another --model, and "
    "look for warnings of failed requests"
)


def findings(baseline: Samples, compressed: Samples) -> tuple[Finding, ...]:
    """What is doubtful or impossible in two runs' samples of a task, alone and together."""
    ours, theirs = Checked(samples=baseline, run=BASELINE), Checked(samples=compressed, run=OTHER)
    alone = (*known_findings(ours), *run_findings(theirs))
    if baseline.kind != compressed.kind:
        return alone
    if not np.array_equal(baseline.doc_id, compressed.doc_id):
        common = np.intersect1d(baseline.doc_id, compressed.doc_id, assume_unique=True)
        ours = replace(ours, samples=baseline.only(common))
        theirs = replace(theirs, samples=compressed.only(common))
    if not len(ours.samples):
        return alone
    together = _texts(theirs, ours.samples) if baseline.kind == "text" else _scores(theirs, ours)
    return (*alone, *together)


def _scores(whose: Checked, ours: Checked) -> Iterator[Finding]:
    samples, others = ours.samples, whose.samples
    same_table = samples.loglikelihoods.shape == others.loglikelihoods.shape
    if not same_table or not np.array_equal(samples.choices, others.choices):
        return
    if samples.kind == "choices":
        yield from _ties(whose, ours)
        yield from _infinite(whose, ours)
    yield from _targets(whose, samples)
    yield from repeated_samples(whose, ours)
    # what is broken by itself was told of it already
    broken = max(ours.scores.tied_share, whose.scores.tied_share) > ENOUGH
    if broken or torch.equal(ours.scores.table, whose.scores.table):
        return
    moved = list(_order(whose, ours))
    yield from moved
    if not moved:
        yield from _scale(
            whose, relation(ours.scores.table, whose.scores.table, ours.scores.choices)
        )


def _targets(whose: Checked, ours: Samples) -> Iterator[Finding]:
    """Targets that name other right choices than the baseline's, under the same hashes."""
    if np.array_equal(ours.gold, whose.samples.gold):
        return
    differ = torch.from_numpy((ours.gold != whose.samples.gold).any(-1))
    yield whose.finding(
        "targets",
        f"the targets of {int(differ.sum())} of {len(differ)} samples ({whose.docs(differ)}) "
        f"name other choices in {whose.run} than in the baseline, though their hashes agree",
        "One of the logs was edited or damaged: rerun this task",
        impossible=False,
        blocks=True,
    )


def _order(whose: Checked, ours: Checked) -> Iterator[Finding]:
    # numbers of few digits agree by chance
    if not (isnan(ours.scores.grid) and isnan(whose.scores.grid)):
        return
    step = out_of_step(ours.scores.own, whose.scores.own)
    if step is not None:
        yield whose.finding(
            "out_of_step",
            f"{step.share:.0%} of the last {step.n} log-likelihoods of {whose.run} are nearer to "
            f"the baseline's of the request {'before' if step.lag > 0 else 'after'} than to their "
            "own: answers are shifted by one request",
            STEP,
            impossible=True,
        )
        return
    mixed = reordered(ours.scores.table, whose.scores.table)
    if int(mixed.sum()) >= SOME and float(mixed.double().mean()) > 0.5:
        yield whose.finding(
            "reordered",
            f"{int(mixed.sum())} of {len(mixed)} samples of {whose.run} hold the baseline's own "
            f"log-likelihoods in another order ({whose.docs(mixed)})",
            STEP,
            impossible=True,
        )


def _scale(whose: Checked, found: Relation) -> Iterator[Finding]:
    if found.n < FEW:
        return
    close = found.correlation > 0.9 and not 0.7 < found.slope < 1.4
    if close or not 0.4 < found.ratio < 2.5:
        known = {log(10): "log10", log(2): "log2"}
        unit = next((u for by, u in known.items() if abs(found.slope * by - 1) < 0.1), None)
        yield whose.finding(
            "other_scale",
            f"the log-likelihoods of {whose.run} are typically {found.ratio:.3g} times the "
            f"baseline's (slope {found.slope:.3g}, correlation {found.correlation:.3f})"
            + (f", as {unit} would be" if unit else ""),
            LOGGED,
            impossible=found.correlation > 0 and found.residual < 0.02,
            blocks=True,
        )
    elif found.n >= 5 * MANY and (found.correlation < 0.3 or found.within < 0.1):
        yield whose.finding(
            "unrelated",
            f"the log-likelihoods of {whose.run} have next to nothing to do with the baseline's "
            f"(correlation {found.correlation:.2f} over {found.n}, {found.within:.2f} between the "
            "choices of a sample): answers of other requests, or a model that is destroyed",
            STEP,
            impossible=False,
            blocks=True,
        )


def _infinite(whose: Checked, ours: Checked) -> Iterator[Finding]:
    ruled_out = (whose.scores.table.isneginf() & ours.scores.table.isfinite()).any(-1)
    if ruled_out.any():
        yield whose.finding(
            "infinite",
            f"choice KL is infinite for {int(ruled_out.sum())} of {len(ruled_out)} samples "
            f"({whose.docs(ruled_out)}): {whose.run} holds a choice for impossible that the "
            "baseline does not; their mean is infinite, medians, Jensen-Shannon and total "
            "variation count all samples",
            "Rerun in a wider dtype, or with a backend that returns every log-likelihood",
            impossible=False,
        )


def _ties(whose: Checked, ours: Checked) -> Iterator[Finding]:
    tops = [ours.scores.tied_at_the_top, whose.scores.tied_at_the_top]
    either = tops[0] | tops[1]
    if not either.any() or max(ours.scores.tied_share, whose.scores.tied_share) > ENOUGH:
        return
    name, flips = _flips(ours.samples, whose.samples)
    hanging = int((torch.from_numpy(flips) & either).sum())
    if not (hanging or float(either.double().mean()) > 0.01):
        return
    n = len(either)
    yield whose.finding(
        "ties",
        f"{int(tops[1].sum())} of {n} samples of {whose.run} and {int(tops[0].sum())} of the "
        "baseline tie: their best choice has an equal, and the first of them counts"
        + (f"; {hanging} of {int(flips.sum())} flips ({name}) hang on ties" if name else ""),
        PRECISION,
        impossible=False,
        blocks=int(tops[1].sum()) > n / 2,
    )


def _flips(ours: Samples, theirs: Samples) -> tuple[str, NDArray[np.bool_]]:
    """The answering metric that ties decide, and the samples whose correctness changed there."""
    if "acc" not in ours.metrics or "acc" not in theirs.metrics:
        return "", np.zeros(len(ours), np.bool_)
    before, after = ours.metrics["acc"], theirs.metrics["acc"]
    return "acc", (before != after) & ~np.isnan(before) & ~np.isnan(after)


def _texts(whose: Checked, ours: Samples) -> Iterator[Finding]:
    same = list(repeated_texts(whose, ours))
    yield from same or _text_step(whose, ours)


def _text_step(whose: Checked, ours: Samples) -> Iterator[Finding]:
    """Texts that are those of the request before or after.

    Told where most texts differ from each other: of yes and no, any text may be a neighbour's.
    """
    theirs = whose.samples
    if 2 * len(np.unique(ours.response, axis=0)) < len(ours):
        return
    for lag, word in ((1, "before"), (-1, "after")):
        differ = (ours.response != np.roll(ours.response, lag, axis=0)).any(-1)
        differ[[0, -1]] = False
        moved = (theirs.response == np.roll(ours.response, lag, axis=0)).all(-1) & differ
        n = int(differ.sum())
        if int(moved.sum()) >= max(n / 10, SOME):
            yield whose.finding(
                "out_of_step",
                f"{int(moved.sum())} of {n} texts of {whose.run} are the baseline's of the prompt "
                f"{word}: answers are shifted by one request",
                STEP,
                impossible=True,
            )
