"""`lm-eval-flips run` ended at random moments: no child is left, and a rerun ends as if never ended.

bash tests/run.sh tests/e2e/test_killed.py --kills 100
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips.evaluation.state import read_state
from tests.conftest import harness_environment

pytestmark = pytest.mark.e2e
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
PATIENCE = 60.0  # seconds that a child may take to end
NEAR = 1e-4  # nats: what was not yet answered is read in other batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`run` for the tiny model and its perturbed copy, on a task of choices and one of texts."""

    baseline: Path
    compressed: Path
    tasks: Path

    def begin(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start it into ``folder / "runs"``."""
        folder.mkdir(exist_ok=True)
        arguments = [
            *("--baseline", f"pretrained={self.baseline},dtype=float32"),
            *("--compressed", f"pretrained={self.compressed},dtype=float32"),
            *("--tasks", "tiny_choice,tiny_generate", "--include_path", str(self.tasks)),
            *("--device", "cpu", "--batch_size", "8", "--output_path", str(folder / "runs")),
        ]
        with (folder / "printed.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "lm_eval_flips", "run", *arguments],
                env=harness_environment(folder, preloaded=False),
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def finish(self, folder: Path) -> dict[str, Any]:
        """Run it to its end; what it says of the compressed model."""
        code = self.begin(folder).wait(600)
        assert code == 0, (folder / "printed.log").read_text()[-5000:]
        document: dict[str, Any] = json.loads((folder / "runs/comparison.json").read_text())
        (compressed,) = document["compressed"]
        return {"tasks": compressed["tasks"], "pooled": compressed["pooled"]}


@pytest.fixture(scope="module")
def command(tiny_model: Path, perturbed_model: Path, task_folder_local: Path) -> Command:
    """The command that is ended again and again."""
    return Command(baseline=tiny_model, compressed=perturbed_model, tasks=task_folder_local)


@pytest.fixture(autouse=True)
def hangups_are_heard() -> Iterator[None]:
    """Also where the tests were started by nohup, whose children inherit that none is."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def children(folder: Path) -> list[int]:
    """Processes whose command line names a folder."""
    named = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if str(folder / "runs").encode() in line:
            named.append(int(file.parent.name))
    return named


def leaves(found: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a JSON document with the keys that lead to it."""
    if isinstance(found, dict | list):
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        for key, value in pairs:
            yield from leaves(value, f"{place}/{key}")
    else:
        yield place, found


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads the processes of Linux")
def test_no_child_is_left_and_nothing_is_lost(
    command: Command, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Ended by a random signal at a random moment, then again; at last it ends as one never ended."""
    begun = time.monotonic()
    expected = command.finish(tmp_path / "whole")
    seconds = time.monotonic() - begun
    draw = random.Random(0)
    folder, kills = tmp_path / "killed", 0
    while kills < request.config.getoption("--kills"):
        process = command.begin(folder)
        try:
            process.wait(draw.uniform(0, seconds))
            folder = tmp_path / f"killed-{kills}"  # it was finished before its moment: anew
            continue
        except subprocess.TimeoutExpired:
            process.send_signal(number := draw.choice(SIGNALS))
        assert process.wait(PATIENCE) == -number
        kills += 1
        end = time.monotonic() + PATIENCE
        while left := children(folder):
            assert time.monotonic() < end, f"{left} outlived {number.name}"
            time.sleep(0.05)
        for run in (folder / "runs").glob("*/"):
            if (state := read_state(run)) is not None and state.finished:
                (results,) = run.glob("*/results_*.json")
                assert json.loads(results.read_text())["results"]
    found, wanted = dict(leaves(command.finish(folder))), dict(leaves(expected))
    assert found.keys() == wanted.keys()
    for place, value in wanted.items():
        near = pytest.approx(value, abs=NEAR, rel=0.01) if isinstance(value, float) else value
        assert found[place] == near, place


def test_a_child_that_is_there_is_seen(tmp_path: Path) -> None:
    """Control: the test above looks for children where they are."""
    code = "import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "runs" / "baseline")])
    try:
        end = time.monotonic() + PATIENCE
        while not (seen := children(tmp_path)) and time.monotonic() < end:
            time.sleep(0.05)  # a child that has just begun may not have its command line yet
        assert seen == [process.pid]
    finally:
        process.kill()
        process.wait()
    assert children(tmp_path) == []
