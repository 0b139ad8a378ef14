"""All charts: which there are, that they compile, that they stay small and the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import vl_convert

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.report.charts import charts_of, vega_config
from tests.generators.many_tasks import write_many

LARGEST = 80_000  # bytes of a specification


def compiled(comparison: Comparison, sizes: dict[str, int] | None = None) -> list[str]:
    """The slugs of all charts, each of which was drawn wide and narrow, light and dark."""
    for named in charts_of(comparison, sizes=sizes).values():
        named.chart.to_dict()  # valid by Vega-Lite's schema
        assert vl_convert.vegalite_to_svg(named.file_spec()).startswith("<svg")
        for narrow in (False, True) if named.narrow is not None else (False,):
            spec = named.page_spec(narrow=narrow) | {"config": vega_config("dark")}
            assert vl_convert.vegalite_to_svg(spec).count("<path") > 3
            assert len(json.dumps(spec)) < LARGEST, named.slug
        assert named.caption.endswith(".")
        assert "nan" not in named.caption
    return list(charts_of(comparison, sizes=sizes))


def test_several_runs_have_every_chart_but_those_of_the_vocabulary(several: Comparison) -> None:
    """Sizes bring the two Pareto charts."""
    sizes = {"Llama-7b-nf4": 4_000_000_000}
    assert compiled(several, sizes) == [
        "flips-score-change",
        "losses-gains",
        "tasks",
        "volume-direction",
        "choice-kl-flips",
        "change-rate-top-margin",
        "probability-change-top-margin",
        "margins-correct-incorrect",
        "choice-kl-histogram",
        "choice-kl-quantiles",
        "overlap",
        "pareto-flips",
        "pareto-choice-kl",
    ]


def test_a_single_run_has_no_chart_of_several(single: Comparison) -> None:
    """No overlap and no small multiples, and no Pareto without sizes."""
    found = compiled(single)
    assert not {"overlap", "tasks", "pareto-flips"} & set(found)
    assert "flips-score-change" in found


def test_one_sample_is_drawn(one_sample: Comparison) -> None:
    """Whatever can be said of one question; no relation of KL and flips."""
    found = compiled(one_sample)
    assert "change-rate-top-margin" in found
    assert "choice-kl-flips" not in found


def test_generated_text_has_only_charts_of_answers(generative: Comparison) -> None:
    """Nothing about choices, margins or KL."""
    assert compiled(generative) == ["flips-score-change", "losses-gains", "volume-direction"]


def test_perplexities_alone_have_no_chart(perplexity: Comparison) -> None:
    """An empty mapping, not an error."""
    assert charts_of(perplexity) == {}


def test_what_is_undefined_is_left_out(undefined: Comparison) -> None:
    """Infinite distances and no flips: no direction; the rest is drawn without a nan."""
    found = compiled(undefined)
    assert "volume-direction" not in found
    assert "choice-kl-histogram" in found


def test_57_tasks_are_drawn(many_tasks: Comparison) -> None:
    """Two runs of 57 tasks."""
    assert "tasks" in compiled(many_tasks)


def test_300_tasks_and_12_runs_stay_readable(tmp_path: Path) -> None:
    """No list is longer than 60 rows, no legend longer than eight runs, and it is said."""
    tasks = compare(*write_many(tmp_path / "tasks", tasks=300, samples=600))
    compiled(tasks)
    found = charts_of(tasks)
    assert found["losses-gains"].chart.to_dict()["height"] <= 60 * 20
    assert "the 59 of 300 tasks with the most flips" in found["losses-gains"].caption
    runs = compare(*write_many(tmp_path / "runs", tasks=8, samples=160, compressed=12))
    compiled(runs)
    assert "; 8 of 12 runs are shown." in charts_of(runs)["change-rate-top-margin"].caption


def test_charts_are_the_same_every_time(several_runs: list[Path], several: Comparison) -> None:
    """The same runs give the same specifications to the last byte; another run does not."""

    def specs(comparison: Comparison) -> str:
        return json.dumps([named.page_spec() for named in charts_of(comparison).values()])

    assert specs(several) == specs(compare(*several_runs)) == specs(several)
    assert specs(several) != specs(compare(*several_runs[:-1]))


def test_no_chart_names_a_place_on_this_machine(
    several: Comparison, several_runs: list[Path]
) -> None:
    """Paths of runs stay out of the specifications."""
    text = json.dumps([named.file_spec() for named in charts_of(several).values()])
    assert str(several_runs[0].parent) not in text


def test_a_size_of_no_model_is_an_error(several: Comparison) -> None:
    """The message names the models there are."""
    with pytest.raises(FlipsError, match="no model is called 'other'; there are Llama-7b, Llama"):
        charts_of(several, sizes={"other": 10})
