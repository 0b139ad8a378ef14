"""The runs of one side of a comparison: one, or several that differ by the seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from lm_eval_flips.comparison.compatibility import other_model, setting_differences
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.runs import Run, load_run

Given: TypeAlias = str | Path | Run
SeveralGiven: TypeAlias = Given | Sequence[Given]

SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
OF_MODEL = "model_args.seed"


def runs_of(given: SeveralGiven) -> list[Run]:
    """The runs of a side, which one path, one run or several of them name.

    Raises:
        FlipsError: as ``load_run``; there is none, one stands twice, or they differ in more than
            their seeds.
    """
    each = [given] if isinstance(given, str | Path | Run) else list(given)
    runs = [own if isinstance(own, Run) else load_run(own) for own in each]
    if not runs:
        raise FlipsError("a side without a run; name at least one")
    first = runs[0]
    for place, run in enumerate(runs[1:], 1):
        if any(run.path.resolve() == other.path.resolve() for other in runs[:place]):
            raise FlipsError(f"'{run.path}' stands twice on one side: one draw counts once")
        _refuse_other(first, run)
    return runs


def _refuse_other(first: Run, run: Run) -> None:
    """Refuse a run that is not of the same model, tasks and settings, but for the seed."""
    why = other_model(first, run)
    if not why and set(first.tasks) != set(run.tasks):
        apart = sorted(set(first.tasks) ^ set(run.tasks))
        why = f"only one of them holds the task {named(apart)}"
    if not why:
        ours, theirs = (_but_for_the_seed(own) for own in (first, run))
        others = [
            own.setting
            for own in setting_differences(first, run)
            if ours.get(own.setting, own.baseline) != theirs.get(own.setting, own.compressed)
        ]
        if others:
            name = others[0]
            found = (own.settings.get(name) for own in (first, run))
            why = f"its {name} is not the same ({' and '.join(f'{own!s:.40}' for own in found)})"
    if why:
        raise FlipsError(
            f"'{run.path}' is no other seed of '{first.path}': {why}; the runs of a side differ "
            "by the seed alone"
        )


def _but_for_the_seed(run: Run) -> dict[str, object]:
    """Settings that seeds are part of, without them."""
    generation = run.settings.get("gen_kwargs")
    rest = (
        {name: own for name, own in generation.items() if name != "seed"}
        if isinstance(generation, Mapping)
        else generation
    )
    return {**dict.fromkeys((*SEEDS, OF_MODEL), None), "gen_kwargs": rest}


def seed_of(run: Run) -> str:
    """What drew a run's answers, as far as it was logged."""
    generation = run.settings.get("gen_kwargs")
    own = generation.get("seed") if isinstance(generation, Mapping) else None
    seeds = [run.settings.get(name) for name in (*SEEDS, OF_MODEL)]
    return " ".join(str(seed) for seed in (*seeds, own))
