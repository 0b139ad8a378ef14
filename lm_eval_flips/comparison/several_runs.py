"""Several runs of one model that differ by the seed alone, as one side of a comparison.

A side is called by its first run. Its samples are those of all of them: each metric's mean, with
the values of every run beside it (``Samples.draws``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.comparison.paired_runs import Read, RunPairs
from lm_eval_flips.comparison.seeds import seed_of
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog
from lm_eval_flips.pairs.checked_run import Checked
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.mismatch import differences
from lm_eval_flips.pairs.plausibility import run_findings
from lm_eval_flips.pairs.proofs import by_document
from lm_eval_flips.pairs.readings import read_values


class SideReader:
    """Reads the samples of all runs of a side wherever its first run's are asked for.

    A side of one run is read as it is.

    Args:
        sides: the runs of each side.
        read: reads one run's samples of a task.

    Raises:
        FlipsError: a run that is one of several stands on another side too.
    """

    def __init__(self, sides: Sequence[Sequence[Run]], read: Read) -> None:
        self.drawn = any(len(side) > 1 for side in sides)
        if self.drawn:
            _refuse_shared(sides)
        self._sides = {self._key(task): side for side in sides for task in side[0].tasks.values()}
        self._read = read
        self._same: dict[tuple[str, str], bool] = {}
        self._findings: dict[str, list[Finding]] = {}

    @staticmethod
    def _key(task: TaskLog) -> tuple[Path, str]:
        return task.path, task.name

    def __call__(self, task: TaskLog) -> dict[str, Samples]:
        """The task's samples by filter.

        Raises:
            FlipsError: as ``read_samples``; the runs hold other samples or filters.
        """
        runs = self._sides.get(self._key(task), ())
        first = self._read(task)
        if len(runs) < 2:
            return first
        others = [self._read(run.tasks[task.name]) for run in runs[1:]]
        for run, own in zip(runs[1:], others, strict=True):
            if set(own) != set(first):
                raise FlipsError(
                    f"task '{task.name}': '{runs[0].path}' logged the filters "
                    f"{named(list(first))}, '{run.path}' {named(list(own))}"
                )
        return {
            label: self._together(runs, [samples, *(own[label] for own in others)])
            for label, samples in first.items()
        }

    def _together(self, runs: Sequence[Run], samples: Sequence[Samples]) -> Samples:
        self._look(runs, samples)
        return replace(_means(samples), seeds=tuple(map(seed_of, runs)))

    def _look(self, runs: Sequence[Run], samples: Sequence[Samples]) -> None:
        """Note what is to be said of the runs beside the first, and which answer alike."""
        first, where = samples[0], runs[0].address
        for run, own in zip(runs[1:], samples[1:], strict=True):
            _refuse_other_samples(runs[0], run, first, own)
            known = self._findings.setdefault(where, [])
            known += run_findings(Checked(samples=own, run=f"'{run.path}'"))
        for i, one in enumerate(samples):
            for j in range(i):
                key = (runs[j].address, runs[i].address)
                self._same[key] = self._same.get(key, True) and _same_answers(samples[j], one)

    def findings(self, runs: Sequence[Run], whose: str) -> tuple[Finding, ...]:
        """What is to be said of a side, after its samples were read.

        Raises:
            FlipsError: two runs have the same seed and the same answers: one draw, given twice.
        """
        pairs = [(one, other) for i, other in enumerate(runs) for one in runs[:i]]
        same = [pair for pair in pairs if self._same.get((pair[0].address, pair[1].address))]
        for one, other in same:
            if seed_of(one) == seed_of(other):
                raise FlipsError(
                    f"'{other.path}' holds the answers of '{one.path}' under the same seed: one "
                    "draw counts once; evaluate it with another --seed"
                )
        told = list(self._findings.get(runs[0].address, ()))
        if pairs and len(same) == len(pairs):
            task = next(iter(runs[0].tasks))
            text = (
                f"the {len(runs)} runs of {whose} agree in every answer: nothing was drawn, as at "
                "temperature 0, and nothing is known of other draws"
            )
            told.append(_told("draws-alike", task, text))
        elif len({seed_of(run) for run in runs}) < len(runs):
            text = f"the {len(runs)} runs of {whose} differ, though some have the same seed logged"
            told.append(_told("seeds-alike", next(iter(runs[0].tasks)), text))
        return tuple(told)


def _means(samples: Sequence[Samples]) -> Samples:
    """The first run's samples with the means of all, and each metric's values of every run."""
    readings = [read_values(own) for own in samples]
    every = [own.samples.metrics for own in readings]
    names = [name for name in every[0] if all(name in own for own in every)]
    draws = {name: np.stack([own[name] for own in every], -1) for name in names}
    lengths = [own.signs["length"] for own in samples if "length" in own.signs]
    kept, shown_as = samples[0].values, readings[0].shown_as
    return replace(
        readings[0].samples,
        metrics={name: own.mean(-1) for name, own in draws.items()},
        signs={"length": np.mean(lengths, 0)} if len(lengths) == len(samples) else {},
        values={name: own for name, own in kept.items() if name not in shown_as},
        unusable={doc: why for own in reversed(samples) for doc, why in own.unusable.items()},
        draws=draws,
    )


def _refuse_shared(sides: Sequence[Sequence[Run]]) -> None:
    """Refuse a run on two sides: its draws would be held against themselves."""
    seen: set[Path] = set()
    for side in sides:
        for run in side:
            if run.path.resolve() in seen:
                raise FlipsError(
                    f"'{run.path}' stands on two sides: give each side draws of its own"
                )
        seen |= {run.path.resolve() for run in side}


def _told(code: str, task: str, text: str) -> Finding:
    return Finding(
        code=code,
        task=task,
        filter="",
        text=text,
        way_out="Draw with do_sample and a temperature, each run with a --seed of its own",
        impossible=False,
        keeps_from_passing=False,
    )


def _refuse_other_samples(first: Run, run: Run, ours: Samples, theirs: Samples) -> None:
    """Refuse other documents; other prompts too, unless the seed draws the examples in them."""
    differing = differences(ours, by_document(ours, theirs))
    drawn = first.settings.get("fewshot_seed") != run.settings.get("fewshot_seed")
    if not differing and not drawn:
        differing = {
            reason: docs
            for reason, docs in differences(ours, theirs).items()
            if reason == "prompt differs"
        }
    if differing:
        reason, docs = next(iter(differing.items()))
        raise FlipsError(
            f"task '{ours.task.name}': '{run.path}' holds other samples than '{first.path}': "
            f"{len(docs)} {reason} (doc {named(docs.tolist())}); the runs of a side differ by the "
            "seed alone"
        )


def _same_answers(one: Samples, other: Samples) -> bool:
    if one.kind == "text":
        return np.array_equal(one.response, other.response)
    return np.array_equal(one.loglikelihoods, other.loglikelihoods)


def with_findings(
    paired: Sequence[RunPairs], sides: Sequence[Sequence[Run]], reading: SideReader
) -> list[RunPairs]:
    """The pairs with what is to be said of the other runs of the baseline and of their own.

    Pairs behind those of the sides, as a noise floor's are, stay as they are.
    """
    base, *others = sides
    ours = reading.findings(base, "the baseline")
    found = [
        _also_found(of_run, (*ours, *reading.findings(side, "the compressed model")))
        for of_run, side in zip(paired, others, strict=False)
    ]
    return [*found, *paired[len(others) :]]


def _also_found(paired: RunPairs, findings: tuple[Finding, ...]) -> RunPairs:
    """With findings of the runs as a whole, which stand with the first task's."""
    if not findings or not paired.pairs:
        return paired
    first, *rest = paired.pairs
    return replace(paired, pairs=[replace(first, findings=(*first.findings, *findings)), *rest])


def refuse_with_several(asked: Options, *, planned: bool) -> None:
    """Refuse options that speak of single answers.

    Raises:
        FlipsError: naming the first that is given.
    """
    for option, given, why in (
        ("--noise-floor", asked.noise_floor is not None, "their own draws tell the floor"),
        ("--right-from", asked.right_from is not None, "grades of draws are averaged"),
        ("--plan", planned, "its weights hold for one run"),
        ("--on-mismatch intersect", asked.on_mismatch == "intersect", "all have the same samples"),
        ("--on-nan exclude", asked.on_nan == "exclude", "all have the same samples"),
    ):
        if given:
            raise FlipsError(f"{option} does not go together with several runs a side: {why}")
