"""Comparisons of every kind that a chart may meet, from logs as the harness writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lm_eval_flips import Comparison, compare
from tests.generators import logs
from tests.generators.many_tasks import write_many

TASKS, SAMPLES = 9, 720


@pytest.fixture(scope="session")
def several_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A baseline and four compressed runs of nine tasks with 80 samples each."""
    folder = tmp_path_factory.mktemp("several")
    return write_many(folder, tasks=TASKS, samples=SAMPLES, compressed=4, seed=3)


@pytest.fixture(scope="session")
def several(several_runs: list[Path]) -> Comparison:
    """The four runs, compared."""
    return compare(*several_runs)


@pytest.fixture(scope="session")
def single(several_runs: list[Path]) -> Comparison:
    """The first of the four runs alone."""
    return compare(*several_runs[:2])


def written(
    folder: Path, tasks: dict[str, tuple[list[logs.Record], list[logs.Record]]]
) -> Comparison:
    """Two runs of these records, compared."""
    sides = [
        logs.write_run(
            folder / name, {task: both[side] for task, both in tasks.items()}, model=f"org/{name}"
        )
        for side, name in enumerate(("base", "int4"))
    ]
    return compare(*sides)


@pytest.fixture(scope="session")
def one_sample(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A single question, which is lost."""
    both = [logs.choice(0, [-1.0, -2.0])], [logs.choice(0, [-2.0, -1.0])]
    return written(tmp_path_factory.mktemp("one"), {"task": both})


@pytest.fixture(scope="session")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Generated answers only: 3 of 10 lost, 1 won."""
    said = [("4", "5")] * 3 + [("5", "4")] + [("4", "4")] * 6
    both = tuple([logs.text(i, pair[side]) for i, pair in enumerate(said)] for side in range(2))
    return written(tmp_path_factory.mktemp("text"), {"math": (both[0], both[1])})


@pytest.fixture(scope="session")
def perplexity(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Texts whose log-likelihoods are all that is measured: no answer is right or wrong."""
    pages = [f"page {i} of a book about trees" for i in range(6)]
    both = tuple(
        [logs.rolling(i, -20.0 - i - worse, page) for i, page in enumerate(pages)]
        for worse in (0.0, 1.5)
    )
    return written(tmp_path_factory.mktemp("pages"), {"wikitext": (both[0], both[1])})


@pytest.fixture(scope="session")
def undefined(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Numbers that are nan or infinite: a choice ruled out in one run, nothing that flips."""
    rows = [[-1.0, -2.0, -3.0], [-0.5, -4.0, -9.0], [-1.0, -1.5, -2.5]]
    base = [logs.choice(i, row) for i, row in enumerate(rows)]
    ruled_out = [logs.choice(i, [*row[:2], -np.inf]) for i, row in enumerate(rows)]
    whole = [logs.choice(i, row) for i, row in enumerate(rows)]
    more = [logs.choice(i, [row[0], row[1] - 0.01, row[2]]) for i, row in enumerate(rows)]
    return written(
        tmp_path_factory.mktemp("nan"), {"ruled": (base, ruled_out), "quiet": (whole, more)}
    )


@pytest.fixture(scope="session")
def many_tasks(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """57 tasks with four or five samples each, and two runs."""
    folder = tmp_path_factory.mktemp("many")
    return compare(*write_many(folder, tasks=57, samples=250, compressed=2, seed=1))
