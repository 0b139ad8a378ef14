"""The quickstart's arithmetic and its progress: how many questions fit, what a step shows."""

from __future__ import annotations

import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pace: Any = import_module("examples.pace")


@pytest.mark.parametrize(("seconds", "number"), [(60, 6), (69.9, 6), (70, 7), (1e9, 50), (0, 5)])
def test_as_many_questions_as_fit_and_never_less_than_five(seconds: float, number: int) -> None:
    """Each costs ten seconds here; a question more would take longer than was allowed."""
    assert pace.fitting(seconds, [10.0 * number for number in range(1, 51)]) == number


def test_time_is_that_of_loading_reading_and_writing() -> None:
    """By hand: 33 answers are two batches of 24 tokens each."""
    measured = pace.Pace(begin=20.0, token=0.002, step=0.5)
    assert measured.seconds(read=10_000, written=33) == pytest.approx(20 + 20 + 2 * 24 * 0.5)
    assert measured.seconds(read=0, written=0) == 20


def test_the_faster_of_some_tries_counts_and_the_first_does_not() -> None:
    """The first warms up: here it takes longest."""
    waits = iter([0.2, 0.03, 0.0, 0.02])
    assert pace.shortest(lambda: pace.time.sleep(next(waits))) < 0.02
    assert next(waits, None) is None


LOG = (
    "runs/baseline: finished before, kept\n"
    "runs/int8: evaluating pretrained=models/int8,dtype=float32 (2 of 4, about 3 min left)\n"
    "2026-01-02:03:04:05 INFO     [evaluator:589] Running loglikelihood requests\n"
    "\rRunning loglikelihood requests:   0%|          | 0/156 [00:00<?, ?it/s]"
    "\rRunning loglikelihood requests:  34%|███▍      | 53/156 [00:41<01:20,  1.28it/s]"
)


LOG_SHOWN = "runs/int8 (2 of 4, about 3 min left) Running loglikelihood requests 34 %, 01:20 left"


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        (
            LOG,
            "runs/int8 (2 of 4, about 3 min left) Running loglikelihood requests 34 %, 01:20 left",
        ),
        (LOG + "\rLoading: 100%|█| 2/2 [00:01<00:00,  1.2it/s]", LOG_SHOWN),
        (LOG[: LOG.index("2026")], "runs/int8 (2 of 4, about 3 min left)"),
        ("Collecting torch\n  Downloading torch.whl (200 MB)\n", "Downloading torch.whl"),
        ("nothing of the kind\n", ""),
    ],
    ids=["a bar", "a bar at its end", "no bar yet", "a package", "neither"],
)
def test_a_step_shows_the_last_bar_of_its_log(log: str, shown: str, tmp_path: Path) -> None:
    """Which run it is, what it does, and how long that takes: in one line."""
    (tmp_path / "log").write_text(log, encoding="utf-8")
    script = (ROOT / "examples" / "steps.sh").read_text()
    function = script[script.index("progress() {") : script.index("# step NAME")]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{function}\nprogress log"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == shown
    assert done.stderr == ""
