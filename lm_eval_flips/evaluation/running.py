"""Run a schedule: each evaluation in a process of its own, which frees a model's memory whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import ceil
from pathlib import Path

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation.evaluations import Evaluation, Schedule
from lm_eval_flips.evaluation.flags import pretrained
from lm_eval_flips.evaluation.launchers import without_ranks
from lm_eval_flips.evaluation.state import difference, has_results, locked, read_state, write_state
from lm_eval_flips.logs.runs import RECORD
from lm_eval_flips.logs.secrets import masked_text

# glibc gives large buffers back after every layer; keeping them makes bfloat16 a quarter faster.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


def run_all(schedule: Schedule, *, overwrite: bool = False) -> Iterator[str]:
    """Evaluate what is not finished, the baseline first; says what it does, run by run.

    Raises:
        FlipsError: a folder holds another run, another process writes there, or an evaluation
            failed.
    """
    with locked(schedule.output_path) as lock:
        for run in schedule.runs:
            _refuse_others(run, overwrite=overwrite)
        seconds: list[float] = []
        for place, run in enumerate(schedule.runs, start=1):
            if run.finished and not (run.in_order is not None and run.in_order.go_on):
                yield f"{run.folder}: finished before, kept"
                continue
            left = sum(not other.finished for other in schedule.runs[place - 1 :])
            yield (
                f"{run.folder}: evaluating {masked_text(run.settings.model_args)} "
                f"({place} of {len(schedule.runs)}{_time_left(seconds, left)})"
            )
            begun = time.monotonic()
            _evaluate(run, lock)
            seconds.append(time.monotonic() - begun)


def _time_left(seconds: Sequence[float], runs: int) -> str:
    """What the runs that are left take, if each takes as long as those before did on average."""
    if not seconds:
        return ""
    return f", about {ceil(runs * sum(seconds) / len(seconds) / 60)} min left"


def _evaluate(run: Evaluation, lock: int | None) -> None:
    write_state(run.folder, run.settings, finished=False)
    _remove_results(run)
    code = _finished(run.command(), lock)
    if code or not has_results(run.folder):
        raise FlipsError(
            f"evaluating '{masked_text(run.settings.model_args)}' ended with exit code {code}; "
            "what was finished is kept: give the same command again to go on"
        )
    _keep_record(run)
    write_state(run.folder, run.settings, finished=True)


def _keep_record(run: Evaluation) -> None:
    """Keep what the model's folder says of how it was compressed; the model may not be kept."""
    with suppress(OSError):
        shutil.copyfile(Path(pretrained(run.settings.model_args)) / RECORD, run.folder / RECORD)


def _remove_results(run: Evaluation) -> None:
    """Remove what the harness was still writing when it was ended: results without all samples."""
    for pattern in ("results_*.json", "samples_*.jsonl"):
        for file in (*run.folder.glob(pattern), *run.folder.glob(f"*/{pattern}")):
            file.unlink()


def _finished(command: Sequence[str], lock: int | None) -> int:
    """Exit code of a command, which ends with this process however that ends.

    One that is interrupted may finish what it is writing. The lock is the child's too: while one
    is still about to end, no other begins.
    """
    environment = {**ALLOCATOR, **without_ranks()}
    if sys.platform == "win32":  # no descriptor can be handed on
        return _waited(subprocess.Popen(command, env=environment))  # noqa: S603  (our own command)
    read, write = os.pipe()
    try:
        interpreter, _, module, *arguments = command
        watched = [interpreter, "-m", "lm_eval_flips.evaluation.watched", str(read), module]
        process = subprocess.Popen(  # noqa: S603  (our own command)
            [*watched, *arguments],
            env=environment,
            pass_fds=(read,) if lock is None else (read, lock),
        )
        return _waited(process)
    finally:
        os.close(read)
        os.close(write)


def _waited(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise FlipsError(
            "interrupted; what was finished is kept: give the same command again to go on"
        ) from None


def _refuse_others(run: Evaluation, *, overwrite: bool) -> None:
    if not run.folder.exists():
        return
    before = read_state(run.folder)
    if before is None:
        if any(run.folder.iterdir()):
            raise FlipsError(f"'{run.folder}' holds something else; choose another --output_path")
        return
    if (differing := difference(before, run.settings)) is None:
        return
    if not overwrite:
        raise FlipsError(
            f"'{run.folder}' was evaluated with {differing}; choose another --output_path, or "
            "replace it with --overwrite"
        )
    shutil.rmtree(run.folder)
