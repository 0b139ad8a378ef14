"""Processes of `run`: a child ends with its parent, and one folder has one writer at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation.evaluations import Schedule
from lm_eval_flips.evaluation.flags import flags_of
from lm_eval_flips.evaluation.running import run_all
from lm_eval_flips.evaluation.schedule import schedule_runs
from lm_eval_flips.evaluation.state import (
    LOCK,
    Settings,
    is_finished,
    locked,
    read_state,
    write_state,
)
from lm_eval_flips.logs.names import STATE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and locks of POSIX")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds: a loaded machine
RESULTS = "results_2026-01-02T03-04-05.678901.json"

# As `run` starts a child; and, for the control, as a program that knows nothing of this does.
WATCHED = "from lm_eval_flips.evaluation.running import _finished; _finished({command}, None)"
UNWATCHED = "import subprocess; subprocess.Popen({command}).wait()"
SETTINGS = Settings(
    model="flips-hf",
    model_args="pretrained=org/base",
    files="",
    tasks="piqa",
    positions="all",
    top=None,
    arguments=[],
)


def started(code: str, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A parent that waits for its sleeping child, and the child's process number."""
    file = folder / "pid"
    command = [sys.executable, "-m", "tests.generators.sleeping", str(file)]
    parent = subprocess.Popen([sys.executable, "-c", code.format(command=command)], cwd=ROOT)
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    return parent, int(file.read_text())


def until(condition: object) -> None:
    """Wait for a condition; time it out."""
    assert callable(condition)
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def hangups_are_heard() -> Iterator[None]:
    """Also where the tests were started by nohup, whose children inherit that none is."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def lives(process: int) -> bool:
    """Whether a process is there and not merely waiting to be buried."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_child_ends_with_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    """However the parent is ended."""
    parent, child = started(WATCHED, tmp_path)
    assert lives(child)
    parent.send_signal(number)
    assert parent.wait(PATIENCE) == -number
    until(lambda: not lives(child))


def test_the_watch_for_children_can_fail(tmp_path: Path) -> None:
    """Control: a child that is not watched outlives its parent."""
    parent, child = started(UNWATCHED, tmp_path)
    try:
        parent.kill()
        parent.wait(PATIENCE)
        time.sleep(1)
        assert lives(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_watched_child_s_exit_code_is_its_own(tmp_path: Path) -> None:
    """A module that ends by itself ends as it does alone; so does one that does not exist."""
    module = tmp_path / "ending.py"
    module.write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    for code in (0, 3):
        command = [sys.executable, "-m", "ending", str(code)]
        parent = WATCHED.replace("_finished({", "raise SystemExit(_finished({")
        done = subprocess.run(
            [sys.executable, "-c", f"{parent.format(command=command)})"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code


def schedule(folder: Path) -> Schedule:
    """One baseline and one compressed model."""
    return schedule_runs(
        baseline="pretrained=org/base",
        compressed=["pretrained=org/int4"],
        tasks="piqa",
        output_path=folder,
    )


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    """A second `run` is refused with the first one's process, and goes on once that has ended."""
    lines = run_all(schedule(tmp_path))
    assert "baseline: evaluating" in next(lines)
    with pytest.raises(
        FlipsError,
        match=rf"another lm-eval-flips run \(process {os.getpid()}\) evaluates into "
        rf"'{tmp_path}'; wait until it has ended, or choose another --output_path",
    ):
        next(run_all(schedule(tmp_path)))
    lines.close()  # type: ignore[attr-defined]  # a generator
    assert "baseline: evaluating" in next(run_all(schedule(tmp_path)))


def test_another_folder_is_free(tmp_path: Path) -> None:
    """Control: the lock is of one folder."""
    lines = run_all(schedule(tmp_path / "one"))
    assert "baseline: evaluating" in next(lines)
    assert "baseline: evaluating" in next(run_all(schedule(tmp_path / "two")))


def test_a_lock_outlives_its_maker_while_a_child_holds_it(tmp_path: Path) -> None:
    """What is still ending still writes."""
    with locked(tmp_path) as lock:
        assert lock is not None
        child = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    try:
        with pytest.raises(FlipsError, match="another lm-eval-flips run"), locked(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_results_of_an_evaluation_that_was_ended_do_not_finish_it(tmp_path: Path) -> None:
    """The harness writes its results before its samples; the state has the last word."""
    (tmp_path / "org__model").mkdir()
    (tmp_path / "org__model" / RESULTS).write_text("{}")
    write_state(tmp_path, SETTINGS, finished=False)
    assert not is_finished(tmp_path)
    write_state(tmp_path, SETTINGS, finished=True)
    assert is_finished(tmp_path)
    (tmp_path / STATE).write_bytes(msgspec.json.encode(SETTINGS))  # as older versions wrote it
    assert is_finished(tmp_path)


def test_a_state_is_written_whole_and_read_as_it_was(tmp_path: Path) -> None:
    """Nothing is left beside it, and the baseline's settings are in it."""
    settings = msgspec.structs.replace(SETTINGS, baseline=SETTINGS, top=5)
    write_state(tmp_path, settings, finished=True)
    assert [file.name for file in tmp_path.iterdir()] == [STATE]
    assert json.loads((tmp_path / STATE).read_text())["baseline"]["tasks"] == "piqa"
    state = read_state(tmp_path)
    assert state is not None
    assert state.finished
    assert msgspec.structs.asdict(state) == {
        **msgspec.structs.asdict(settings),
        "finished": True,
    }


def test_flags_keep_the_values_that_follow_them() -> None:
    """Negative numbers are values; a flag may stand alone."""
    assert flags_of(["--limit", "-1", "--write_out", "--samples={}"]) == [
        ("--limit", ["-1"]),
        ("--write_out", []),
        ("--samples", ["{}"]),
    ]
