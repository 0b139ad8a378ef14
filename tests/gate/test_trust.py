"""Decisions that must not be wrong: pools of both directions, runs whose files lack something."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lm_eval_flips import compare
from lm_eval_flips.gate.gate import Gate, judge
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds
from lm_eval_flips.report.text.gate import gate_lines
from tests.generators import logs

N, FEW = 400, 40
LOOSE = GateConfig(pooled=Thresholds(max_flips=1.0))


def run_that_loses(folder: Path, name: str, lost: int) -> Path:
    """Questions of which so many are lost, and a rate of stereotypes that stays: 1 is worse."""
    shift = 0.001 * lost + 0.0005
    arc = [
        logs.choice(i, [-1.0 - shift * (i % 7) - 2.0 * (i < lost), -2.0 - 0.01 * (i % 5)])
        for i in range(N)
    ]
    crows = [
        logs.choice(i, [-1.0, -2.0], metrics=("pct_stereotype",), pct_stereotype=float(i % 2))
        for i in range(FEW)
    ]
    better = {"arc": {"acc": True, "acc_norm": True}, "crows": {"pct_stereotype": False}}
    return logs.write_run(
        folder / name,
        {"arc": arc, "crows": crows},
        model=f"org/{name}",
        higher_is_better=better,
    )


def gate_of(paths: Sequence[Path], config: GateConfig) -> tuple[Gate, ...]:
    """The paths' gate, without regard to what is doubtful in values of two digits."""
    return judge(compare(*paths), config)


def test_a_rate_of_errors_in_the_pool_turns_no_decision_round(tmp_path: Path) -> None:
    """Runs that lose 0, 14 and 56 of 400 questions: ranked so, and the worst one fails."""
    paths = [run_that_loses(tmp_path, "base", 0)]
    paths += [run_that_loses(tmp_path, f"lost{lost}", lost) for lost in (56, 1, 14)]
    comparison = compare(*paths)
    for run, lost in zip(comparison.compressed, (56, 1, 14), strict=True):
        row = run.pooled
        assert row.n == N + FEW
        assert row.higher_is_better
        assert row.score_change == pytest.approx(-lost / (N + FEW))
        # of what is right: all of arc, and half of crows, whose stereotypes are the other half
        assert row.baseline_score == pytest.approx((N + FEW / 2) / (N + FEW))
    assert comparison.ranking is not None
    assert comparison.ranking.order == (1, 2, 0)
    limit = GateConfig(pooled=Thresholds(max_loss=0.03))
    rulings = [gate.rulings[0] for gate in judge(comparison, limit)]
    assert [ruling.outcome for ruling in rulings] == ["fail", "pass", "undecided"]
    assert [ruling.value for ruling in rulings] == pytest.approx([56 / 440, 1 / 440, 14 / 440])


def _without_a_task(folder: Path) -> None:
    next(folder.rglob("samples_law_*")).unlink()


def _cut_in_the_results(folder: Path) -> None:
    """A score that is not that of the samples."""
    file = next(folder.rglob("results_*.json"))
    content = json.loads(file.read_text())
    content["results"]["law"]["acc,none"] = 0.9
    file.write_text(json.dumps(content))


def _another_task(folder: Path) -> None:
    """Its results hold a task that the baseline's do not."""
    file = next(folder.rglob("results_*.json"))
    content = json.loads(file.read_text())
    content["results"]["more"] = {**content["results"]["law"], "alias": "more"}
    content["configs"]["more"] = {**content["configs"]["law"], "task": "more"}
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_without_a_task, "law"),
        (_cut_in_the_results, "the samples give acc"),
        (_another_task, "more"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_a_run_whose_files_lack_something_passes_no_gate(
    tmp_path: Path, side: int, damage: Callable[[Path], None], reason: str
) -> None:
    """The rule is kept, and the run is undecided, with its reason; whole, it passes."""
    draws = [[-1.0 - 0.0137 * i - 0.0071 * s, -2.0 - 0.0113 * i] for s in (0, 1) for i in range(30)]
    folders = [tmp_path / name for name in ("base", "int4")]
    paths = [
        logs.write_run(
            folder,
            {
                task: [logs.choice(i, row, question=f"{task} {i}") for i, row in enumerate(own)]
                for task in ("arc", "law")
            },
            model=f"org/{folder.name}",
        )
        for folder, own in zip(folders, (draws[:30], draws[30:]), strict=True)
    ]
    (whole,) = judge(compare(*paths), LOOSE)
    assert (whole.outcome, whole.exit_code) == ("pass", 0)
    damage(folders[side])
    (gate,) = judge(compare(*paths), LOOSE)
    assert [ruling.outcome for ruling in gate.rulings] == ["pass"]
    assert (gate.outcome, gate.exit_code) == ("undecided", 2)
    assert any(reason in doubt for doubt in gate.doubts)
    assert any(line.startswith("UNDECIDED") and reason in line for line in gate_lines([gate]))
