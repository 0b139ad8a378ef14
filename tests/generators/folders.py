"""Folders of small runs: a baseline and models that are compressed more and more."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.leaderboard.board import Board, assemble
from lm_eval_flips.leaderboard.cache import Cache
from lm_eval_flips.leaderboard.discovery import find_runs
from lm_eval_flips.leaderboard.gathering import gather
from lm_eval_flips.logs.runs import load_run
from tests.generators import logs

TASKS = ("arc", "law", "maths")
NOISE = {"int8": 0.2, "gptq-w4a16": 1.0, "int4": 3.0}
QUESTIONS = 30


def records(task: str, noise: float, seed: int = 0) -> list[logs.Record]:
    """A task's questions, whose log-likelihoods are moved by so much noise."""
    generator = np.random.default_rng([TASKS.index(task), 7])
    scores = generator.normal(-4, 1.5, (QUESTIONS, 4))
    gold = np.where(generator.random(QUESTIONS) < 0.6, scores.argmax(1), 2)
    change = np.random.default_rng([TASKS.index(task), seed, round(100 * noise)])
    moved = scores + noise * change.normal(size=scores.shape)
    return [
        logs.choice(i, row.tolist(), gold=int(right), question=f"{task} {i}?")
        for i, (row, right) in enumerate(zip(moved, gold, strict=True))
    ]


def write_one(
    folder: Path,
    name: str,
    noise: float,
    *,
    model: str = "",
    tasks: Sequence[str] = TASKS,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """Write one run to FOLDER/NAME; its results file."""
    return logs.write_run(
        folder / name,
        {task: records(task, noise, seed) for task in tasks},
        model=model or f"org/llama-{name}",
        groups={"all": tasks} if len(tasks) > 1 else None,
        **changes,
    )


def write_folder(folder: Path, noise: Mapping[str, float] = NOISE) -> Path:
    """Write FOLDER/baseline and a run for each amount of noise."""
    write_one(folder, "baseline", 0.0, model="org/llama")
    for name, amount in noise.items():
        write_one(folder, name, amount)
    return folder


def board_of(
    folder: Path,
    *,
    asked: Options | None = None,
    cached: bool = False,
    workers: int = 0,
    computed: list[str] | None = None,
) -> Board:
    """The board of FOLDER against FOLDER/baseline; ``computed`` gets the runs not in the cache."""
    asked = asked or Options()
    base = load_run(folder / "baseline")
    found, left_out = find_runs(folder, base)
    names = {own.run.path: Path(own.folder).parts[0] for own in found}

    def done(run: Any, kept: bool) -> None:
        if computed is not None and not kept:
            computed.append(names[run.path])

    entries = gather(
        base,
        [own.run for own in found],
        asked,
        cache=Cache(folder / ".lm-eval-flips-cache" if cached else None, base, asked),
        workers=workers,
        done=done,
    )
    return assemble(base, found, entries, left_out)


def touch_later(file: Path) -> None:
    """Give a file another time of change, as writing it does."""
    found = file.stat()
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))
