"""How fast this machine computes, and how many of the quickstart's questions fit into some minutes.

Each command prints one word for quickstart.sh, and says on standard error why. ::

    python examples/pace.py dtype
    python examples/pace.py limit --dtype float32 --models models --tasks tasks --minutes 6
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NAME = "SmolLM2-135M-Instruct"
RUNS = (NAME, NAME, f"{NAME}-int8", f"{NAME}-int4")  # the baseline twice: the noise floor
WIDTH = 576  # of the model: what the processor is asked to multiply
PACK = 384  # tokens that are read at once
BATCH, WRITTEN = 32, 24  # answers that are written at once, and tokens of each
FASTER = 1.2  # bfloat16 has to be worth the digits that it lacks
FEWEST, MOST = 5, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds that all runs together take: to begin, for a token read, for a batch's next token."""

    begin: float
    token: float
    step: float

    def seconds(self, *, read: int, written: int) -> float:
        """What all runs take to read so many tokens, and to write so many answers."""
        return self.begin + read * self.token + ceil(written / BATCH) * WRITTEN * self.step


def shortest(action: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of some tries; the first warms up and does not count."""
    action()
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        spent.append(time.perf_counter() - begun)
    return min(spent)


def gain_of_bfloat16() -> float:
    """How many times as fast as float32 this processor multiplies matrices of bfloat16."""

    def multiplying(dtype: torch.dtype) -> float:
        left, right = torch.ones(PACK, WIDTH, dtype=dtype), torch.ones(WIDTH, 1536, dtype=dtype)
        return shortest(lambda: left @ right, times=20)

    return multiplying(torch.float32) / multiplying(torch.bfloat16)


@torch.inference_mode()
def pace(models: Path, dtype: torch.dtype) -> Pace:
    """Time every model that will be evaluated on some tokens."""
    begin = token = step = 0.0
    timed: dict[str, tuple[float, float, float]] = {}
    for name in RUNS:
        if name not in timed:
            begun = time.perf_counter()
            model: Any = AutoModelForCausalLM.from_pretrained(models / name, dtype=dtype)
            AutoTokenizer.from_pretrained(models / name)
            loaded = time.perf_counter() - begun
            timed[name] = (loaded, *_reading_and_writing(model))
        begin, token, step = (
            total + seconds
            for total, seconds in zip((begin, token, step), timed[name], strict=True)
        )
    return Pace(begin=begin, token=token, step=step)


def _reading_and_writing(model: Any) -> tuple[float, float]:
    pack = torch.arange(PACK).unsqueeze(0) + 100
    past = model(pack[:, :16].repeat(BATCH, 1), use_cache=True).past_key_values
    last = pack[:, :1].repeat(BATCH, 1)
    reading = shortest(lambda: model(pack), times=2) / PACK
    return reading, shortest(lambda: model(last, past_key_values=past, use_cache=True), times=2)


def lengths(tasks: Path, models: Path) -> tuple[list[list[int]], list[int]]:
    """Tokens of each question: of every multiple-choice task, and of the one that is answered."""
    tokenizer = AutoTokenizer.from_pretrained(models / NAME)
    read, answered = [], []
    for file in sorted(tasks.glob("*.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        counted = [sum(len(tokenizer(text).input_ids) for text in _texts(row)) for row in rows]
        if "choices" in rows[0]:
            read.append(counted)
        else:
            answered += counted
    return read, answered


def _texts(row: dict[str, Any]) -> Iterator[str]:
    for value in row.values():
        yield from (str(part) for part in (value if isinstance(value, list) else [value]))


def fitting(seconds: float, costs: Sequence[float]) -> int:
    """How many questions of each task fit, by the seconds that 1, 2, 3 ... of them cost."""
    return max(sum(cost <= seconds for cost in costs), FEWEST)


def print_dtype() -> None:
    """Print the dtype that this processor computes faster, float32 where that is much the same."""
    gain = gain_of_bfloat16()
    name = "bfloat16" if gain > FASTER else "float32"
    sys.stderr.write(
        f"This processor multiplies bfloat16 {gain:.2g} times as fast as float32: {name}.\n"
    )
    print(name)


def print_limit(models: Path, tasks: Path, dtype: torch.dtype, minutes: float) -> None:
    """Print how many questions of each task all runs together answer in so many minutes."""
    measured = pace(models, dtype)
    read, answered = lengths(tasks, models)

    costs = [
        measured.seconds(
            read=sum(sum(task[:number]) for task in (*read, answered)),
            written=len(answered[:number]),
        )
        for number in range(1, MOST + 1)
    ]
    limit = fitting(60 * minutes, costs)
    sys.stderr.write(
        f"Each of four runs reads about {len(RUNS) / measured.token:.0f} tokens a second here: "
        f"{limit} questions of each task, about {costs[limit - 1] / 60:.1f} minutes.\n"
    )
    print(limit)


def main() -> None:
    """Measure, and print the word."""
    parser = argparse.ArgumentParser(description="What suits this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("dtype", help="bfloat16 or float32")
    limit = commands.add_parser("limit", help="how many questions of each task")
    limit.add_argument("--models", type=Path, required=True, help="folder of the three models")
    limit.add_argument("--tasks", type=Path, required=True, help="folder of the tasks")
    limit.add_argument("--dtype", choices=("bfloat16", "float32"), required=True)
    limit.add_argument("--minutes", type=float, required=True, help="for all evaluations")
    given = parser.parse_args()
    if given.command == "dtype":
        print_dtype()
    else:
        print_limit(given.models, given.tasks, getattr(torch, given.dtype), given.minutes)


if __name__ == "__main__":
    main()
