"""`lm-eval-flips run`: a baseline and its compressed models, to be evaluated one after the other.

Each is evaluated by the harness's own command. What was asked for is written into each run's
folder, so that the same command, given again, keeps what is finished and goes on where it stopped,
and another command is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation import gguf_models
from lm_eval_flips.evaluation.evaluations import Evaluation, Recording, Schedule
from lm_eval_flips.evaluation.flags import (
    flags_of,
    pretrained,
    refuse_flags,
    refuse_no_arguments,
)
from lm_eval_flips.evaluation.in_order import Until
from lm_eval_flips.evaluation.launchers import Launcher
from lm_eval_flips.evaluation.model_files import files_fingerprint
from lm_eval_flips.evaluation.own_models import (
    OWN_MODELS,
    TRANSFORMERS,
    VLLM,
    other_batches,
    recording_of,
)
from lm_eval_flips.evaluation.state import (
    Settings,
    difference,
    not_recorded,
    read_state,
)
from lm_eval_flips.logs.names import NOISE_FLOOR, last_name
from lm_eval_flips.logs.secrets import MASK
from lm_eval_flips.scoring.transformers.loading import refuse_unloadable

BASELINE = "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What every run is asked; called with a model's arguments, the settings of its run."""

    model: str
    tasks: str
    kept: Recording
    until: Until | None
    arguments: list[str]

    def __call__(self, model_args: str, before: Settings | None = None) -> Settings:
        """Settings of a run; ``before`` are the baseline's, where distances or rules need them."""
        rules = None if before is None else self.until
        return Settings(
            model=gguf_models.MODEL if gguf_models.is_gguf(model_args) else self.model,
            model_args=model_args,
            files=files_fingerprint(pretrained(model_args)),
            tasks=self.tasks,
            positions=self.kept.positions,
            top=self.kept.top,
            arguments=self.arguments,
            baseline=before,
            until=None if rules is None else rules.rules,
            order_seed=None if rules is None else rules.seed,
        )


def schedule_runs(  # noqa: PLR0913  (one an option of run)
    *,
    baseline: str,
    compressed: Sequence[str],
    tasks: str,
    output_path: Path,
    model: str = TRANSFORMERS,
    recording: Recording | None = None,
    noise_floor: bool = False,
    until: Until | None = None,
    launcher: Launcher | None = None,
    arguments: Sequence[str] = (),
) -> Schedule:
    """What is to be evaluated, and where.

    Args:
        baseline: the baseline's model arguments, or the folder of one that was recorded.
        compressed: each compressed model's arguments.
        tasks: as for the harness.
        output_path: folder for the runs.
        model: the harness's model type, but for GGUF files, which `flips-gguf` runs.
        recording: what is kept of the baseline's distributions; by default all of them.
        noise_floor: evaluate the baseline a second time, in other batches.
        until: evaluate the compressed models in a random order, until this is decided.
        launcher: starts each evaluation as several processes.
        arguments: all other flags, as for the harness.

    Raises:
        FlipsError: a flag that does not go together with this command.
    """
    _refuse(model=model, recording=recording, output_path=output_path, arguments=arguments)
    if model == VLLM and launcher is not None:
        raise FlipsError(
            "vLLM spreads a model itself: give tensor_parallel_size=N among its arguments, and no "
            "--launcher"
        )
    compressed = gguf_models.expanded(compressed, baseline=baseline)
    refuse_no_arguments(compressed)
    _refuse_unloadable_models([baseline, *compressed])  # not only after the baseline's hours
    notes = gguf_models.held_together(baseline, compressed)
    kept = recording_of(model, recording or Recording())

    settings = _Asked(model=model, tasks=tasks, kept=kept, until=until, arguments=list(arguments))
    measured = model in OWN_MODELS
    first = _first(baseline, output_path / BASELINE, settings, kept if measured else None)
    first = replace(first, launcher=launcher)

    def against_first(name: str, model_args: str) -> Evaluation:
        folder = output_path / name
        extra = {"reference": str(first.folder), "distances": str(folder)} if measured else {}
        before = first.settings if measured or until is not None else None
        return Evaluation(
            folder=folder,
            settings=settings(model_args, before),
            extra=extra,
            in_order=None if until is None else until.of(first.folder, folder, measured=measured),
            launcher=launcher,
        )

    pairs = zip(_names(compressed), compressed, strict=True)
    if noise_floor:
        _refuse_masked(baseline, first.settings)
    second = against_first(NOISE_FLOOR, first.settings.model_args) if noise_floor else None
    return Schedule(
        output_path=output_path,
        baseline=first,
        noise_floor=None if second is None else _in_other_batches(second),
        compressed=tuple(against_first(name, model_args) for name, model_args in pairs),
        notes=(*notes, *([] if measured else [_unmeasured(model)])),
    )


