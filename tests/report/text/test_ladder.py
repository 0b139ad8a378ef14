"""A ladder: the smallest model that passes, whatever the order in which models are given."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from lm_eval_flips import Comparison, compare
from lm_eval_flips.comparison.model_sizes import ModelSize
from lm_eval_flips.gate.gate import Gate, judge
from lm_eval_flips.gate.ruling import Outcome
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds, with_thresholds
from lm_eval_flips.report.text.ladder import (
    Rung,
    ladder_markdown,
    ladder_sentence,
    ladder_table,
    rungs,
)

RUNS = Path(__file__).resolve().parents[3] / "examples" / "runs"
MB = 1_000_000


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Real runs: 8 bits and 4 bits of one model, with its second run as the noise floor."""
    return compare(
        RUNS / "baseline", RUNS / "int8", RUNS / "int4", noise_floor=RUNS / "noise-floor"
    )


def gates_of(comparison: Comparison, most: float) -> list[Gate]:
    """A real gate on the share of flips, held against the numbers themselves."""
    rules = with_thresholds(GateConfig(judge="point"), Thresholds(max_flips=most))
    return list(judge(comparison, rules))


def sizes_of(comparison: Comparison, *megabytes: int) -> dict[str, ModelSize]:
    """Sizes by hand."""
    return {
        run.path: ModelSize(bytes=size * MB, bits_per_weight=nan, source="given")
        for run, size in zip(comparison.compressed, megabytes, strict=False)
    }


def flips_of(comparison: Comparison) -> list[float]:
    """The share of flips of each model."""
    return [float(run.pooled.numbers["flips"].value) for run in comparison.compressed]


def test_the_smallest_that_passes_is_named_first(comparison: Comparison) -> None:
    """By hand: between both shares only 8 bits pass, above both the smaller file does."""
    eight, four = flips_of(comparison)
    assert eight < four
    sizes = sizes_of(comparison, 150, 90)
    between = rungs(comparison, gates_of(comparison, (eight + four) / 2), sizes)
    assert [rung.bytes // MB for rung in between] == [90, 150]
    sentence = ladder_sentence(between)
    names = [rung.name for rung in between]
    assert sentence == (
        f"{names[1]} (150 MB) is the smallest of 2 files that passes the gate. {names[0]} is "
        "smaller and fails."
    )
    above = ladder_sentence(rungs(comparison, gates_of(comparison, four + 0.01), sizes))
    assert above == f"{names[0]} (90 MB) is the smallest of 2 files that passes the gate."
    below = ladder_sentence(rungs(comparison, gates_of(comparison, eight / 2), sizes))
    assert below == "None of the 2 files passes the gate."


def test_models_of_unknown_size_stand_on_no_rung(comparison: Comparison) -> None:
    """A model that is quantised while it is loaded has no file of its own."""
    gates = gates_of(comparison, 0.9)
    (only,) = rungs(comparison, gates, sizes_of(comparison, 150))
    assert only.bytes == 150 * MB
    assert ladder_sentence(rungs(comparison, gates, {})).startswith("The size of no compressed")


def of(outcomes: list[Outcome], comparison: Comparison) -> list[Rung]:
    """Rungs with these outcomes, the smallest first."""
    gates = gates_of(comparison, 0.9)
    (rung, *_) = rungs(comparison, gates, sizes_of(comparison, 10, 20))
    return [
        replace(rung, name=f"m{place}", bytes=(10 + place) * MB, bits_per_weight=4.5, outcome=own)
        for place, own in enumerate(outcomes)
    ]


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        (
            ["pass"],
            "m0 (10 MB, 4.50 bits a weight) is the smallest of 1 files that passes the gate.",
        ),
        (
            ["fail", "fail", "undecided", "pass", "fail", "pass"],
            "m3 (13 MB, 4.50 bits a weight) is the smallest of 6 files that passes the gate. m0 and "
            "m1 are smaller and fail; m2 is smaller and cannot be judged with so few samples.",
        ),
        (
            ["undecided", "fail"],
            "None of the 2 files passes the gate; m0 cannot be judged with so few samples.",
        ),
    ],
)
def test_what_is_smaller_is_said(
    outcomes: list[Outcome], sentence: str, comparison: Comparison
) -> None:
    """Also what may pass with more samples."""
    assert ladder_sentence(of(outcomes, comparison)) == sentence


def test_the_table_has_a_line_a_file_and_the_floor_below(comparison: Comparison) -> None:
    """Sizes, flips and the gate's word of each; control: without a floor nothing is said of it."""
    ladder = of(["fail", "pass"], comparison)
    lines = ladder_table(ladder).splitlines()
    assert len(lines) == 2 + 2
    assert lines[0].startswith("| file | MB | bits | flips | choice KL |")
    assert lines[2].startswith("| m0 | 10 | 4.50 |")
    assert lines[2].endswith("| fails |")
    assert lines[3].endswith("| passes |")
    assert comparison.noise_floor is not None
    floor = comparison.noise_floor.pooled
    assert "The baseline against itself" in ladder_markdown(ladder, floor=floor)
    assert "The baseline against itself" not in ladder_markdown(ladder, floor=None)
