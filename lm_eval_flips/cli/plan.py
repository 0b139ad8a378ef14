"""`plan`: which documents to evaluate a compressed model on, instead of on all."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.options import NoColorOption, OverwriteOption
from lm_eval_flips.cli.output import Outputs, console, say
from lm_eval_flips.cli.reader import found
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import write_whole


class Prior(str, Enum):
    """Built-in rates of changed answers."""

    four = "4bit"
    eight = "8bit"


@app.command(epilog="Example: lm-eval-flips plan runs/base --budget 600 --output samples.json")
def plan(
    baseline: Annotated[Path, typer.Argument(help="The baseline's run over all documents.")],
    output: Annotated[
        Path, typer.Option(help="File for lm_eval's --samples; the plan is put beside it.")
    ],
    tasks: Annotated[str, typer.Option(help="Glob of tasks, or a group, to plan.")] = "*",
    budget: Annotated[int | None, typer.Option(help="Draw this many documents in all.")] = None,
    half_width: Annotated[
        float | None,
        typer.Option(help="Draw as many as all flips within ± this share take, such as 0.01."),
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option(help="A compressed run of this baseline, on some or all documents."),
    ] = None,
    first: Annotated[
        bool,
        typer.Option("--first", help="The first of two stages: go on from what it shows."),
    ] = False,
    go_on: Annotated[
        Path | None,
        typer.Option(help="A first plan, whose samples --pilot holds: draw the others by them."),
    ] = None,
    prior: Annotated[
        Prior, typer.Option(help="How much the compression is expected to change.")
    ] = Prior.four,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    overwrite: OverwriteOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Choose documents that tell most of flips, for lm_eval --samples and compare --plan."""
    from lm_eval_flips.planning.going_on import go_on as second_stage
    from lm_eval_flips.planning.making import make_plan
    from lm_eval_flips.planning.plan import plan_contents, plan_files
    from lm_eval_flips.report.text.plan import next_commands, plan_lines, plan_table, plan_warnings

    samples, own = plan_files(output)
    outputs = Outputs({"--output": samples, "the plan": own}, overwrite=overwrite)
    base = found(baseline)
    tried = None if pilot is None else found(pilot)
    outputs.refuse_inputs([base, *([] if tried is None else [tried])])
    if go_on is None:
        made = make_plan(
            base,
            budget=budget,
            half_width=half_width,
            tasks=tasks,
            pilot=tried,
            prior=prior.value,
            seed=seed,
            first=first,
        )
    else:
        if tried is None or first or tasks != "*":
            raise FlipsError(
                "--go-on takes the run of the plan's samples as --pilot, and its tasks; leave out "
                "--first and --tasks"
            )
        made = second_stage(go_on, base, tried, budget=budget, half_width=half_width, seed=seed)
    for file, content in zip((samples, own), plan_contents(made), strict=True):
        write_whole(file, content)
    screen = console()
    screen.print(plan_table(made), crop=False)
    for line in plan_lines(made):
        say(line)
    for line in plan_warnings(made, samples):
        say(f"warning: {line}", error=True)
    say("")
    say(f"written: {samples} and {own}. Go on with:")
    for command in next_commands(made, base, samples, baseline, first=first):
        say(f"  {command}")
