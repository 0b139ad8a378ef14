"""`plan` and `compare --plan` as their user meets them: files, estimates, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_eval_flips import FlipsError, compare, compare_planned
from tests.cli.test_cli import command
from tests.generators import logs

N = 400
PER_TASK = {"arc": 1.0, "piqa": 3.0}  # how far apart the baseline's choices lie, on average


def scores(task: str, *, noise: float) -> np.ndarray:
    """Log-likelihoods of three choices, the same documents moved by other noise."""
    generator = np.random.default_rng(7 if task == "arc" else 8)
    base = -10 + PER_TASK[task] * generator.normal(size=(N, 3))
    return base + noise * np.random.default_rng(9).normal(size=base.shape)


def written(folder: Path, *, noise: float, only: dict[str, list[int]] | None = None) -> Path:
    """A run over all documents, or over some."""
    records = {
        task: [
            logs.choice(i, [float(x) for x in row], gold=i % 3)
            for i, row in enumerate(scores(task, noise=noise))
            if only is None or i in only[task]
        ]
        for task in PER_TASK
    }
    return logs.write_run(folder, records, model=folder.name if noise else "base")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline, a full compressed run, a plan of 240 documents, and a run of just those."""
    folder = tmp_path_factory.mktemp("planned")
    written(folder / "base", noise=0.0)
    written(folder / "full", noise=0.4)
    done = command("plan", "base", "--budget", "240", "--output", "samples.json", folder=folder)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    written(folder / "drawn", noise=0.4, only=samples_of(folder))
    return folder


def samples_of(folder: Path) -> dict[str, list[int]]:
    """The lists that lm_eval reads."""
    found: dict[str, list[int]] = json.loads((folder / "samples.json").read_text())
    return found


def test_the_plan_is_a_samples_file_of_the_harness(runs: Path) -> None:
    """Sorted doc_ids of every task, 240 in all; close answers are drawn more often."""
    found = samples_of(runs)
    assert set(found) == set(PER_TASK)
    assert all(docs == sorted(set(docs)) for docs in found.values())
    assert sum(map(len, found.values())) == 240
    assert len(found["arc"]) > len(found["piqa"])  # its answers lie closer


def test_it_prints_what_is_drawn_and_how_to_go_on(runs: Path) -> None:
    """Margins from small to large, the sum, and both commands."""
    printed = (runs / "printed.txt").read_text()
    rows = [line.split() for line in printed.splitlines() if " to " in line and "%" in line]
    shares = [float(row[5]) for row in rows if row[1] == "to"]
    assert shares[0] > shares[-1]
    assert "all " in printed
    assert "--tasks arc,piqa --samples samples.json" in printed
    assert "lm-eval-flips compare base RUN --plan samples.json" in printed


def test_the_estimates_are_near_the_full_run(runs: Path) -> None:
    """Weighted, within their intervals' reach; the drawn samples by themselves are far off."""
    full = compare(runs / "base", runs / "full").compressed[0].pooled
    drawn = compare_planned(runs / "samples.json", runs / "base", runs / "drawn").compressed[0]
    assert full.flips is not None
    assert drawn.planned is not None
    assert drawn.pooled.flips is not None
    found = drawn.planned.pooled.estimates["all_flips"]
    low, high = found.interval
    assert low - 0.02 < full.flips.all_flips < high + 0.02
    assert abs(found.value - full.flips.all_flips) < 0.04
    assert drawn.pooled.flips.all_flips > full.flips.all_flips + 0.05  # control
    assert found.plain_samples > 240


def test_all_documents_drawn_are_the_full_run(runs: Path, tmp_path: Path) -> None:
    """Every weight 1: the estimates are the plain numbers."""
    output = str(tmp_path / "all.json")
    done = command("plan", "base", "--budget", str(2 * N), "--output", output, folder=runs)
    assert done.returncode == 0, done.stderr
    found = compare_planned(output, runs / "base", runs / "full").compressed[0]
    plain = compare(runs / "base", runs / "full").compressed[0].pooled
    assert plain.flips is not None
    assert plain.distances is not None
    assert found.planned is not None
    estimates = found.planned.pooled.estimates
    assert estimates["flips"].value == pytest.approx(plain.flips.flips, abs=1e-12)
    assert estimates["score_change"].value == pytest.approx(plain.score_change, abs=1e-12)
    assert estimates["choice_kl"].value == pytest.approx(plain.distances.choice_kl.mean, rel=1e-9)


