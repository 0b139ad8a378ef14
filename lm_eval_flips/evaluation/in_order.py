"""What is asked of a model that is evaluated in a random order until its thresholds are decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from lm_eval_flips.evaluation.flags import flags_of

LEFT_OUT = ("--limit", "-L", "--samples", "-E")  # which documents: that is the order's to say


class InOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of one compressed model.

    Args:
        baseline: folder of the baseline's run, of all documents.
        folder: of the run to write.
        until: rules, as ``parse_rules`` takes them.
        seed: of the order.
        budget: the most documents; None for all.
        go_on: whether to go on after a verdict, to the budget.
        measured: whether the model keeps its answers itself, with their distances.
        options: of the comparison.
    """

    baseline: str
    folder: str
    until: str
    seed: int = 0
    budget: int | None = None
    go_on: bool = False
    measured: bool = False
    options: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """What is to be decided of every compressed model of a ``run``; arguments as of ``InOrder``."""

    rules: str
    seed: int = 0
    budget: int | None = None
    go_on: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def of(self, baseline: Path, folder: Path, *, measured: bool) -> InOrder:
        """What is asked of one of them."""
        return InOrder(
            baseline=str(baseline),
            folder=str(folder),
            until=self.rules,
            seed=self.seed,
            budget=self.budget,
            go_on=self.go_on,
            measured=measured,
            options=self.options,
        )


def without_choice(arguments: Sequence[str]) -> list[str]:
    """The harness's arguments without those that choose documents, as the baseline's were chosen.

    Example:
        >>> without_choice(["--limit", "8", "--device=cpu"])
        ['--device', 'cpu']
    """
    kept: list[str] = []
    for flag, values in flags_of(arguments):
        if flag not in LEFT_OUT:
            kept += [flag, *values]
    return kept
