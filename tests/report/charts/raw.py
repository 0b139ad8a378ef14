"""What charts are held against: their layers as drawn, and answers counted from the logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import softmax

from lm_eval_flips.report.charts.named_chart import Chart

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """One mark of a chart: what it encodes, and its rows."""

    mark: str
    encoding: dict[str, Any]
    rows: list[dict[str, Any]]


def layers(chart: Chart) -> list[Layer]:
    """Every layer of a chart, in the order in which they are drawn."""
    return list(_layers(chart.to_dict()))


def _layers(spec: dict[str, Any]) -> Iterator[Layer]:
    whole = spec.get("data", {})
    for part in spec.get("layer", [spec.get("spec", spec)]):
        rows = spec["datasets"][part.get("data", whole)["name"]]
        yield Layer(part["mark"]["type"], part["encoding"], rows)


def rows_with(chart: Chart, *fields: str) -> list[dict[str, Any]]:
    """The rows of the first layer whose rows have all these fields."""
    return next(
        layer.rows
        for layer in layers(chart)
        if layer.rows and all(field in layer.rows[0] for field in fields)
    )


@dataclass(frozen=True)
class Answers:
    """Log-likelihoods ``[n, choices]`` of both runs of a task, and the right choices."""

    baseline: Floats
    compressed: Floats
    gold: NDArray[np.int64]

    @property
    def correct(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        return self.baseline.argmax(-1) == self.gold, self.compressed.argmax(-1) == self.gold

    @property
    def lost(self) -> int:
        return int((self.correct[0] & ~self.correct[1]).sum())

    @property
    def won(self) -> int:
        return int((~self.correct[0] & self.correct[1]).sum())

    @property
    def changed(self) -> NDArray[np.bool_]:
        return np.asarray(self.baseline.argmax(-1) != self.compressed.argmax(-1))

    @property
    def margin(self) -> Floats:
        ordered = np.sort(softmax(self.baseline, axis=-1), axis=-1)
        return np.asarray(ordered[:, -1] - ordered[:, -2])

    @property
    def probability_change(self) -> Floats:
        rows, answer = np.arange(len(self.gold)), self.baseline.argmax(-1)
        before, after = softmax(self.baseline, axis=-1), softmax(self.compressed, axis=-1)
        return np.asarray(after[rows, answer] - before[rows, answer])

    @property
    def kl(self) -> Floats:
        pairs = zip(self.baseline, self.compressed, strict=True)
        return np.array([stats.entropy(softmax(p), softmax(q)) for p, q in pairs])


def answers(baseline: Path, compressed: Path) -> dict[str, Answers]:
    """The answers of every task, read from the logs of two runs."""
    ours, theirs = _read(baseline), _read(compressed)
    return {task: Answers(ours[task][0], theirs[task][0], ours[task][1]) for task in sorted(ours)}


def pooled(tasks: dict[str, Answers]) -> Answers:
    """All tasks' answers together."""
    return Answers(
        np.concatenate([own.baseline for own in tasks.values()]),
        np.concatenate([own.compressed for own in tasks.values()]),
        np.concatenate([own.gold for own in tasks.values()]),
    )


def _read(run: Path) -> dict[str, tuple[Floats, NDArray[np.int64]]]:
    found = {}
    for file in sorted(run.rglob("samples_*.jsonl")):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        task = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        scores = [[float(pair[0]) for pair in own["filtered_resps"]] for own in records]
        found[task] = np.array(scores), np.array([int(own["target"]) for own in records])
    return found


def closest(runs: list[Path]) -> list[Path]:
    """The compressed ones of some runs, the baseline's first, by their mean choice KL."""
    return sorted(runs[1:], key=lambda run: float(pooled(answers(runs[0], run)).kl.mean()))
