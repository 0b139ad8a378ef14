"""Names, colours and shapes of runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lm_eval_flips import Comparison
from lm_eval_flips.report.charts.shown_runs import (
    few,
    few_note,
    line_colour,
    line_dash,
    shown_runs,
)
from lm_eval_flips.report.charts.theme import RUNS
from lm_eval_flips.report.looks import COLOURS, OTHER
from lm_eval_flips.report.names import run_names


def renamed(comparison: Comparison, models: list[str]) -> Comparison:
    """The same comparison with other models, its runs repeated as often as there are names."""
    runs = comparison.compressed
    return replace(
        comparison,
        compressed=tuple(
            replace(
                runs[i % len(runs)],
                model=model,
                path=f"runs/run{i}/{model.replace('/', '__')}/results.json",
            )
            for i, model in enumerate(models)
        ),
    )


def unknown(comparison: Comparison) -> Comparison:
    """The same runs, of whose schemes nothing is known."""
    runs = comparison.compressed
    return replace(comparison, compressed=tuple(replace(run, scheme=None) for run in runs))


def test_names_lose_what_all_share_with_the_baseline(several: Comparison) -> None:
    """Llama-7b-nf4 beside Llama-7b is nf4."""
    assert run_names(several) == ["nf4", "int8", "gptq-w4a16", "awq-w4a16"]
    other = renamed(several, ["org/Llama-7b-nf4", "/models/other"])
    assert run_names(other) == ["Llama-7b-nf4", "other"]


def test_models_alike_are_named_by_their_folders(several: Comparison) -> None:
    """And numbered where even these are alike."""
    same = renamed(several, ["org/Llama-7b"] * 3)
    assert run_names(same) == ["run0", "run1", "run2"]
    run = same.compressed[0]
    assert run_names(replace(same, compressed=(run, run))) == ["run0", "run0 (2)"]


def test_a_run_keeps_its_colour_whoever_is_shown(several: Comparison) -> None:
    """Of unknown schemes by the place in the comparison; beyond the last, shapes tell two apart."""
    many = shown_runs(unknown(renamed(several, [f"m{i}" for i in range(20)])))
    assert [own.colour for own in sorted(many, key=lambda own: own.place)[:7]] == list(RUNS)
    assert len({(own.colour, own.shape) for own in many}) == 20
    shown = few(many)
    assert all(own in many for own in shown)


def test_families_have_colours_beyond_three_runs(several: Comparison) -> None:
    """Up to three runs each has its own; of four the two of a family share theirs."""
    four = shown_runs(several)
    assert [own.name for own in four] == ["int8", "awq-w4a16", "gptq-w4a16", "nf4"]
    assert [own.look.family for own in four] == ["unknown", "AWQ", "GPTQ", "bitsandbytes"]
    assert [own.colour for own in four] == [OTHER, *(COLOURS[own.look.family] for own in four[1:])]
    same = shown_runs(renamed(several, ["a", "b", "c", "d", "e"]))
    first, *_, last = sorted(same, key=lambda own: own.place)
    assert (first.look, first.colour) == (last.look, last.colour)
    three = shown_runs(replace(several, compressed=several.compressed[:3]))
    assert [own.colour for own in sorted(three, key=lambda own: own.place)] == list(RUNS[:3])


def test_lines_of_one_colour_have_their_own_dashes(several: Comparison) -> None:
    """No two look alike, however many of a family are drawn; control: colours alone do not do."""
    eight = few(shown_runs(renamed(several, [f"m{i}" for i in range(8)])))
    encoded: list[Any] = [line_colour(eight).to_dict(), line_dash(eight).to_dict()]
    colours, dashes = (own["scale"]["range"] for own in encoded)
    assert len(set(colours)) < 8
    assert len({(colour, str(dash)) for colour, dash in zip(colours, dashes, strict=True)}) == 8


def test_few_runs_span_the_fewest_flips_to_the_most(several: Comparison) -> None:
    """Eight of twenty, in order, with both ends; a note says so."""
    many = shown_runs(renamed(several, [f"m{i}" for i in range(20)]))
    shown = few(many)
    assert len(shown) == 8
    flips = [own.run.pooled.flips.flips for own in many if own.run.pooled.flips]
    kept = [own.run.pooled.flips.flips for own in shown if own.run.pooled.flips]
    assert (min(kept), max(kept)) == (min(flips), max(flips))
    assert few_note(many, shown) == "; 8 of 20 runs are shown"
    assert few_note(shown, shown) == ""