def test_the_same_seed_draws_the_same(runs: Path, tmp_path: Path) -> None:
    """And another one others."""
    drawn = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        file = tmp_path / f"{name}.json"
        arguments = ("--budget", "240", "--seed", seed, "--output", str(file))
        assert command("plan", "base", *arguments, folder=runs).returncode == 0
        drawn.append(file.read_text())
    assert drawn[0] == drawn[1] != drawn[2]


def test_compare_prints_estimates_and_the_gate_judges_by_them(runs: Path) -> None:
    """The table has intervals and documents; a threshold between fails or passes as estimated."""
    done = command("compare", "base", "drawn", "--plan", "samples.json", folder=runs)
    assert done.returncode == 0, done.stderr
    assert "240 of 800" in done.stdout
    assert "estimates of all documents, each sample by its weight" in done.stdout
    planned = compare_planned(runs / "samples.json", runs / "base", runs / "drawn").compressed[0]
    assert planned.planned is not None
    high = planned.planned.pooled.estimates["flips"].interval.high
    for threshold, code in ((high + 0.01, 0), (0.001, 1)):
        judged = command(
            *("gate", "base", "drawn", "--plan", "samples.json"),
            *("--max-flips", f"{threshold:.4f}"),
            folder=runs,
        )
        assert judged.returncode == code, judged.stdout + judged.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --budget and --half-width"),
        (["--budget", "100", "--half-width", "0.01"], "give one of --budget and --half-width"),
        (["--budget", "801"], "more than the 800 documents"),
        (["--budget", "3"], "too small"),
        (["--half-width", "nan"], "out of range"),
        (["--half-width", "0"], "out of range"),
        (["--half-width", "0.000001"], "takes every one of the 800 documents"),
        (["--budget", "100", "--tasks", "mmlu"], "matches 'mmlu'"),
    ],
)
def test_a_plan_that_cannot_be_is_one_line(
    runs: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Exit code 2, and no file."""
    output = tmp_path / "none.json"
    done = command("plan", "base", *arguments, "--output", str(output), folder=runs)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not output.exists()


def test_an_existing_plan_is_not_replaced_unasked(runs: Path) -> None:
    """A run may have been evaluated by it."""
    done = command("plan", "base", "--budget", "100", "--output", "samples.json", folder=runs)
    assert done.returncode == 2
    assert "exists" in done.stderr


def changed(runs: Path, folder: Path, **edits: Any) -> Path:
    """A copy of the plan's files with other samples."""
    plan = json.loads((runs / "samples.plan.json").read_text())
    (folder / "p.json").write_text(json.dumps(edits.get("samples", samples_of(runs))))
    (folder / "p.plan.json").write_text(json.dumps({**plan, **edits.get("plan", {})}))
    return folder / "p.json"


def test_a_plan_of_other_documents_or_models_is_refused(runs: Path, tmp_path: Path) -> None:
    """The run of all documents, an unsorted list, another model's plan, no plan."""
    with pytest.raises(FlipsError, match=r"drawn|planned|plan"):
        compare_planned(runs / "samples.json", runs / "base", runs / "full")
    backwards = {task: docs[::-1] for task, docs in samples_of(runs).items()}
    with pytest.raises(FlipsError, match="not sorted"):
        compare_planned(changed(runs, tmp_path, samples=backwards), runs / "base", runs / "drawn")
    other = {"baseline": {"path": "elsewhere", "model": {"model": "another"}}}
    with pytest.raises(FlipsError, match="another"):
        compare_planned(changed(runs, tmp_path, plan=other), runs / "base", runs / "drawn")
    with pytest.raises(FlipsError, match="cannot be read"):
        compare_planned(tmp_path / "none.json", runs / "base", runs / "drawn")
