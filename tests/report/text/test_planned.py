"""A plan's estimates as they are printed and written: by their weights, never as drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet
import pytest

from lm_eval_flips import Comparison, compare, compare_planned
from lm_eval_flips.comparison.planned import Planned
from lm_eval_flips.report.files.document import to_document, to_json
from lm_eval_flips.report.files.per_sample import to_table
from lm_eval_flips.report.text.notebook import comparison_html
from lm_eval_flips.report.text.numbers import nats, percent
from lm_eval_flips.report.text.planned import planned_lines
from lm_eval_flips.report.text.terminal import ESTIMATES
from tests.generators.worlds import Planned as PlannedWorld
from tests.generators.worlds import planned, world
from tests.report.text.test_table import printed, row_of


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> PlannedWorld:
    """A plan of 120 of 370 documents."""
    return planned(tmp_path_factory.mktemp("planned"), world(), budget=120)


@pytest.fixture(scope="module")
def comparison(drawn: PlannedWorld) -> Comparison:
    """By that plan, with a margin."""
    return compare_planned(drawn.file, drawn.baseline, drawn.compressed, equivalence_margin=0.1)


def of(comparison: Comparison) -> Planned:
    """The estimates."""
    found = comparison.compressed[0].planned
    assert found is not None
    return found


def test_the_table_has_estimates_with_their_intervals(comparison: Comparison) -> None:
    """Each cell of a task's row, and the sizes of the sample and of all."""
    row = next(r for r in of(comparison).tasks if (r.name, r.metric) == ("large", "acc"))
    line = row_of(printed(comparison, width=400), "large ", "acc ")
    assert re.search(rf"\b{row.n} +240\b", line)
    assert f"{row.baseline_score:.4f}  {row.compressed_score:.4f}" in line
    for name in ("flips", "all_flips", "correct_to_incorrect_share", "incorrect_to_correct_share"):
        low, high = (percent(end).removesuffix(" %") for end in row.estimates[name].interval)
        assert f"{percent(row.estimates[name].value)}  [{low}, {high}]" in _spaced(line), name
    kl = row.estimates["choice_kl"]
    assert f"{nats(kl.value)}  [{nats(kl.interval.low)}, {nats(kl.interval.high)}]" in _spaced(line)


def _spaced(line: str) -> str:
    return re.sub(r" {2,}", "  ", line)


def test_unweighted_rows_are_not_shown(comparison: Comparison) -> None:
    """Neither the drawn samples' own share, nor their p, nor what relates unweighted samples."""
    run = comparison.compressed[0]
    text = printed(comparison, width=300)
    flips = run.tasks[0].flips
    assert flips is not None
    assert percent(flips.all_flips) not in text
    assert "Spearman" not in text
    assert "direction" not in text
    assert "worse than the baseline" not in text
    assert ESTIMATES in " ".join(text.split())


def test_the_sentence_is_of_all_documents(comparison: Comparison) -> None:
    """Shares by weight, not counts of drawn samples; and how many were drawn."""
    text = " ".join(printed(comparison, width=300, details=False).split())
    row = of(comparison).pooled
    lost, won = (
        row.estimates[f"{way}_share"] for way in ("correct_to_incorrect", "incorrect_to_correct")
    )
    assert f"{percent(lost.value)} lost and {percent(won.value)} won" in text
    assert f"estimated from {row.n} of 370 documents." in text


def test_the_undefined_is_a_dash(comparison: Comparison) -> None:
    """Texts have no all flips and no KL, nor has the pool that holds them all flips."""
    text = printed(comparison, width=400)
    assert row_of(text, "written ").rstrip().endswith("–")
    assert row_of(text, "pooled  ").count("–") == 1


def test_a_narrow_terminal_has_whole_numbers(comparison: Comparison) -> None:
    """Intervals leave with their column."""
    text = printed(comparison, width=110)
    row = row_of(text, "pooled  ")
    assert percent(of(comparison).pooled.estimates["flips"].value) in row
    assert len(row) <= 110


def test_below_stand_the_plan_and_what_plain_sampling_would_need(comparison: Comparison) -> None:
    """And what was lost, and the verdict on questions like these."""
    lines = list(planned_lines(of(comparison)))
    row = of(comparison).pooled
    assert lines[0].startswith(f"plan {of(comparison).path}, seed 0: 120 of 370 documents; plain ")
    assert f"would need {row.estimates['flips'].plain_samples:.0f} for" in lines[0]
    assert "of the baseline's correct answers lost" in lines[1]
    assert row.equivalence is not None
    assert row.equivalence.sentence in lines[2]
    assert lines[2].startswith("equivalence within ±0.1: ")


def test_the_json_has_the_estimates_and_no_rows_of_drawn_samples(comparison: Comparison) -> None:
    """The estimates stand in for tasks, groups and pooled, which are empty."""
    (run,) = json.loads(to_json(comparison))["compressed"]
    assert (run["tasks"], run["groups"], run["pooled"], run["decisions"]) == ([], [], None, None)
    pooled = run["planned"]["pooled"]
    row = of(comparison).pooled
    assert (pooled["n"], pooled["documents"]) == (120, 370)
    for name, found in row.estimates.items():
        assert pooled[name] == found.value
        assert pooled["intervals"][name] == list(found.general)
        full = pooled["estimates"][name]["interval_of_the_full_run"]
        assert full == list(found.interval)
    assert {own["group"] for own in run["planned"]["groups"]} == {"both"}
    assert row.equivalence is not None
    assert pooled["equivalence"]["verdict"] == row.equivalence.verdict
    assert to_document(comparison)["correlation"]["across_runs"] == {}


def test_a_run_without_a_plan_says_so_in_json(drawn: PlannedWorld) -> None:
    """null, and the rows are there."""
    (run,) = to_document(compare(drawn.baseline, drawn.full))["compressed"]
    assert run["planned"] is None
    assert run["pooled"]["n"] == 370


def test_the_parquet_file_has_weights(
    comparison: Comparison, drawn: PlannedWorld, tmp_path: Path
) -> None:
    """Those of a task add up to its documents; without a plan there is no such column."""
    pyarrow.parquet.write_table(to_table(comparison), tmp_path / "s.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "s.parquet").to_pydict()
    sums = dict.fromkeys(table["task"], 0.0)
    for task, weight in zip(table["task"], table["weight"], strict=True):
        sums[task] += weight
    assert sums == pytest.approx({"large": 240, "small": 90, "written": 40})
    assert "weight" not in to_table(compare(drawn.baseline, drawn.full)).column_names


def test_a_notebook_shows_the_same(comparison: Comparison) -> None:
    """As HTML: the estimates, their legend, and no unweighted share."""
    html = comparison_html(comparison)
    row = of(comparison).pooled
    assert f"{row.n} of 370 documents" in html
    assert percent(row.estimates["flips"].value) in html
    assert ESTIMATES in html
    flips = comparison.compressed[0].pooled.flips
    assert flips is not None
    assert percent(flips.flips) not in html
