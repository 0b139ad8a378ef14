"""What the verb `plan` prints: the table, what the plan is worth, warnings, the next commands."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lm_eval_flips.logs.runs import Run, load_run
from lm_eval_flips.planning.making import make_plan
from lm_eval_flips.planning.plan import Plan
from lm_eval_flips.report.text.numbers import percent
from lm_eval_flips.report.text.plan import (
    next_commands,
    plan_lines,
    plan_table,
    plan_warnings,
    task_names,
)
from tests.generators import logs
from tests.generators.worlds import World, world

SAMPLES = Path("out/my samples.json")


def made(folder: Path, asked: World | None = None, **more: Any) -> tuple[Plan, Run]:
    """A plan of 100 documents of a world's baseline."""
    base = load_run((asked or world()).write(folder, "baseline"))
    return make_plan(base, **{"budget": 100, **more}), base


def test_the_table_adds_up(tmp_path: Path) -> None:
    """A line for each class of margins, and all."""
    plan, _ = made(tmp_path)
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        console.print(plan_table(plan))
    head, *lines = captured.get().splitlines()
    assert head.split() == "top margin documents drawn expected to change".split()
    assert [line.split()[0] for line in lines] == [
        "0.0",
        "0.1",
        "0.2",
        "0.4",
        "0.6",
        "0.8",
        "unknown",
        "all",
    ]
    numbers = [line.replace(" to ", "-").split()[1:3] for line in lines]
    for column in (0, 1):
        values = [int(own[column]) for own in numbers]
        assert sum(values[:-1]) == values[-1]
    assert lines[-1].split()[-2:] == percent(plan.all_flips).split()


def test_the_plans_worth_and_its_blind_spots_are_said(tmp_path: Path) -> None:
    """Half-width, plain sampling, tasks without margins, tasks without right and wrong."""
    wiki = [logs.rolling(i, -10.0 - i, "one two") for i in range(5)]
    asked = world()
    plan, _ = made(tmp_path, World({**asked.baseline, "wiki": wiki}, {}), seed=4)
    first, second, blind, left = plan_lines(plan)
    assert first.startswith("100 of 370 documents from ")
    assert first.endswith("seed 4; rates: built-in rates, 4bit")
    assert f"within ±{percent(plan.half_width)} (95 %)" in second
    assert f"would need {plan.plain_samples} samples" in second
    assert blind == "no margins in the log of task written: drawn at random, without strata"
    assert left == "not planned, no metric of right and wrong: task wiki"


def test_few_shot_examples_that_are_drawn_are_warned_of(tmp_path: Path) -> None:
    """Not where the first examples are taken, nor where all documents are drawn in order."""

    def warned(name: str, sampler: str, **more: Any) -> list[str]:
        config = {"large": {"fewshot_config": {"sampler": sampler}}}
        shots = {"large": 5, "small": 0, "written": 0}
        plan, _ = made(tmp_path / name, world(n_shot=shots, configs=config), **more)
        return list(plan_warnings(plan, SAMPLES))

    (line,) = warned("drawn", "default")
    assert line.startswith("few-shot examples of task large are drawn at random")
    assert f"Evaluate the baseline too with --samples {SAMPLES}" in line
    assert warned("first", "first_n") == []
    assert warned("whole", "default", budget=370) == []


def test_the_next_commands_are_those_of_the_baseline(tmp_path: Path) -> None:
    """Its model type, its arguments for another model, its batch size; paths are quoted."""
    plan, base = made(tmp_path)
    evaluate, compare = next_commands(plan, base, SAMPLES, Path("runs/base"))
    assert shlex.split(evaluate) == [
        *("lm_eval", "run", "--model", "hf"),
        *("--model_args", "pretrained=COMPRESSED,dtype=float32"),
        *("--tasks", "both,written", "--samples", str(SAMPLES)),
        *("--batch_size", "8", "--output_path", "RUN", "--log_samples"),
    ]
    assert shlex.split(compare) == [
        *("lm-eval-flips", "compare", "runs/base", "RUN", "--plan", str(SAMPLES)),
    ]


def test_after_the_first_of_two_stages_the_others_are_drawn(tmp_path: Path) -> None:
    """By the run of the first ones, under another name; they are evaluated alike."""
    plan, base = made(tmp_path)
    evaluate, more = next_commands(plan, base, SAMPLES, Path("runs/base"), first=True)
    assert evaluate == next_commands(plan, base, SAMPLES, Path("runs/base"))[0]
    assert shlex.split(more) == [
        *("lm-eval-flips", "plan", "runs/base", "--go-on", str(SAMPLES), "--pilot", "RUN"),
        *("--half-width", "WIDTH", "--output", "ALL.json"),
    ]


def test_what_shapes_prompts_is_repeated(tmp_path: Path) -> None:
    """A chat template and equal numbers of examples; not where tasks differ in these."""
    shots = dict.fromkeys(("large", "small", "written"), 5)
    chat: dict[str, Any] = {"chat_template": "{{x}}", "fewshot_as_multiturn": False}
    plan, base = made(tmp_path / "chat", world(n_shot=shots, **chat))
    words = shlex.split(next_commands(plan, base, SAMPLES, tmp_path)[0])
    assert words[words.index("--num_fewshot") + 1] == "5"
    assert words[words.index("--fewshot_as_multiturn") + 1] == "false"
    assert "--apply_chat_template" in words
    plan, base = made(tmp_path / "mixed", world(n_shot={**shots, "small": 0}))
    assert "--num_fewshot" not in next_commands(plan, base, SAMPLES, tmp_path)[0]


def test_a_recorded_baseline_has_its_distances_measured(tmp_path: Path) -> None:
    """flips-hf is evaluated by this package's command, against what was recorded."""
    args = {"pretrained": "base", "record": "runs/base", "positions": "all"}
    plan, base = made(tmp_path, world(config={"model": "flips-hf", "model_args": args}))
    command = next_commands(plan, base, SAMPLES, Path("runs/base"))[0]
    expected = "pretrained=COMPRESSED,reference=runs/base,distances=RUN"
    assert command.startswith(f"lm-eval-flips eval --model flips-hf --model_args {expected} ")


@pytest.mark.parametrize(("tasks", "expected"), [("*", ["both", "written"]), ("large", ["large"])])
def test_a_group_stands_for_its_tasks_where_all_are_planned(
    tmp_path: Path, tasks: str, expected: list[str]
) -> None:
    """lm_eval evaluates whole what --samples does not name."""
    plan, base = made(tmp_path, tasks=tasks)
    assert task_names(plan, base) == expected
