"""Every command and every line of Python in the README, run after the quickstart as a reader would.

`bash examples/quickstart.sh` itself is run by test_quickstart.py, the two MMLU commands by
test_mmlu.py, `bash tests/run.sh` is what runs this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import harness_environment
from tests.e2e.conftest import LIMIT, ROOT, Quickstart

pytestmark = [pytest.mark.e2e, pytest.mark.smollm2]
README = (ROOT / "README.md").read_text()
ELSEWHERE = ("bash examples/quickstart.sh", "bash tests/run.sh")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    """The README's commands that are to be run here."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line not in ELSEWHERE and "mmlu" not in line]


def test_the_quickstart_stands_in_the_first_fifteen_lines() -> None:
    """A reader finds the one command that shows everything without scrolling."""
    assert "bash examples/quickstart.sh" in README.splitlines()[:15]


@pytest.mark.parametrize("command", commands())
def test_every_command_runs(command: str, quickstart: Quickstart) -> None:
    """Each command exits with 0 beside the quickstart's folder; lm_eval on its first questions."""
    beside = quickstart.folder.parent / "reader"
    beside.mkdir(exist_ok=True)
    if not (beside / "quickstart").exists():
        (beside / "quickstart").symlink_to(quickstart.folder)
    for made in beside.iterdir():
        if made.name != "quickstart":
            shutil.rmtree(made) if made.is_dir() else made.unlink()
    evaluates = command.startswith(("lm_eval run", "lm-eval-flips run", "lm-eval-flips eval"))
    limited = f"{command} --limit {LIMIT}" if evaluates else command
    limited = limited.replace("--budget 60", f"--budget {LIMIT}")  # of the two tasks' questions
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", limited],
        cwd=beside,
        env={**harness_environment(beside), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    # a gate on so few questions may well be undecided
    assert done.returncode in ((0, 1, 2) if " gate " in command else (0,)), done.stdout[-5000:]
    written = re.findall(r"--(?:output|csv|plots|model-card|json|per-sample) (\S+)", command)
    assert "flips" in done.stdout or written
    assert all((beside / name).exists() for name in written)


def test_the_python_runs(
    quickstart: Quickstart, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Python example prints one line for each compressed model."""
    monkeypatch.chdir(quickstart.folder.parent)
    if not Path("quickstart").exists():
        Path("quickstart").symlink_to(quickstart.folder)
    (code,) = blocks("python")
    exec(code, {})
    assert capsys.readouterr().out.count("SmolLM2-135M-Instruct-int") == 2
