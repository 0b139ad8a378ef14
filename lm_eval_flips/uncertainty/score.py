"""What the score of some tasks together is made of, and which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Scored(Protocol):
    """A task's samples as scores, and as right or wrong where they are."""

    @property
    def baseline_value(self) -> Tensor:
        """The baseline's scores, ``[samples]``."""

    @property
    def compressed_value(self) -> Tensor:
        """The compressed run's."""

    @property
    def baseline_correct(self) -> Tensor | None:
        """Whether the baseline's answers are right; None where they are neither."""

    @property
    def compressed_correct(self) -> Tensor | None:
        """The same of the compressed run."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is a better one."""


class ScoreValues(NamedTuple):
    """Each task's values ``[samples]`` in both runs, and whether more of them is better."""

    baseline: list[Tensor]
    compressed: list[Tensor]
    higher_is_better: bool

    @property
    def change(self) -> list[Tensor]:
        """What was gained, sample by sample, in the score's own direction."""
        both = zip(self.baseline, self.compressed, strict=True)
        return [compressed.double() - baseline.double() for baseline, compressed in both]


def score_values(metrics: Sequence[Scored]) -> ScoreValues:
    """The values whose mean is the score of these metrics together.

    As logged, where the same way is better in all. Where some count what is right and others what
    is wrong, whether each sample is right: values of both ways have no mean.
    """
    ways = {m.higher_is_better for m in metrics}
    correct = [
        (m.baseline_correct, m.compressed_correct)
        for m in metrics
        if m.baseline_correct is not None and m.compressed_correct is not None
    ]
    if len(ways) > 1 and len(correct) == len(metrics):
        return ScoreValues(
            [before.double() for before, _ in correct],
            [after.double() for _, after in correct],
            higher_is_better=True,
        )
    return ScoreValues(
        [m.baseline_value for m in metrics],
        [m.compressed_value for m in metrics],
        higher_is_better=all(ways),
    )
