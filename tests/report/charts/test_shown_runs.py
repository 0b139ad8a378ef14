"""Names, colours and shapes of runs."""

from __future__ import annotations

from dataclasses import replace

from lm_eval_flips import Comparison
from lm_eval_flips.report.charts.shown_runs import few, few_note, shown_runs
from lm_eval_flips.report.charts.theme import RUNS
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
    """Colours go by the place in the comparison; beyond the last, shapes tell two apart."""
    many = shown_runs(renamed(several, [f"m{i}" for i in range(20)]))
    assert [own.colour for own in many[:7]] == list(RUNS)
    assert len({(own.colour, own.shape) for own in many}) == 20
    shown = few(many)
    assert all(own in many for own in shown)


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
