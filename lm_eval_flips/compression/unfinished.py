"""Folders of models that are being made: they say by whom, and are never taken for a model."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from lm_eval_flips.logs.processes import runs

UNFINISHED = re.compile(r"\.lm-eval-flips-(\d+)-.*\.new")


def unfinished(output: Path, name: str) -> Path:
    """The folder in which this process makes a model before it is moved to its name."""
    return output / f".lm-eval-flips-{os.getpid()}-{name}.new"


def sweep(output: Path) -> None:
    """Remove what a process was making that is no more."""
    for folder in output.iterdir():
        if (match := UNFINISHED.fullmatch(folder.name)) and not runs(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)
