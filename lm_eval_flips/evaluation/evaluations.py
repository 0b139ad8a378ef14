"""Evaluations of one `run`: the baseline's, its second one, and those of the compressed models."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from lm_eval_flips.evaluation.flags import with_arguments
from lm_eval_flips.evaluation.in_order import InOrder, without_choice
from lm_eval_flips.evaluation.launchers import Launcher
from lm_eval_flips.evaluation.state import Settings, is_finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What is kept of a baseline's distributions.

    Args:
        positions: "all" scored positions, or the "last" of each context only.
        top: this many of the most likely tokens instead of hidden states.
    """

    positions: str = "all"
    top: int | None = None

    @property
    def model_args(self) -> dict[str, Any]:
        """The same as arguments of the model flips-hf."""
        top = {} if self.top is None else {"top": self.top}
        return {"positions": self.positions, **top}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One model to evaluate, and the folder of its run.

    ``extra`` are model arguments that say where to record and what to measure against;
    ``in_order`` is what is to be decided, where it is evaluated in a random order until it is;
    ``launcher`` starts it as several processes.
    """

    folder: Path
    settings: Settings
    extra: dict[str, Any] = field(default_factory=dict)
    in_order: InOrder | None = None
    launcher: Launcher | None = None

    @property
    def finished(self) -> bool:
        """Whether its evaluation came to its end."""
        return is_finished(self.folder)

    def command(self) -> list[str]:
        """The harness's command for this run."""
        verb, arguments = ["eval"], self.settings.arguments
        if self.in_order is not None:
            verb = ["eval-in-order", msgspec.json.encode(self.in_order).decode()]
            arguments = without_choice(arguments)
        given = [
            *verb,
            *("--model", self.settings.model),
            *("--model_args", with_arguments(self.settings.model_args, self.extra)),
            *("--tasks", self.settings.tasks),
            *("--output_path", str(self.folder)),
            "--log_samples",
            *arguments,
        ]
        if self.launcher is not None:
            return self.launcher.command("lm_eval_flips", given)
        return [sys.executable, "-m", "lm_eval_flips", *given]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All evaluations of one `run`, the baseline first, which may be another command's."""

    output_path: Path
    baseline: Evaluation
    noise_floor: Evaluation | None
    compressed: tuple[Evaluation, ...]
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[Evaluation, ...]:
        """Every run, in order."""
        floor = () if self.noise_floor is None else (self.noise_floor,)
        return (self.baseline, *floor, *self.compressed)
