"""Samples that agree with the baseline's to the last digit or character: a shared cache's."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

import numpy as np

from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.measures.agreement import repeated
from lm_eval_flips.pairs.checked_run import MANY, SOME, Checked
from lm_eval_flips.pairs.findings import Finding

WRITTEN, WORDS = 1000, 50  # characters in all and on average, which no two models write alike
MANY_WRITTEN = 5000  # characters that no gate takes for two models'
IDENTICAL = "identical"  # the code of what agrees with the baseline to the last digit

CACHE = (
    "Rerun it without the cache, or accept samples that agree in everything with --allow-identical"
)


def same_texts(baseline: Samples, compressed: Samples) -> bool | None:
    """Whether two runs wrote the same texts to the last character, as a shared cache makes them.

    Returns:
        None where they are alike, but too few or short for that to tell anything: two models of one
        origin often give the same short answers.
    """
    ours, theirs = baseline.response, compressed.response
    if ours.shape != theirs.shape or not np.array_equal(ours, theirs):
        return False
    written = int(baseline.response_length.sum())
    return True if written >= WRITTEN and written >= WORDS * len(baseline) else None


def repeated_samples(whose: Checked, ours: Checked) -> Iterator[Finding]:
    """Samples that a shared cache may have answered for both models."""
    same, n = repeated(ours.scores.table, whose.scores.table), len(ours.samples)
    count = int(same.sum())
    if count < SOME or count < n / 10 or not isnan(ours.scores.grid):
        return
    if count == n or count >= MANY:
        yield whose.finding(
            IDENTICAL,
            f"{count} of {n} samples of {whose.run} hold the baseline's log-likelihoods to the "
            f"last digit ({whose.docs(same)}): a shared --use_cache answered them, or the "
            "compression never engaged",
            CACHE,
            impossible=False,
            blocks=count == n,
        )


def repeated_texts(whose: Checked, ours: Samples) -> Iterator[Finding]:
    """All texts of a task that are the baseline's."""
    if same_texts(ours, whose.samples):
        yield whose.finding(
            IDENTICAL,
            f"all {len(ours)} texts of {whose.run} are the baseline's to the last character: a "
            "shared --use_cache wrote them, or the compression never engaged",
            CACHE,
            impossible=False,
            # two models of one origin may write a few short texts alike
            blocks=len(ours) >= MANY and int(ours.response_length.sum()) >= MANY_WRITTEN,
        )
