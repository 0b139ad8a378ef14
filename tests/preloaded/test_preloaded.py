"""A command that is forked from the preloaded server is what it would be by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import harness_environment

ENDS = (["exit", "0"], ["exit", "3"], ["signal", str(int(signal.SIGSEGV))], ["fail"])


def command(file: Path, *how: str) -> list[str]:
    """The probe's command line."""
    return [sys.executable, str(Path(__file__).with_name("probe.py")), str(file), *how]


def probed(folder: Path, *how: str, **environment: str) -> tuple[Any, dict[str, Any]]:
    """What the probe printed, how it ended, and what it saw."""
    file = folder / "seen.json"
    done = subprocess.run(
        command(file, *how),
        env={**os.environ, **environment},
        cwd=folder,
        input="given",
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    return (done.returncode, done.stdout, last), json.loads(file.read_text())


@pytest.mark.parametrize("how", ENDS, ids=" ".join)
def test_it_prints_and_ends_as_a_process_of_its_own(how: list[str], tmp_path: Path) -> None:
    """Exit status, signal, traceback; folder, path, environment and what it is given to read."""
    ended, seen = probed(tmp_path, *how, **harness_environment(tmp_path), TOLD="this")
    expected, own = probed(tmp_path, *how, TOLD="this")
    assert ended == expected
    assert seen.pop("torch") is True
    assert own.pop("torch") is False
    for one in (seen, own):
        del one["process"]
    assert seen == own


def test_another_environment_at_import_is_not_served(tmp_path: Path) -> None:
    """What is read when something is imported cannot be changed afterwards."""
    _, seen = probed(tmp_path, **{**harness_environment(tmp_path), "HF_HUB_OFFLINE": "0"})
    assert seen["torch"] is False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it(number: signal.Signals, tmp_path: Path) -> None:
    """Also one that cannot be caught: then the server ends its fork."""
    file = tmp_path / "seen.json"
    with subprocess.Popen(
        command(file, "sleep"),
        env=harness_environment(tmp_path),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not file.exists():
            assert process.poll() is None
            time.sleep(0.01)
        seen = json.loads(file.read_text())
        assert seen["process"] != process.pid
        process.send_signal(number)
        assert process.wait(60) == -number
    end = time.monotonic() + 60
    while Path(f"/proc/{seen['process']}").exists():
        assert time.monotonic() < end, "the fork is left"
        time.sleep(0.01)
