"""A pytest fixture that fails where a compressed model moved too far, and a test that uses it.

Set BASELINE and COMPRESSED to two runs, then: pytest examples/test_degradation.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_flips import compare
from lm_eval_flips.gate.gate import judge
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds
from lm_eval_flips.report.text.gate import gate_lines

Judge = Callable[..., None]


@pytest.fixture
def assert_no_degradation() -> Judge:
    """Compare two runs; fail with one line a rule unless every threshold is kept."""

    def check(baseline: Path, compressed: Path, **thresholds: float) -> None:
        comparison = compare(
            baseline, compressed, equivalence_margin=thresholds.get("equivalence_margin")
        )
        gates = judge(comparison, GateConfig(pooled=Thresholds(**thresholds)))
        if any(gate.outcome != "pass" for gate in gates):
            pytest.fail("\n".join(gate_lines(gates)), pytrace=False)

    return check


def test_the_compressed_model_answers_as_the_baseline_does(assert_no_degradation: Judge) -> None:
    """At most 5 % of the answers turn right or wrong, and the score stays within three points."""
    if "BASELINE" not in os.environ:
        pytest.skip("set BASELINE and COMPRESSED to two runs")
    assert_no_degradation(
        Path(os.environ["BASELINE"]),
        Path(os.environ["COMPRESSED"]),
        max_flips=0.05,
        equivalence_margin=0.03,
    )
