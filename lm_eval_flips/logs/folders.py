"""Finds the files of a run: one results JSON with its samples, or several that are one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.faults import RunFault
from lm_eval_flips.logs.files import refuse_irregular
from lm_eval_flips.logs.names import OLD_SAMPLES_NAME, RESULTS_NAME, SAMPLES_NAME
from lm_eval_flips.logs.no_run import nothing_in
from lm_eval_flips.logs.results import (
    SETTINGS,
    Results,
    old_samples,
    read_results,
    settings_of,
)

# Settings in which the results of one run, written task by task, may differ.
FREE = frozenset({"batch_size"})
# Keys of a results JSON that hold something for each task.
BY_TASK = ("results", "configs", "versions", "n_shot", "n_samples", "higher_is_better")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """The files of one run, and what to say about them. ``path`` names it."""

    path: Path
    date: str
    results: Results
    results_paths: tuple[Path, ...]
    samples: Mapping[str, Path]
    faults: tuple[RunFault, ...] = ()


def find_files(path: Path) -> RunFiles:
    """The files of the run at a path that exists.

    Raises:
        FlipsError: as ``load_run``.
    """
    if path.is_dir():
        return _of_folder(path)
    refuse_irregular(path)
    if match := SAMPLES_NAME.fullmatch(path.name):
        return _of_samples(path, task=match["task"], date=match["date"])
    if path.suffix == ".json":
        return _with_samples(_of_results(path))
    raise FlipsError(
        f"'{path}' is not a file that lm_eval wrote; give an output folder, or a results_*.json or "
        "samples_*.jsonl in it"
    )


def _of_folder(folder: Path) -> RunFiles:
    files = [
        file
        for pattern in ("*.json", "*/*.json")
        for file in sorted(folder.glob(pattern))
        if RESULTS_NAME.fullmatch(file.name)
    ]
    if not files:
        raise nothing_in(folder)
    runs = sorted(map(_of_results, files), key=lambda run: run.date)
    whole = [run for run in runs if run.samples]
    if not whole:
        return _with_samples(runs[-1])
    if len(runs) == 1:
        return runs[0]
    if any(_other_model(run, whole[-1]) for run in runs):
        raise _several(folder, runs)
    merged = _of_several(folder, whole)
    return replace(merged, faults=(*merged.faults, _chosen(folder, runs, merged)))


def _of_several(folder: Path, runs: list[RunFiles]) -> RunFiles:
    """The newest of a model's results that have samples, with those of tasks that it lacks."""
    newest = runs[-1]
    missing = {task for run in runs for task in run.samples} - set(newest.samples)
    if not missing:
        return newest
    needed = [run for run in runs if run is newest or missing & set(run.samples)]
    if differing := _differing(needed):
        raise _several(folder, needed, f", and they differ in {named(differing)}")
    return _merged(needed)


def _merged(runs: Iterable[RunFiles]) -> RunFiles:
    """Results written task by task as one run: of each task the newest that has samples."""
    *_, newest = runs = list(runs)
    parts: dict[str, dict[str, Any]] = {key: {} for key in BY_TASK}
    samples: dict[str, Path] = {}
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups |= run.results.group_subtasks
        for key, kept in parts.items():
            mine: dict[str, Any] = getattr(run.results, key)
            # a task whose samples lie with another result keeps that one's score
            kept |= {
                name: value
                for name, value in mine.items()
                if name in run.samples or name not in kept
            }
        samples |= run.samples
    results = msgspec.structs.replace(newest.results, group_subtasks=groups, **parts)
    return RunFiles(
        path=newest.path,
        date=newest.date,
        results=results,
        results_paths=tuple(path for run in runs for path in run.results_paths),
        samples=samples,
        faults=_missing(newest.path, results, samples),
    )


def _chosen(folder: Path, runs: list[RunFiles], merged: RunFiles) -> RunFault:
    """What is said where a folder holds more than one results file."""
    dates = {path: run.date for run in runs for path in run.results_paths}
    text = f"'{folder}' holds {len(runs)} results of this model"
    if len(merged.results_paths) > 1:
        parts = [f"{run.date} ({named(sorted(run.samples), shown=3)})" for run in runs]
        text += f"; they are read as one run, the newest of each task: {named(parts, shown=10)}"
    else:
        text += f"; the newest that has all its samples is read: {dates[merged.path]}"
    return RunFault(
        code="several-results",
        task=None,
        text=text,
        way_out="name one results file to read that alone",
        severity="note",
    )


def _other_model(run: RunFiles, newest: RunFiles) -> bool:
    mine, other = run.results, newest.results
    return (mine.model_name, mine.model_args) != (other.model_name, other.model_args)


def _differing(runs: list[RunFiles]) -> list[str]:
    """Settings in which results differ that would be one run."""
    settings = [settings_of(run.results) for run in runs]
    return [
        name
        for name in SETTINGS
        if name not in FREE and any(own[name] != settings[-1][name] for own in settings)
    ]


def _several(folder: Path, runs: list[RunFiles], why: str = "") -> FlipsError:
    listing = "\n".join(
        f"  {run.path}  {run.results.model_name}  {run.results.config.get('model_args')}  "
        f"({named(sorted(run.samples) or ['no samples'], shown=3)})"
        for run in runs
    )
    return FlipsError(
        f"'{folder}' holds {len(runs)} runs of different models or settings{why}; name the results "
        f"file of one of them:\n{listing}"
    )


def _of_results(path: Path) -> RunFiles:
    match = RESULTS_NAME.fullmatch(path.name)
    results = read_results(path)
    samples: dict[str, Path] = dict.fromkeys(results.samples, path)
    for file in sorted(path.parent.iterdir(), reverse=True) if match else ():
        name = SAMPLES_NAME.fullmatch(file.name)  # the plain file comes last, and wins
        if name and match and name["date"] == match["date"]:
            samples[name["task"]] = file
    return RunFiles(
        path=path,
        date=match["date"] if match else "",
        results=results,
        results_paths=(path,),
        samples=samples,
        faults=_missing(path, results, samples),
    )


def _missing(path: Path, results: Results, samples: Mapping[str, Path]) -> tuple[RunFault, ...]:
    """Tasks that were scored, and whose samples are not there."""
    return tuple(
        RunFault(
            code="samples-missing",
            task=task,
            text=f"'{path}' has its score, but its samples lie nowhere beside it",
            way_out="put its samples file back, or rerun the task with --log_samples",
        )
        for task in results.leaves
        if task not in samples
    )


def _of_samples(path: Path, *, task: str, date: str) -> RunFiles:
    beside = [
        file
        for file in sorted(path.parent.iterdir())
        if (name := RESULTS_NAME.fullmatch(file.name)) and name["date"] == date
    ]
    return RunFiles(
        path=path,
        date=date,
        results=read_results(beside[0]) if beside else Results(results={}, configs={}),
        results_paths=tuple(beside[:1]),
        samples={task: path},
    )


def _with_samples(files: RunFiles) -> RunFiles:
    if not files.samples:
        old = [
            file for file in files.path.parent.iterdir() if OLD_SAMPLES_NAME.fullmatch(file.name)
        ]
        if old:
            raise old_samples(old[0])
        raise FlipsError(
            f"'{files.path}' has no samples_*.jsonl of the same date beside it; rerun lm_eval with "
            "--log_samples"
        )
    return files
