"""Rows of a run that answered only some documents: estimates of what all would show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import nan

from lm_eval_flips.comparison.numbers import planned_numbers
from lm_eval_flips.comparison.spec import Number
from lm_eval_flips.measures.equivalence import Equivalence
from lm_eval_flips.measures.significance import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What all documents would show, estimated from those that were drawn by a plan.

    ``interval`` is the 95 % interval of what the full run would have shown; ``general`` that of
    questions like these, as the intervals of a full run are. ``plain_samples`` is how many samples
    plain random sampling would need for an ``interval`` as narrow, nan where that is undefined.
    """

    value: float
    interval: Interval
    general: Interval
    plain_samples: float


@dataclass(frozen=True, kw_only=True)  # without slots, so that its numbers are made once
class PlannedRow:
    """One metric of a task, of a group, or of all tasks pooled, of which ``n`` samples were drawn.

    ``documents`` is the number of all. ``baseline_score`` is known where the baseline's run holds
    them all, else it is estimated too. ``estimates`` hold, where they are defined, score_change,
    flips, all_flips, correct_to_incorrect_share and incorrect_to_correct_share (of all documents),
    negative_flip_rate (of the baseline's correct answers), and the means choice_kl and token_kl
    (nats), and token_kl_first_position where only first positions are known.
    """

    name: str
    filter: str
    metric: str
    n: int
    documents: int
    baseline_score: float
    higher_is_better: bool
    estimates: Mapping[str, Estimate]
    equivalence: Equivalence | None

    @property
    def compressed_score(self) -> float:
        """The baseline's score and the estimated change."""
        return self.baseline_score + self.estimates["score_change"].value

    @property
    def binary(self) -> bool:
        """Whether the samples are right or wrong."""
        return "flips" in self.estimates

    @property
    def known(self) -> Mapping[str, int | float]:
        """The numbers that are no estimates."""
        return {
            "n": self.n,
            "documents": self.documents,
            "baseline_score": self.baseline_score,
            "compressed_score": self.compressed_score,
            "equivalence_margin": nan if self.equivalence is None else self.equivalence.margin,
        }

    @cached_property
    def numbers(self) -> Mapping[str, Number]:
        """Every number by its key, as for a full run; nan where none is estimated."""
        return planned_numbers(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a run of a plan's samples tells of all documents; ``path`` and ``seed`` are the plan's.

    ``weights`` say how many documents each sample stands for, by task and doc_id.
    """

    path: str
    seed: int
    tasks: tuple[PlannedRow, ...]
    groups: tuple[PlannedRow, ...]
    pooled: PlannedRow
    weights: Mapping[str, Mapping[int, float]] = field(repr=False)
