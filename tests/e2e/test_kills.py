"""A verb that is killed at any moment leaves each of its files old and whole, or new and whole."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.generators.folders import write_folder

OLD = b"what was there before\n" * 100
ENDS = {"gate": 2}  # random log-likelihoods, some above 0: no gate passes them

Files = dict[str, bytes]


def arguments(verb: str, runs: Path, out: Path) -> list[str]:
    """A verb with all files that it writes and replaces."""
    base, int4 = str(runs / "baseline"), str(runs / "int4")
    given = {
        "compare": [
            *(base, int4, "--json", f"{out}/c.json", "--per-sample", f"{out}/c.parquet"),
            *("--report", f"{out}/p.html", "--model-card", f"{out}/c.md"),
        ],
        "leaderboard": [
            *(str(runs), "--baseline", base, "--output", f"{out}/b.html", "--csv", f"{out}/b.csv"),
            *("--parquet", f"{out}/b.parquet", "--markdown", f"{out}/b.md"),
        ],
        "report": [base, int4, "--output", f"{out}/r.html"],
        "gate": [
            *(base, int4, "--max-flips", "1", "--json", f"{out}/g.json"),
            *("--junit", f"{out}/g.xml", "--ladder", f"{out}/g.md"),
        ],
    }
    return [sys.executable, "-m", "lm_eval_flips", verb, *given[verb], "--overwrite"]


def files(out: Path) -> Files:
    """What lies there, without what was begun beside."""
    return {file.name: file.read_bytes() for file in out.iterdir() if not file.name.startswith(".")}


def broken(found: Mapping[str, bytes], old: Files, new: Files) -> list[str]:
    """Names of files that are neither what they were nor what they are to be."""
    return [name for name, content in found.items() if content not in (old[name], new[name])]


def whole(command: list[str], verb: str) -> None:
    """Run a command to its end."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == ENDS.get(verb, 0), done.stdout + done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("verb", ["compare", "leaderboard", "report", "gate"])
def test_a_kill_leaves_no_file_broken(
    tmp_path: Path, verb: str, request: pytest.FixtureRequest
) -> None:
    """At random moments of the second half, in which files are written."""
    runs, out = write_folder(tmp_path / "runs", {"int4": 3.0}), tmp_path / "out"
    out.mkdir()
    command = arguments(verb, runs, out)
    # what was there: for the card it is part of what will be
    whole(command, verb)
    old = dict.fromkeys(files(out), OLD)

    def prepare() -> None:
        for name, content in old.items():
            (out / name).write_bytes(content)

    prepare()
    began = time.monotonic()
    whole(command, verb)
    took = time.monotonic() - began
    new = files(out)
    assert all(new[name] != OLD for name in new)
    kills = request.config.getoption("--kills")
    for share in np.random.default_rng(len(verb)).uniform(0.5, 1.0, size=kills):
        prepare()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(timeout=share * took)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        found = files(out)
        assert set(found) == set(old)
        assert broken(found, old, new) == []
    # the last one is let finish: whatever the kills left, the same command does its work
    whole(command, verb)
    assert files(out) == new


def test_the_search_for_broken_files_can_fail() -> None:
    """Control: a half of the new file is found, the old and the new one are not."""
    old, new = {"a": b"old", "b": b"old"}, {"a": b"newer", "b": b"newer"}
    assert broken({"a": b"new", "b": b"newer"}, old, new) == ["a"]
    assert broken({"a": b"old", "b": b"newer"}, old, new) == []
