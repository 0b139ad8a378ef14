"""`lm-eval-flips run`: a baseline and its compressed models, evaluated one after the other.

Each is evaluated by the harness's own command in a process of its own, which frees a model's memory
whole. What was asked for is written into each run's folder, so that the same command, given again,
keeps what is finished and goes on where it stopped, and another command is refused.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation.model_files import files_fingerprint
from lm_eval_flips.logs.runs import RESULTS_NAME

STATE = "evaluation.json"
BASELINE = "baseline"
NOISE_FLOOR = "noise-floor"
OTHER_PACK = 384  # tokens that flips-hf reads at once for the noise floor; by default it is more
OWN_MODEL = "flips-hf"
# Both models' answers in one cache would be the first one's.
REFUSED = {
    "--use_cache": "a response cache does not tell models apart; finished requests are kept anyway",
    "--model_args": "each model's arguments go to --baseline or --compressed",
    "--config": "give the settings as flags, so that they can be compared",
    "-M": "give it as --model",
    "-t": "give it as --tasks",
    "-o": "give it as --output_path",
}
SHORT = {"-c": "--use_cache", "-a": "--model_args", "-C": "--config"}

# glibc gives large buffers back after every layer; keeping them makes bfloat16 a quarter faster.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
# Samples are proven to be the same by their contents, wherever the task was found.
IRRELEVANT = ("--include_path", "--verbosity")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was asked for; two runs are the same if this is.

    ``files`` is the fingerprint of a local model's files; ``baseline`` what the baseline was asked
    for, where distances are measured from it.
    """

    model: str
    model_args: str
    files: str
    tasks: str
    positions: str
    top: int | None
    arguments: list[str]
    baseline: Asked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One model to evaluate, and the folder of its run.

    ``extra`` are model arguments that say where to record and what to measure against.
    """

    folder: Path
    asked: Asked
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the harness has written its results."""
        files = (*self.folder.glob("*.json"), *self.folder.glob("*/*.json"))
        return any(RESULTS_NAME.fullmatch(file.name) for file in files)

    def command(self) -> list[str]:
        """The harness's command for this run."""
        return [
            *(sys.executable, "-m", "lm_eval_flips", "eval"),
            *("--model", self.asked.model),
            *("--model_args", with_arguments(self.asked.model_args, self.extra)),
            *("--tasks", self.asked.tasks),
            *("--output_path", str(self.folder)),
            "--log_samples",
            *self.asked.arguments,
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All evaluations of one `run`, the baseline first, which may be another command's."""

    baseline: Evaluation
    noise_floor: Evaluation | None
    compressed: tuple[Evaluation, ...]
    note: str | None

    @property
    def runs(self) -> tuple[Evaluation, ...]:
        """Every run, in order."""
        floor = () if self.noise_floor is None else (self.noise_floor,)
        return (self.baseline, *floor, *self.compressed)


def plan_run(
    *,
    baseline: str,
    compressed: Sequence[str],
    tasks: str,
    output_path: Path,
    model: str = OWN_MODEL,
    positions: str = "all",
    top: int | None = None,
    noise_floor: bool = False,
    arguments: Sequence[str] = (),
) -> Plan:
    """What is to be evaluated, and where.

    Args:
        baseline: the baseline's model arguments, or the folder of one that was recorded.
        compressed: each compressed model's arguments.
        tasks: as for the harness.
        output_path: folder for the runs.
        model: the harness's model type; only `flips-hf` measures over the vocabulary.
        positions: "all" scored positions, or the "last" of each context only.
        top: record this many of the most likely tokens instead of hidden states.
        noise_floor: evaluate the baseline a second time, in other batches.
        arguments: all other flags, as for the harness.

    Raises:
        FlipsError: a flag that does not go together with this command.
    """
    _refuse_flags(arguments)
    recorded = Path(baseline).is_dir()
    _refuse_no_arguments(compressed if recorded else (baseline, *compressed))
    if "," in str(output_path) or "=" in str(output_path):
        raise FlipsError(f"'{output_path}' holds a comma or '='; choose another --output_path")
    measured = model == OWN_MODEL
    if not measured and (top is not None or positions != "all"):
        raise FlipsError(
            f"--positions and --top are of --model {OWN_MODEL}; --model {model} has none"
        )

    def asked(model_args: str, before: Asked | None = None) -> Asked:
        return Asked(
            model=model,
            model_args=model_args,
            files=files_fingerprint(_pretrained(model_args)),
            tasks=tasks,
            positions=positions,
            top=top,
            arguments=list(arguments),
            baseline=before,
        )

    if recorded:
        first = _recorded(Path(baseline), asked)
    else:
        folder = output_path / BASELINE
        extra: dict[str, Any] = {"record": str(folder), "positions": positions}
        extra |= {} if top is None else {"top": top}
        first = Evaluation(folder=folder, asked=asked(baseline), extra=extra if measured else {})

    def against_first(name: str, model_args: str) -> Evaluation:
        folder = output_path / name
        extra = {"reference": str(first.folder), "distances": str(folder)}
        return Evaluation(
            folder=folder,
            asked=asked(model_args, first.asked if measured else None),
            extra=extra if measured else {},
        )

    pairs = zip(_names(compressed), compressed, strict=True)
    second = against_first(NOISE_FLOOR, first.asked.model_args) if noise_floor else None
    return Plan(
        baseline=first,
        noise_floor=None if second is None else _in_other_batches(second),
        compressed=tuple(against_first(name, model_args) for name, model_args in pairs),
        note=None
        if measured
        else f"--model {model} gives no distances over the vocabulary: no token KL",
    )


def _in_other_batches(run: Evaluation) -> Evaluation:
    """The same evaluation with other batches, which round otherwise."""
    given, arguments = "", []
    for flag, values in _flags(run.asked.arguments):
        if flag in ("--batch_size", "-b"):
            given = " ".join(values)
        else:
            arguments += [flag, *values]
    other = int(given) // 2 if given.isdecimal() and int(given) > 1 else 2
    extra = {**run.extra, "pack_tokens": OTHER_PACK} if run.extra else run.extra
    asked = msgspec.structs.replace(run.asked, arguments=[*arguments, "--batch_size", str(other)])
    return Evaluation(folder=run.folder, asked=asked, extra=extra)


def _refuse_flags(arguments: Sequence[str]) -> None:
    for argument in arguments:
        flag = argument.split("=")[0] if argument.startswith("--") else argument[:2]
        if (why := REFUSED.get(SHORT.get(flag, flag))) is not None:
            raise FlipsError(f"{flag} cannot be used here: {why}")


def _refuse_no_arguments(models: Sequence[str]) -> None:
    for given in models:
        if "=" not in given and not given.lstrip().startswith("{"):
            raise FlipsError(
                f"'{given}' is neither the folder of a baseline nor model arguments, such as "
                "pretrained=NAME"
            )


def run_all(plan: Plan, *, overwrite: bool = False) -> Iterator[str]:
    """Evaluate what is not finished, the baseline first; says what it does, run by run.

    Raises:
        FlipsError: a folder holds another run, or an evaluation failed.
    """
    for run in plan.runs:
        _refuse_others(run, overwrite=overwrite)
    for run in plan.runs:
        if run.finished:
            yield f"{run.folder}: finished before, kept"
            continue
        yield f"{run.folder}: evaluating {run.asked.model_args}"
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / STATE).write_bytes(msgspec.json.encode(run.asked))
        code = _finished(run.command())
        if code or not run.finished:
            raise FlipsError(
                f"evaluating '{run.asked.model_args}' ended with exit code {code}; what was "
                "finished is kept: give the same command again to go on"
            )


