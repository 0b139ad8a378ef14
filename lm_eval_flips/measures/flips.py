"""Flips: answers whose correctness changed (Dutta et al., NeurIPS 2024, arXiv 2407.09141).

*Flips* are correct to incorrect plus incorrect to correct. *AllFlips* adds the answers that went
from one wrong choice to another, which only a closed set of choices can show. The paper and this
package give both as shares of all samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

from torch import Tensor

from lm_eval_flips.shapes import Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """How the answers of ``n`` samples moved from the baseline to the compressed run.

    Counts, except where the name says share. ``wrong_to_wrong`` and ``answers_changed`` are None
    where they are undefined: the task has no closed set of choices, or the metric names no answer.
    """

    n: int
    correct_to_incorrect: int
    incorrect_to_correct: int
    wrong_to_wrong: int | None
    answers_changed: int | None
    baseline_correct: int

    @property
    def flips(self) -> float:
        """Share of samples whose correctness changed; nan for no samples."""
        return self.share(self.correct_to_incorrect + self.incorrect_to_correct)

    @property
    def all_flips(self) -> float:
        """Share of flips and of wrong answers that became other wrong answers, or nan."""
        if self.wrong_to_wrong is None:
            return nan
        moved = self.correct_to_incorrect + self.incorrect_to_correct
        return self.share(moved + self.wrong_to_wrong)

    def share(self, count: int | None) -> float:
        """``count / n``, nan where either is missing."""
        return nan if count is None or self.n == 0 else count / self.n


def count_flips(
    *,
    baseline_correct: Bool[Tensor, " samples"],
    compressed_correct: Bool[Tensor, " samples"],
    changed: Bool[Tensor, " samples"] | None = None,
    closed: bool = True,
) -> Flips:
    """Count the answers that moved between two runs of the same samples.

    Args:
        baseline_correct: whether the baseline's answer is right, ``[samples]``.
        compressed_correct: the same of the compressed run, same order.
        changed: whether the answer itself differs, right or wrong; None where no answer is known.
        closed: the answers come from a closed set of choices, so that one wrong answer turning
            into another means something. False for generated text.

    Example:
        >>> import torch
        >>> count_flips(
        ...     baseline_correct=torch.tensor([True, True, False, False]),
        ...     compressed_correct=torch.tensor([True, False, True, False]),
        ...     changed=torch.tensor([False, True, True, True]),
        ... )
        Flips(n=4, correct_to_incorrect=1, incorrect_to_correct=1, wrong_to_wrong=1, \
answers_changed=3, baseline_correct=2)
    """
    wrong_twice = ~baseline_correct & ~compressed_correct
    return Flips(
        n=baseline_correct.numel(),
        correct_to_incorrect=int((baseline_correct & ~compressed_correct).sum()),
        incorrect_to_correct=int((~baseline_correct & compressed_correct).sum()),
        wrong_to_wrong=None
        if changed is None or not closed
        else int((wrong_twice & changed).sum()),
        answers_changed=None if changed is None else int(changed.sum()),
        baseline_correct=int(baseline_correct.sum()),
    )
