"""What a run's folder says of itself: what was asked for, whether it is finished, who writes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation.flags import flags_of, pretrained, refuse_no_arguments
from lm_eval_flips.logs.names import RESULTS_NAME, STATE
from lm_eval_flips.logs.output_files import write_whole
from lm_eval_flips.logs.secrets import masked_arguments, masked_text

LOCK = ".evaluating"
# Samples are proven to be the same by their contents, wherever the task was found.
IRRELEVANT = ("--include_path", "--verbosity")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was asked for; two runs are the same if this is.

    ``files`` is the fingerprint of a local model's files; ``baseline`` what the baseline was asked
    for, where distances are measured from it. ``until`` are the rules of a run that is evaluated in
    a random order, of ``order_seed``; other rules than at its first look would void its verdict.
    """

    model: str
    model_args: str
    files: str
    tasks: str
    positions: str
    top: int | None
    arguments: list[str]
    baseline: Settings | None = None
    until: str | None = None
    order_seed: int | None = None


class State(Settings, frozen=True, kw_only=True):
    """A run's settings, and whether its evaluation came to its end.

    ``finished`` is None in runs of versions that did not say so; then its results tell.
    """

    finished: bool | None = None


def read_state(folder: Path) -> State | None:
    """The state of a run's folder; None where `run` has written none.

    Raises:
        FlipsError: it cannot be read.
    """
    file = folder / STATE
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=State)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FlipsError(f"'{file}' cannot be read: {error}; remove '{folder}'") from None


def baseline_arguments(baseline: str) -> str:
    """The baseline's model arguments, of which the folder of a run knows its own.

    Raises:
        FlipsError: the folder does not, or what is given is neither.
    """
    folder = Path(baseline)
    if not folder.is_dir():
        refuse_no_arguments([baseline])
        return baseline
    before = read_state(folder)
    if before is None:
        raise not_recorded(folder)
    return before.model_args


def not_recorded(folder: Path) -> FlipsError:
    """What to raise for the folder of a baseline that `run` did not evaluate."""
    return FlipsError(
        f"'{folder}' was not recorded by lm-eval-flips run; give the baseline's model "
        f"arguments instead, as in --baseline pretrained={folder}"
    )


def write_state(folder: Path, settings: Settings, *, finished: bool) -> None:
    """Write a run's state, whole or not at all, and without secrets.

    Raises:
        FlipsError: it cannot be written.
    """
    state = State(**msgspec.structs.asdict(_masked(settings)) | {"finished": finished})
    write_whole(folder / STATE, msgspec.json.encode(state))


def _masked(settings: Settings) -> Settings:
    """The settings without the secrets in them, which make no other run."""
    return msgspec.structs.replace(
        settings,
        model_args=masked_text(settings.model_args),
        arguments=masked_arguments(settings.arguments),
        baseline=None if settings.baseline is None else _masked(settings.baseline),
    )


def is_finished(folder: Path) -> bool:
    """Whether a run came to its end, after which the harness writes results and samples.

    The harness writes its results before its samples: their file alone does not tell.
    """
    state = read_state(folder)
    return has_results(folder) and (state is None or state.finished is not False)


def has_results(folder: Path) -> bool:
    """Whether the harness has written a results file, directly or in the model's folder."""
    files = (*folder.glob("*.json"), *folder.glob("*/*.json"))
    return any(RESULTS_NAME.fullmatch(file.name) for file in files)


def difference(before: Settings, now: Settings) -> str | None:
    """The first setting in which two runs differ, in words; None if they are the same."""
    if before.files != now.files:
        return f"other files of '{pretrained(now.model_args)}' than are there now"
    old, new = _flags(_masked(before)), _flags(_masked(now))
    for flag in (*old, *new):
        if old.get(flag) != new.get(flag):
            return f"{flag} {old.get(flag, 'not given')}, now {new.get(flag, 'not given')}"
    if before.baseline is None or now.baseline is None:
        return None
    of_baselines = difference(before.baseline, now.baseline)
    return of_baselines and f"another baseline: {of_baselines}"


def _flags(settings: Settings) -> dict[str, str]:
    """Every flag with its values; their order and what changes no answer do not count."""
    flags = {
        f"--{name}": str(getattr(settings, name))
        for name in ("model", "model_args", "tasks", "positions")
    }
    for flag, value in (
        ("--top", settings.top),
        ("--until", settings.until),
        ("--order-seed", settings.order_seed),
    ):
        if value is not None:
            flags[flag] = str(value)
    flags |= {flag: " ".join(values) for flag, values in flags_of(settings.arguments)}
    if "--device" in flags:
        flags["--device"] = flags["--device"].split(":")[0]
    return {flag: value for flag, value in flags.items() if flag not in IRRELEVANT}


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Keep a folder of runs to this process and to the children that are given the descriptor.

    The lock is the system's own, so it ends with its last holder, however that ends; the file
    stays. None where the system or the file system has no such locks.

    Raises:
        FlipsError: another `run` evaluates into this folder.
    """
    if sys.platform == "win32":
        yield None
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        held: int | None = descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.read(descriptor, 32).decode(errors="replace").strip() or "of unknown id"
            raise FlipsError(
                f"another lm-eval-flips run (process {process}) evaluates into '{folder}'; wait "
                "until it has ended, or choose another --output_path"
            ) from None
        except OSError:  # a file system without locks
            held = None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield held
    finally:
        os.close(descriptor)
