"""Processes beside a verb end with it, also where it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

PARENT = """
import multiprocessing, sys, time
from concurrent import futures
from lm_eval_flips.logs.prefetch import SampleReader
from lm_eval_flips.logs.processes import end_with_parent

watched, method = sys.argv[1] == "watched", sys.argv[2]
context = multiprocessing.get_context(method)
initializer = end_with_parent if watched else None
pool = futures.ProcessPoolExecutor(2, mp_context=context, initializer=initializer)
for waiting in [pool.submit(time.sleep, 0.2) for _ in range(2)]:
    waiting.result()
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""
READER = """
import multiprocessing, pathlib, sys, time
from lm_eval_flips.logs.prefetch import SampleReader
from lm_eval_flips.logs.runs import load_run

run = load_run(sys.argv[1])
reader = SampleReader(workers=2)
reader.prefetch(run.tasks.values())
for task in run.tasks.values():
    reader(task)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


def alive(process: int) -> bool:
    """Whether a process is there and not merely unburied."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def killed(code: str, *arguments: str) -> list[int]:
    """The children of a Python that is killed once they are there."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        children = [int(word) for word in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    return children


def left(children: list[int], *, within: float) -> list[int]:
    """Those of the children that are there after so many seconds."""
    end = time.monotonic() + within
    while any(map(alive, children)) and time.monotonic() < end:
        time.sleep(0.05)
    return [child for child in children if alive(child)]


pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_end_with_a_parent_that_is_killed(method: str) -> None:
    """Both workers are gone soon after SIGKILL of what started them."""
    children = killed(PARENT, "watched", method)
    assert len(children) == 2
    assert left(children, within=20) == []


def test_without_watching_they_would_stay() -> None:
    """Control: workers that do not watch outlive it."""
    children = killed(PARENT, "unwatched", "fork")
    try:
        assert len(children) == 2
        assert left(children, within=1) == children
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_readers_end_with_what_they_read_for(examples_run: str) -> None:
    """The processes that read samples ahead are gone too."""
    children = killed(READER, examples_run)
    assert children
    assert left(children, within=20) == []


@pytest.fixture
def examples_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small run."""
    from tests.generators.folders import write_folder

    return str(write_folder(tmp_path_factory.mktemp("runs"), {"int4": 3.0}) / "baseline")
