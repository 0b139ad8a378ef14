"""Runs and options -> Comparison, for every verb that compares; long files are read ahead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_flips.cli.options import Asked
from lm_eval_flips.cli.reader import found, reader
from lm_eval_flips.cli.sides import sides_of
from lm_eval_flips.errors import FlipsError

if TYPE_CHECKING:
    from lm_eval_flips.comparison.result import Comparison
    from lm_eval_flips.gate.gate import Gate
    from lm_eval_flips.logs.runs import Run
    from lm_eval_flips.planning.order import OrderedSamples


class Runs(NamedTuple):
    """The runs of a comparison; only their results are read yet.

    ``others`` are those of other seeds, of each side, the baseline's first; none of single runs.
    """

    baseline: Run
    compressed: tuple[Run, ...]
    noise_floor: Run | None
    others: tuple[tuple[Run, ...], ...] = ()

    @property
    def all(self) -> list[Run]:
        """Every run, the baseline first."""
        floor = () if self.noise_floor is None else (self.noise_floor,)
        others = (run for side in self.others for run in side)
        return [self.baseline, *self.compressed, *floor, *others]

    @property
    def sides(self) -> list[Sequence[Run]]:
        """Every run of each side, the baseline's first."""
        firsts = (self.baseline, *self.compressed)
        others = self.others or ((),) * len(firsts)
        return [(first, *own) for first, own in zip(firsts, others, strict=True)]


def load_runs(
    baseline: Path,
    compressed: Sequence[Path],
    noise_floor: Path | None,
    *,
    drawn: str | None = None,
    others: Sequence[str] | None = None,
) -> Runs:
    """Find the runs.

    Args:
        baseline: the baseline's.
        compressed: the compressed models'.
        noise_floor: the baseline's second one.
        drawn: what --baseline was given, where a side has several runs.
        others: what each --compressed was given.

    Raises:
        FlipsError: as ``load_run`` and ``sides_of``.
    """
    sides = sides_of(baseline, compressed, drawn, others)
    found_runs = [tuple(map(found, paths)) for paths in sides]
    return Runs(
        baseline=found_runs[0][0],
        compressed=tuple(runs[0] for runs in found_runs[1:]),
        noise_floor=None if noise_floor is None else found(noise_floor),
        others=tuple(runs[1:] for runs in found_runs),
    )


def compared(
    runs: Runs, asked: Asked, *, plan: Path | None = None, in_order: bool = False
) -> Comparison:
    """Compare them.

    Args:
        runs: the runs.
        asked: the options.
        plan: the plan by which the compressed runs' documents were drawn.
        in_order: whether the compressed runs hold the first documents of an order.

    Raises:
        FlipsError: as ``compare``.
    """
    with reader(runs.all, asked.tasks) as read:
        # only now, while the files are being read: this import takes as long as reading them
        options = asked.options(runs.noise_floor)
        if plan is not None:
            if any(runs.others):
                raise FlipsError(
                    "--plan does not go together with several runs a side: its weights hold for one"
                )
            from lm_eval_flips.planning.comparison import compare_planned

            return compare_planned(plan, runs.baseline, *runs.compressed, read=read, **options)
        from lm_eval_flips.comparison.compare import compare

        select = _ordered(runs) if in_order else None
        return compare(*runs.sides, read=read, select=select, **options)


def judged(runs: Runs, asked: Asked, until: str) -> list[Gate]:
    """Judge runs of the first documents of their order.

    Raises:
        FlipsError: as ``judge_drawn``.
    """
    from lm_eval_flips.gate.drawn_runs import judge_drawn, recorded_order
    from lm_eval_flips.gate.thresholds import parse_rules

    config = parse_rules(until)
    options = asked.options(None)
    return [
        judge_drawn(runs.baseline, run, recorded_order(run), config, **options)[0]
        for run in runs.compressed
    ]


def _ordered(runs: Runs) -> OrderedSamples:
    from lm_eval_flips.gate.drawn_runs import recorded_order
    from lm_eval_flips.planning.order import OrderedSamples

    first = runs.compressed[0]
    return OrderedSamples(recorded_order(first), first.path)


def plan_inputs(plan: Path | None) -> tuple[Path, ...]:
    """A plan's own file, and the samples file beside it, whichever of the two was given."""
    if plan is None:
        return ()
    from lm_eval_flips.planning.plan import plan_files

    return plan_files(plan)