def _refuse_unloadable_models(models: Sequence[str]) -> None:
    for model_args in models:
        if name := pretrained(model_args):
            refuse_unloadable(Path(name))


def _unmeasured(model: str) -> str:
    return f"--model {model} gives no distances over the vocabulary: no token KL"


def _refuse_masked(baseline: str, settings: Settings) -> None:
    if MASK in settings.model_args:
        raise FlipsError(
            f"the baseline '{baseline}' was evaluated with a secret, which is not kept; give its "
            "model arguments instead of its folder, to evaluate it a second time"
        )


def _in_other_batches(run: Evaluation) -> Evaluation:
    """The same evaluation with other batches, which round otherwise."""
    extra = {**run.extra, **other_batches(run.settings.model)} if run.extra else run.extra
    if run.settings.model == VLLM:  # which makes its own batches; --batch_size is of writing alone
        settings = msgspec.structs.replace(run.settings, until=None, order_seed=None)
        return replace(run, settings=settings, extra=extra, in_order=None)
    given, arguments = "", []
    for flag, values in flags_of(run.settings.arguments):
        if flag in ("--batch_size", "-b"):
            given = " ".join(values)
        else:
            arguments += [flag, *values]
    other = int(given) // 2 if given.isdecimal() and int(given) > 1 else 2
    settings = msgspec.structs.replace(
        run.settings,
        arguments=[*arguments, "--batch_size", str(other)],
        until=None,
        order_seed=None,
    )
    return replace(run, settings=settings, extra=extra, in_order=None)


def _refuse(
    *, model: str, recording: Recording | None, output_path: Path, arguments: Sequence[str]
) -> None:
    refuse_flags(arguments)
    if "," in str(output_path) or "=" in str(output_path):
        raise FlipsError(f"'{output_path}' holds a comma or '='; choose another --output_path")
    if model not in OWN_MODELS and recording not in (None, Recording()):
        raise FlipsError(
            f"--positions and --top are of --model {TRANSFORMERS}; --model {model} has none"
        )


def _first(
    baseline: str,
    folder: Path,
    settings: Callable[[str], Settings],
    recording: Recording | None,
) -> Evaluation:
    """The baseline: another command's run, or one into this folder, which records if it is to."""
    if Path(baseline).is_dir():
        return _recorded(Path(baseline), settings)
    refuse_no_arguments([baseline])
    extra = {} if recording is None else {"record": str(folder), **recording.model_args}
    return Evaluation(folder=folder, settings=settings(baseline), extra=extra)


def _recorded(folder: Path, settings: Callable[[str], Settings]) -> Evaluation:
    """A baseline that an earlier command evaluated, if it was asked for the same."""
    before = read_state(folder)
    if before is None:
        raise not_recorded(folder)
    run = Evaluation(folder=folder, settings=before)
    if not run.finished:
        raise FlipsError(f"the baseline '{folder}' is not finished; give its own command again")
    # the baseline's model itself is no longer needed
    now = msgspec.structs.replace(settings(before.model_args), files=before.files)
    if (found := difference(before, now)) is not None:
        raise FlipsError(f"the baseline '{folder}' was evaluated with {found}; evaluate it anew")
    return run


def _names(compressed: Sequence[str]) -> list[str]:
    """A folder's name for each model: its own, numbered where two are alike."""
    found: list[str] = []
    for model_args in compressed:
        name = _name(model_args)
        taken = {BASELINE, NOISE_FLOOR, *found}
        number = 2
        unique = name
        while unique in taken:
            unique, number = f"{name}-{number}", number + 1
        found.append(unique)
    return found


def _name(model_args: str) -> str:
    given = pretrained(model_args)
    own = gguf_models.name_of(given) if gguf_models.is_gguf(model_args) else last_name(given)
    return re.sub(r"[^\w.+-]", "_", own.strip("/\\")) or "compressed"