def _finished(command: Sequence[str]) -> int:
    """Exit code of a command; one that is interrupted may finish what it is writing."""
    environment = {**ALLOCATOR, **os.environ}
    process = subprocess.Popen(command, env=environment)  # noqa: S603  (our own command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise FlipsError(
            "interrupted; what was finished is kept: give the same command again to go on"
        ) from None


def with_arguments(model_args: str, extra: dict[str, Any]) -> str:
    """Model arguments with some more, in the form in which they were given.

    Example:
        >>> with_arguments("pretrained=gpt2", {"record": "runs/baseline"})
        'pretrained=gpt2,record=runs/baseline'
        >>> with_arguments('{"pretrained": "gpt2"}', {"record": "runs/baseline"})
        '{"pretrained": "gpt2", "record": "runs/baseline"}'
    """
    if model_args.lstrip().startswith("{"):
        return json.dumps({**_decoded(model_args), **extra})
    return ",".join([model_args, *(f"{name}={value}" for name, value in extra.items())])


def _decoded(model_args: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(model_args, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise FlipsError(f"the model arguments {model_args} are not JSON: {error}") from None


def _recorded(folder: Path, asked: Any) -> Evaluation:
    """A baseline that an earlier command evaluated, if it was asked for the same."""
    before = _state(folder)
    if before is None:
        raise FlipsError(
            f"'{folder}' was not recorded by lm-eval-flips run; give the baseline's model "
            f"arguments instead, as in --baseline pretrained={folder}"
        )
    run = Evaluation(folder=folder, asked=before)
    if not run.finished:
        raise FlipsError(f"the baseline '{folder}' is not finished; give its own command again")
    # the baseline's model itself is no longer needed
    now = msgspec.structs.replace(asked(before.model_args), files=before.files)
    if (found := _difference(before, now)) is not None:
        raise FlipsError(f"the baseline '{folder}' was evaluated with {found}; evaluate it anew")
    return run


def _refuse_others(run: Evaluation, *, overwrite: bool) -> None:
    if not run.folder.exists():
        return
    before = _state(run.folder)
    if before is None:
        if any(run.folder.iterdir()):
            raise FlipsError(f"'{run.folder}' holds something else; choose another --output_path")
        return
    if (found := _difference(before, run.asked)) is None:
        return
    if not overwrite:
        raise FlipsError(
            f"'{run.folder}' was evaluated with {found}; choose another --output_path, or replace "
            "it with --overwrite"
        )
    shutil.rmtree(run.folder)


def _state(folder: Path) -> Asked | None:
    file = folder / STATE
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Asked)
    except msgspec.DecodeError as error:
        raise FlipsError(f"'{file}' cannot be read: {error}; remove '{folder}'") from None


def _difference(before: Asked, now: Asked) -> str | None:
    """The first setting in which two runs differ, in words; None if they are the same."""
    if before.files != now.files:
        return f"other files of '{_pretrained(now.model_args)}' than are there now"
    old, new = _settings(before), _settings(now)
    for flag in (*old, *new):
        if old.get(flag) != new.get(flag):
            return f"{flag} {old.get(flag, 'not given')}, now {new.get(flag, 'not given')}"
    if before.baseline is None or now.baseline is None:
        return None
    found = _difference(before.baseline, now.baseline)
    return found and f"another baseline: {found}"


def _settings(asked: Asked) -> dict[str, str]:
    """Every flag with its values; their order and what changes no answer do not count."""
    found = {
        f"--{name}": str(getattr(asked, name))
        for name in ("model", "model_args", "tasks", "positions")
    }
    if asked.top is not None:
        found["--top"] = str(asked.top)
    found |= {flag: " ".join(values) for flag, values in _flags(asked.arguments)}
    if "--device" in found:
        found["--device"] = found["--device"].split(":")[0]
    return {flag: value for flag, value in found.items() if flag not in IRRELEVANT}


def _flags(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each flag with the values that follow it."""
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if re.match("--?[a-zA-Z]", argument):
            flag, _, value = argument.partition("=")
            found.append((flag, [value] if value else []))
        elif found:
            found[-1][1].append(argument)
        else:
            found.append((argument, []))
    return found


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
    last = _pretrained(model_args).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^\w.+-]", "_", last) or "compressed"


def _pretrained(model_args: str) -> str:
    """The model that is named by model arguments, of whatever backend; "" if none is."""
    if model_args.lstrip().startswith("{"):
        return str(_decoded(model_args).get("pretrained", ""))
    match = re.search(r"(?:^|,)(?:pretrained|path|model)=([^,]*)", model_args)
    return match[1] if match else ""
