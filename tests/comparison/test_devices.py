"""Comparing on a GPU gives the CPU's numbers, mixes no devices, and rarely waits.

The GPUs are those of `tests/virtual_devices.py`: computed on the CPU, so that equal means equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from lm_eval_flips import compare
from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.report.files.document import to_document
from lm_eval_flips.report.files.per_sample import to_table
from tests.generators import logs
from tests.generators.distances import write_distances
from tests.virtual_devices import virtual_devices

CHOICES = 4
QUESTIONS = 40
WAITS = 190  # 182 as measured, loading the samples and the distances included


class Runs(NamedTuple):
    """A baseline, a compressed run with distances over the vocabulary, and a noise floor."""

    baseline: Path
    compressed: Path
    floor: Path


def _tasks(seed: int) -> dict[str, list[logs.Record]]:
    """Two choice tasks, a cloze, generated answers and texts; another seed moves some of each."""
    still, moved = np.random.default_rng(0), np.random.default_rng(seed)
    tasks: dict[str, list[logs.Record]] = {}
    for name in ("birds", "trees"):
        scores = still.normal(-3, 1, (QUESTIONS, CHOICES))
        scores = scores + 0.6 * moved.normal(size=scores.shape)
        tasks[name] = [
            logs.choice(i, own, gold=i % CHOICES, question=f"{name} {i}:")
            for i, own in enumerate(scores.tolist())
        ]
    change = moved.normal(0, 0.5, QUESTIONS)
    tasks["cloze"] = [
        logs.cloze(i, -1.0 + min(own, 0.9), greedy=own > -0.2) for i, own in enumerate(change)
    ]
    tasks["sums"] = [logs.text(i, "4" if own > -0.4 else "5") for i, own in enumerate(change)]
    tasks["pages"] = [
        logs.rolling(i, -20.0 - i + own, f"page {i} of {'many ' * (i + 3)}words")
        for i, own in enumerate(change[:9])
    ]
    return tasks


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Three runs of five tasks; two of them are measured over the vocabulary."""
    folder = tmp_path_factory.mktemp("devices")
    groups = {"outside": ["birds", "trees"]}
    made = {}
    for seed, name in enumerate(Runs._fields):
        tasks = _tasks(seed)
        model = "org/int4" if name == "compressed" else "org/base"
        file = logs.write_run(folder / name, tasks, model=model, groups=groups)
        made[name] = (tasks, file)
    before, (after, file) = made["baseline"][0], made["compressed"]
    write_distances(
        file,
        baseline=[*before["birds"], *before["cloze"]],
        compressed=[*after["birds"], *after["cloze"]],
        kl=lambda doc, i: [0.01 * (doc + 1) / (i + place + 1) for place in range(1 + doc % 3)],
    )
    return Runs(*(folder / name for name in Runs._fields))


ASKED: dict[str, dict[str, Any]] = {
    "plain": {},
    "one task": {"tasks": "birds"},
    "bootstrap": {"bootstrap": Bootstrap(replicates=50)},
    "bootstrap of one task": {"tasks": "birds", "bootstrap": Bootstrap(replicates=50)},
    "clusters": {"cluster": "label", "tasks": "birds"},
    "clusters and bootstrap": {
        "cluster": "label",
        "tasks": "birds",
        "bootstrap": Bootstrap(replicates=50),
    },
    "groups as clusters": {"cluster": "task"},
    "margin": {"equivalence_margin": 0.1},
}


def compared(runs: Runs, device: str, *, floor: bool = False, **asked: Any) -> Any:
    """The document and the samples of a comparison."""
    more: dict[str, Any] = {"noise_floor": runs.floor} if floor else {}
    found = compare(runs.baseline, runs.compressed, device=device, **more, **asked)
    return to_document(found), to_table(found).to_pylist()


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("floor", [False, True], ids=["", "floor"])
def test_a_gpu_gives_the_numbers_of_the_cpu(runs: Runs, asked: str, floor: bool) -> None:
    """Distances over the vocabulary, bootstrap, clusters and floor: all of it on one device."""
    document, samples = compared(runs, "cpu", floor=floor, **ASKED[asked])
    with virtual_devices():
        on_gpu, their_samples = compared(runs, "cuda", floor=floor, **ASKED[asked])
    assert repr(on_gpu) == repr(document)
    assert repr(their_samples) == repr(samples)


def test_what_is_measured_on_a_gpu_lies_there(runs: Runs) -> None:
    """Control: the comparison above is one of GPU tensors, not of the CPU's under another name."""
    with virtual_devices():
        found = compare(runs.baseline, runs.compressed, device="cuda")
        metric = found.compressed[0].metrics[0]
        assert metric.baseline_value.device.type == "cuda"
        assert metric.clusters.device.type == "cuda"
        assert metric.tokens is not None
        assert metric.token_kl is not None
        assert metric.token_kl.device.type == "cuda"


def test_a_row_seldom_waits_for_the_gpu(runs: Runs) -> None:
    """Of one task, and of ten times as many samples: the number of reads is not the samples'."""
    with virtual_devices() as devices:
        compare(runs.baseline, runs.compressed, device="cuda", tasks="birds", metric="acc")
        waits = devices.waits.total()
    assert 0 < waits < WAITS, devices.waits
