"""A folder of runs -> the compressed ones among them, and why the others are none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.leaderboard.family import other_family
from lm_eval_flips.logs.names import NOISE_FLOOR, RESULTS_NAME, SAMPLES_NAME, STATE
from lm_eval_flips.logs.remote import here
from lm_eval_flips.logs.runs import IDENTITY_ARGS, OWN_FOLDERS, Run, load_run

# Model arguments that change how a model is computed, and not what it is.
BATCHING_ARGS = frozenset({"batch_size", "max_batch_size", "pack_tokens", "device", "logits_cache"})
# Model arguments that say which model it is.
MODEL_ARGS = frozenset({"pretrained", "peft", "delta", "model", "path", "engine", "revision"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A run that is not on the board, and why; ``model`` is "" where it cannot be told."""

    folder: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedRun:
    """A compressed run, and its folder below the folder of all runs."""

    folder: str
    run: Run = field(repr=False)

    @property
    def name(self) -> str:
        """The folder without the one that the harness names after the model."""
        folder = Path(self.folder)
        of_model = folder.name == self.run.path.parent.name and folder.parent != Path(".")
        return str(folder.parent if of_model else folder)


def find_runs(folder: Path, baseline: Run) -> tuple[list[CompressedRun], list[LeftOut]]:
    """Every compressed run below a folder, and what looks like a run but is not to be compared.

    The baseline itself and further runs of the same model are no compressed runs.

    Args:
        folder: the folder, or the address of one.
        baseline: the baseline's run.

    Raises:
        FlipsError: no such folder, or no run in it.
    """
    folder = here(folder, tree=True)
    if not folder.is_dir():
        raise FlipsError(f"'{folder}' is no folder; give the one that holds the runs")
    runs: dict[Path, CompressedRun] = {}
    left_out: list[LeftOut] = []
    for place in _run_folders(folder, left_out):
        name = os.path.relpath(place, folder)
        try:
            run = load_run(place)
        except (FlipsError, OSError) as error:
            left_out.append(LeftOut(folder=name, model="", reason=str(error)))
            continue
        path = run.path.resolve()
        if path == baseline.path.resolve() or path in runs:
            continue
        if (why := _no_compressed_run(run, baseline, Path(name))) is not None:
            left_out.append(LeftOut(folder=name, model=run.model, reason=why))
            continue
        runs[path] = CompressedRun(folder=os.path.relpath(run.path.parent, folder), run=run)
    if not runs and not left_out:
        raise FlipsError(
            f"'{folder}' holds no compressed run; run lm_eval with --log_samples and an "
            "--output_path in it, or lm-eval-flips run"
        )
    return list(runs.values()), left_out


def _run_folders(folder: Path, left_out: list[LeftOut]) -> Iterator[Path]:
    """Folders with results, samples without results, or an evaluation that has not finished.

    One that cannot be looked into is left out.
    """

    def leave_out(error: OSError) -> None:
        name = os.path.relpath(str(error.filename), folder)
        why = f"it cannot be looked into: {error.strerror}; check its permissions"
        left_out.append(LeftOut(folder=name, model="", reason=why))

    seen: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=leave_out, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in OWN_FOLDERS
        )
        results = any(RESULTS_NAME.fullmatch(name) for name in files)
        samples = any(SAMPLES_NAME.fullmatch(name) for name in files)
        unfinished = STATE in files and not any(
            RESULTS_NAME.fullmatch(file.name) for file in Path(place).glob("*/*.json")
        )
        if results or samples or unfinished:
            yield folder / os.path.relpath(place, folder)


def _no_compressed_run(run: Run, baseline: Run, folder: Path) -> str | None:
    if NOISE_FLOOR in folder.parts:
        return f"it lies in a folder '{NOISE_FLOOR}': a second run of a baseline"
    same = run.model == baseline.model and _of(run, MODEL_ARGS) == _of(baseline, MODEL_ARGS)
    if same and _scored(run) == _scored(baseline):
        return "a second run of the baseline: the same model with the same arguments"
    return other_family(run, baseline)


def _of(run: Run, names: frozenset[str]) -> dict[str, object]:
    return {name: value for name, value in run.model_args.items() if name in names}


def _scored(run: Run) -> dict[str, object]:
    apart = IDENTITY_ARGS | BATCHING_ARGS
    return {name: value for name, value in run.model_args.items() if name not in apart}
