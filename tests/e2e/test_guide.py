"""The guide's commands that evaluate models, run after the quickstart as a reader would.

The quickstart itself is run by test_quickstart.py, the two MMLU commands by test_mmlu.py, and what
is printed of the runs in examples/ by test_docs.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import harness_environment
from tests.documents import code
from tests.e2e.conftest import ROOT, Quickstart

pytestmark = [pytest.mark.e2e, pytest.mark.smollm2]
GUIDE = ROOT / "examples" / "README.md"
ELSEWHERE = ("=BASE", "=QUANT")


def commands() -> list[str]:
    """The guide's commands that are to be run here."""
    lines = [line for block in code(GUIDE, "bash") for line in block.splitlines()]
    return [line for line in lines if not any(model in line for model in ELSEWHERE)]


@pytest.mark.parametrize("command", commands())
def test_every_command_runs(command: str, quickstart: Quickstart) -> None:
    """Each command exits with 0 beside the quickstart's folder, on as many questions as that asked."""
    beside = quickstart.folder.parent / "reader"
    beside.mkdir(exist_ok=True)
    if not (beside / "quickstart").exists():
        (beside / "quickstart").symlink_to(quickstart.folder)
    for made in beside.iterdir():
        if made.name != "quickstart":
            shutil.rmtree(made) if made.is_dir() else made.unlink()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=beside,
        env={**harness_environment(beside), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "flips" in done.stdout
