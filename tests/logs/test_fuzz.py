"""Damaged runs, by seeded mutations: each is refused by our error, told by a warning, or harmless.

    python -m pytest tests/logs/test_fuzz.py -m simulation -o addopts=

runs 20,000 of them and prints the counts, in some ten minutes; with the shapes of tensors checked it
would take an hour.
"""

from __future__ import annotations

import collections
import contextlib
import math
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from lm_eval_flips.comparison.compare import compare
from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run, load_run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog
from lm_eval_flips.report.files.document import to_document
from tests.generators import logs
from tests.logs.mutations import Mutation, mutate

LIMIT = 10.0  # seconds; a case takes a hundredth of that on a busy machine
SAMPLES = 8
# What names things, or says what is not a number of the comparison.
WORDS = frozenset({"path", "model", "scheme", "warnings", "baseline", "settings_that_differ"})


class HangError(Exception):
    """A case took longer than it may."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Stop what runs longer; also while it waits for a pipe."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _records(side: int) -> dict[str, list[logs.Record]]:
    """Three tasks of every kind; the sides answer differently."""
    draw = np.random.default_rng(side)
    words = ["one", "two words", "and three more"]
    choice = [
        logs.choice(i, (-9 * draw.random(4) - 1).tolist(), gold=i % 4) for i in range(SAMPLES)
    ]
    answers = [str(int(draw.integers(3, 5))) for _ in range(SAMPLES)]
    text = [
        logs.text(i, answer, filter=name)
        for name in ("strict-match", "flexible-extract")
        for i, answer in enumerate(answers)
    ]
    rolling = [logs.rolling(i, -20.0 * draw.random() - 1, words[i % 3]) for i in range(SAMPLES)]
    return {"choice": choice, "text": text, "rolling": rolling}


def _write(folder: Path, side: int) -> Path:
    model = "org/base" if side == 0 else "org/int4"
    return logs.write_run(
        folder, _records(side), model=model, groups={"all": ["choice", "text", "rolling"]}
    ).parent


def numbers_of(comparison: Comparison) -> dict[str, Any]:
    """Every number of a comparison, by its place."""
    numbers: dict[str, Any] = {}

    def walk(value: Any, place: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key not in WORDS:
                    walk(inner, f"{place}.{'run' if '/' in key else key}")  # one that is a path
        elif isinstance(value, (list, tuple)):
            for key, inner in enumerate(value):
                walk(inner, f"{place}.{key}")
        elif isinstance(value, (int, float)):
            numbers[place] = value

    walk(to_document(comparison), "")
    return numbers


@dataclass
class Outcomes:
    """How many mutations ended how; the first of each kind that must not be."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    bad: list[str] = field(default_factory=list)


class Fuzz:
    """A pair of runs; mutates the compressed one, or the baseline, again and again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole = [_write(folder / f"whole{side}", side) for side in (0, 1)]
        self._runs = [load_run(place) for place in self._whole]
        self._known: dict[Path, dict[str, Samples]] = {}
        for run in self._runs:
            for task in run.tasks.values():
                self._known[task.path] = read_samples(task)
        first = self._compared(self._runs[0], self._runs[1])
        self._numbers = numbers_of(first)
        self._warnings = {str(warning) for warning in first.warnings}

    def _compared(self, base: Run, run: Run) -> Comparison:
        return compare(base, run, read=self._read)

    def _read(self, task: TaskLog) -> dict[str, Samples]:
        """As ``read_samples``; what cannot have changed is not read again."""
        return self._known[task.path] if task.path in self._known else read_samples(task)

    def outcome(self, seed: int) -> tuple[str, Mutation]:
        """How one mutation ends: "refused", "warned", "harmless", "plausible" or what must not be."""
        draw = random.Random(seed)
        side = draw.randrange(2)
        place = self._folder / "mutated"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._whole[side], place)
        mutation = mutate(place, draw)
        try:
            with limited(LIMIT):
                mutated = load_run(place)
                runs = [mutated, self._runs[1]] if side == 0 else [self._runs[0], mutated]
                comparison = self._compared(*runs)
                changed = not _equal(numbers_of(comparison), self._numbers)
                warned = {_shown(w, place) for w in comparison.warnings} - self._warnings
        except FlipsError:
            return "refused", mutation
        except HangError:
            return "hang", mutation
        except Exception as error:  # noqa: BLE001  (what is looked for)
            return f"foreign {type(error).__name__}: {error!s:.80}", mutation
        if not changed:
            return "harmless", mutation
        if warned:
            return "warned", mutation
        return ("plausible" if mutation.plausible else "silent"), mutation

    def run(self, seeds: range) -> Outcomes:
        """All mutations of some seeds."""
        outcomes = Outcomes()
        for seed in seeds:
            how, mutation = self.outcome(seed)
            kind = "foreign" if how.startswith("foreign") else how
            outcomes.counts[kind] += 1
            if kind in ("foreign", "hang", "silent"):
                outcomes.bad.append(f"seed {seed}: {mutation.name}: {how}")
        return outcomes


def _shown(warning: object, place: Path) -> str:
    return str(warning).replace(str(place), "")


def _equal(numbers: dict[str, Any], known: dict[str, Any]) -> bool:
    return numbers.keys() == known.keys() and all(
        number == known[key] or (math.isnan(number) and math.isnan(known[key]))
        for key, number in numbers.items()
    )


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Fuzz:
    """The runs that are mutated; what does not change of them is read once."""
    return Fuzz(tmp_path_factory.mktemp("fuzz"))


def test_damage_is_refused_told_or_harmless(fuzz: Fuzz) -> None:
    """A share of the mutations; the whole of them is the simulation below."""
    outcomes = fuzz.run(range(500))
    assert outcomes.bad == []
    # control: the mutations are of all kinds
    assert min(outcomes.counts[how] for how in ("refused", "warned", "harmless", "plausible")) > 0


@pytest.mark.simulation
def test_twenty_thousand_mutations_change_nothing_in_silence(
    fuzz: Fuzz, capsys: pytest.CaptureFixture[str]
) -> None:
    """No exception but ours, no hang, no number that changes without a word."""
    outcomes = fuzz.run(range(20_000))
    with capsys.disabled():
        print(dict(outcomes.counts))  # noqa: T201  (they are what it is run for)
    assert outcomes.bad == []


def test_the_silence_check_can_fail(fuzz: Fuzz, tmp_path: Path) -> None:
    """Control: of a comparison with another answer the numbers are not the known ones."""
    place = _write(tmp_path, 1)
    file = place / f"samples_choice_{logs.DATE}.jsonl"
    records = _records(1)["choice"]
    records[0] = logs.choice(0, [-1.0, -2.0, -3.0, -9.5])
    logs.write_samples(file, records)
    known = numbers_of(compare(_write(tmp_path / "b", 0), place))
    again = numbers_of(compare(_write(tmp_path / "b", 0), _write(tmp_path / "c", 1)))
    assert not _equal(known, again)
    assert _equal(again, fuzz._numbers)


def test_a_hang_is_seen() -> None:
    """Control for the time limit."""
    with pytest.raises(HangError, match="^$"), limited(0.05):
        signal.pause()
