"""A baseline and a compressed run of known answers, whole and with a plan's samples only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.planning.making import make_plan
from lm_eval_flips.planning.plan import Plan, plan_contents, plan_files
from tests.generators import logs

Records = dict[str, list[logs.Record]]
TEXTS = 40


@dataclass(frozen=True)
class World:
    """Records of both runs: two tasks of choices, in one group, and one of text."""

    baseline: Records
    compressed: Records
    changes: Mapping[str, Any] = field(default_factory=dict)

    def write(
        self, folder: Path, side: str, samples: Mapping[str, Sequence[int]] | None = None
    ) -> Path:
        """Write a run, whole or as lm_eval does with these --samples; return its folder."""
        records = self.baseline if side == "baseline" else self.compressed
        if samples is not None:
            records = {
                name: [found for found in records[name] if found["doc_id"] in set(docs)]
                for name, docs in samples.items()
            }
        groups = {"both": ["large", "small"]} if {"large", "small"} <= set(records) else {}
        model = "org/model" if side == "baseline" else "org/int4"
        # each task has documents of its own, also where a run holds one task alone
        own = {name: [logs.own_documents(name, of) for of in records[name]] for name in records}
        logs.write_run(
            folder, own, model=model, groups=groups, shared_documents=True, **self.changes
        )
        return folder


@dataclass(frozen=True)
class Planned:
    """A plan of a world's baseline, and where everything lies."""

    plan: Plan
    file: Path
    baseline: Path
    compressed: Path
    full: Path

    @property
    def own(self) -> Path:
        """The plan's own file."""
        return plan_files(self.file)[1]


def world(
    seed: int = 0, *, large: int = 240, small: int = 90, noise: float = 0.7, **changes: Any
) -> World:
    """Questions of four and of three choices, whose log-likelihoods move by normal noise."""
    generator = np.random.default_rng(seed)
    baseline: Records = {}
    compressed: Records = {}
    for name, n, choices in (("large", large, 4), ("small", small, 3)):
        before = 1.5 * generator.normal(size=(n, choices)) - 10
        after = before + noise * generator.normal(size=(n, choices))
        guess = generator.integers(0, choices, n)
        gold = np.where(generator.random(n) < 0.5, before.argmax(1), guess).tolist()
        for records, scores in ((baseline, before), (compressed, after)):
            records[name] = [
                logs.choice(i, scores[i].tolist(), gold=gold[i], question=f"{name} {i}")
                for i in range(n)
            ]
    said = generator.random((2, TEXTS)) < 0.7
    for records, right in zip((baseline, compressed), said, strict=True):
        records["written"] = [logs.text(i, "4" if right[i] else "5") for i in range(TEXTS)]
    return World(baseline, compressed, changes)


def planned(folder: Path, of: World, **asked: Any) -> Planned:
    """Plan from a world's baseline, and evaluate the drawn samples."""
    baseline = of.write(folder / "baseline", "baseline")
    plan = make_plan(load_run(baseline), **asked)
    file = folder / "samples.json"
    for path, content in zip(plan_files(file), plan_contents(plan), strict=True):
        path.write_bytes(content)
    return Planned(
        plan=plan,
        file=file,
        baseline=baseline,
        compressed=of.write(folder / "drawn", "compressed", plan.samples),
        full=of.write(folder / "full", "compressed"),
    )
