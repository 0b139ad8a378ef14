"""Runs of one model that differ by the seed alone: answers that are right by a document's rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.generators import logs

Draws = Sequence[Sequence[int]]  # a row a document, a column a run: whether it is right


def config_of(records: Sequence[logs.Record], model: str, seed: int, **changes: Any) -> Any:
    """The configuration of a sampled run."""
    seeds = dict.fromkeys(("random_seed", "numpy_seed", "torch_seed"), seed)
    sampled = {"gen_kwargs": {"do_sample": True, "temperature": 0.7}}
    return logs._results({"task": records}, model, {})["config"] | seeds | sampled | changes


def seed_runs(
    folder: Path,
    draws: Draws,
    *,
    model: str = "org/base",
    seeds: Sequence[int] = (1, 2, 3),
    **changes: Any,
) -> list[Path]:
    """One results file a column of the draws; every text is another, whatever it is worth.

    Args:
        folder: where they are put.
        draws: which answers are right.
        model: the model's name.
        seeds: of the runs.
        changes: of the configuration.
    """
    found = []
    for run, seed in enumerate(seeds):
        records = []
        for doc, row in enumerate(draws):
            answer = "4" if row[run] else "5"
            said = f"{model}, seed {seed}: to problem {doc} the answer is {answer}"
            records.append(logs.text(doc, answer, said=[said]))
        config = config_of(records, model, seed, **changes)
        place = folder / f"{model.rpartition('/')[2]}-{run}"
        found.append(logs.write_run(place, {"task": records}, model=model, config=config))
    return found
