"""`measure-answers`: distances along logged answers, of runs that measured none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.output import say
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.addresses import refuse_address


@app.command(
    name="measure-answers",
    epilog="Example: lm-eval-flips measure-answers runs/base --compressed runs/int4 "
    "--baseline_args pretrained=B --model_args pretrained=Q",
)
def measure_answers(
    baseline: Annotated[Path, typer.Argument(help="The baseline's run, of any backend.")],
    compressed: Annotated[
        Path, typer.Option(help="The compressed model's run; its folder gets the distances.")
    ],
    model_args: Annotated[
        str,
        typer.Option("--model_args", "--model-args", help="The compressed model, for flips-hf."),
    ],
    baseline_args: Annotated[
        str | None,
        typer.Option(
            "--baseline_args",
            "--baseline-args",
            help="The baseline, for flips-hf; not needed where run has recorded its answers.",
        ),
    ] = None,
    tasks: Annotated[str, typer.Option(help="Glob of tasks, or a group.")] = "*",
    device: Annotated[str | None, typer.Option(help="As for lm_eval.")] = None,
    batch_size: Annotated[
        int, typer.Option("--batch_size", "--batch-size", min=1, help="As for lm_eval.")
    ] = 1,
) -> None:
    """Measure where and how far two models part along answers that were logged before."""
    from lm_eval_flips.logs.runs import load_run

    for path in (baseline, compressed):  # what is measured is written beside it
        refuse_address(path, what="what is measured of")
    runs = load_run(baseline), load_run(compressed)
    chosen = [
        name
        for name in runs[0].select(tasks)
        if name in runs[1].tasks and runs[0].tasks[name].output_type == "generate_until"
    ]
    if not chosen:
        raise FlipsError(
            f"no task of '{baseline}' and '{compressed}' holds generated text; give runs of "
            "generate_until tasks, logged with --log_samples"
        )
    from lm_eval_flips.harness.measuring import measure_answers as measured
    from lm_eval_flips.harness.measuring import sentences

    found = measured(
        *runs,
        folders=(_folder(baseline), _folder(compressed)),
        model_args=model_args,
        baseline_args=baseline_args,
        tasks=chosen,
        device=device,
        batch_size=batch_size,
    )
    for line in sentences(found):
        say(line)
    if not any(own.answers for own in found.values()):
        raise FlipsError("no answer could be measured")


def _folder(run: Path) -> Path:
    return run if run.is_dir() else run.parent
