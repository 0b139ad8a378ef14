"""What a model that is evaluated in a random order is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_flips.evaluation.in_order import Until
from lm_eval_flips.evaluation.schedule import schedule_runs


@pytest.mark.parametrize(("model", "measured"), [("flips-hf", True), ("hf", False)])
def test_models_of_ours_keep_their_answers(tmp_path: Path, model: str, measured: bool) -> None:
    """With distances, which the harness's cache does not know; the baseline has no order."""
    schedule = schedule_runs(
        baseline="pretrained=base",
        compressed=["pretrained=quant"],
        tasks="mmlu",
        output_path=tmp_path,
        model=model,
        until=Until(rules="max-flips=0.05", seed=3),
        arguments=["--limit", "8", "--device", "cpu"],
    )
    (run,) = schedule.compressed
    assert schedule.baseline.in_order is None
    assert run.in_order is not None
    assert run.in_order.measured is measured
    assert run.in_order.seed == run.settings.order_seed == 3
    assert "--limit" in schedule.baseline.command()
    assert "--limit" not in run.command()
