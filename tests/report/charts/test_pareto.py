"""Quality against size: places, frontier and units."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_pareto
from lm_eval_flips.report.charts.pareto import Quality
from tests.report.charts.raw import Layer, layers

SIZES = {
    "Llama-7b-nf4": 4_000_000_000,
    "Llama-7b-int8": 7_000_000_000,
    "Llama-7b-gptq-w4a16": 4_500_000_000,
    "Llama-7b-awq-w4a16": 3_900_000_000,
}


def marks(layered: list[Layer]) -> Mapping[str, dict[str, float]]:
    """The points of all models, by name."""
    return {row["run"]: row for layer in layered if layer.mark == "point" for row in layer.rows}


def test_points_have_their_bytes_and_flips(several: Comparison) -> None:
    """Sizes in the unit of the axis, bits of the baseline's weights, flips of the pools."""
    drawn = marks(layers(plot_pareto(several, sizes=SIZES)))
    parameters = 6_738_415_616
    for run, (model, size) in zip(several.compressed, SIZES.items(), strict=True):
        assert run.model.endswith(model)
        point = drawn[model.removeprefix("Llama-7b-")]
        assert point["size"] == size / 1e9
        assert point["bits"] == pytest.approx(8 * size / parameters, rel=1e-4)
        assert run.pooled.flips is not None
        assert point["y"] == pytest.approx(run.pooled.flips.flips, rel=1e-4)
        low, high = run.pooled.intervals["flips"]
        assert (point["low"], point["high"]) == pytest.approx((low, high), rel=1e-4)
    assert drawn["baseline"]["y"] == 0
    assert drawn["baseline"]["bytes"] == 2 * parameters


def test_the_frontier_is_what_no_other_model_beats(several: Comparison) -> None:
    """By hand: every pair is compared."""
    signs: dict[Quality, int] = {"flips": 1, "choice_kl": 1, "score_change": -1}
    for quality, sign in signs.items():
        drawn = marks(layers(plot_pareto(several, quality=quality, sizes=SIZES)))
        for name, point in drawn.items():
            beaten = any(
                other["bytes"] <= point["bytes"]
                and sign * other["y"] <= sign * point["y"]
                and (other["bytes"], other["y"]) != (point["bytes"], point["y"])
                for other in drawn.values()
            )
            assert point["frontier"] is not beaten, (quality, name)


def test_score_change_is_the_rows_with_its_interval(several: Comparison) -> None:
    """In shares, from the baseline at 0."""
    drawn = marks(layers(plot_pareto(several, quality="score_change", sizes=SIZES)))
    row = several.compressed[0].pooled
    assert drawn["nf4"]["y"] == pytest.approx(row.score_change, rel=1e-4)
    assert drawn["nf4"]["low"] == pytest.approx(row.intervals["score_change"].low, rel=1e-4)


def test_a_lower_perplexity_is_the_better_one(perplexity: Comparison) -> None:
    """The compressed model's is higher: both are on the frontier, being smaller or better."""
    sizes = {"base": 2_000_000, "int4": 1_000_000}
    drawn = marks(layers(plot_pareto(perplexity, quality="score_change", sizes=sizes)))
    assert drawn["int4"]["y"] > 0
    assert all(point["frontier"] for point in drawn.values())
    larger = {"base": 1_000_000, "int4": 2_000_000}
    drawn = marks(layers(plot_pareto(perplexity, quality="score_change", sizes=larger)))
    assert [point["frontier"] for point in drawn.values()] == [False, True]


def test_unknown_sizes_are_said(several: Comparison) -> None:
    """No model is on this machine, and none is given: only the baseline's size is known."""
    with pytest.raises(FlipsError, match="sizes of two models, such as --size MODEL=BYTES"):
        plot_pareto(several)
