"""`gate`: pass, fail or cannot be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.options import (
    ClusterOption,
    IdenticalOption,
    JudgeBy,
    MetricOption,
    OnNan,
    OnNanOption,
    OverwriteOption,
    PlanOption,
    TasksOption,
)
from lm_eval_flips.cli.output import refuse_existing, write, writing


@app.command(epilog="[bold]Example:[/bold] lm-eval-flips gate runs/base runs/int8 --max-flips 0.03")
def gate(
    baseline: Annotated[Path, typer.Argument(help="The baseline's run.")],
    compressed: Annotated[list[Path], typer.Argument(help="One or more compressed runs.")],
    max_flips: Annotated[float | None, typer.Option(help="Largest share of flips.")] = None,
    max_all_flips: Annotated[
        float | None, typer.Option(help="Largest share of flips and changed wrong answers.")
    ] = None,
    max_negative_flip_rate: Annotated[
        float | None, typer.Option(help="Largest share of correct answers that may be lost.")
    ] = None,
    max_choice_kl: Annotated[
        float | None, typer.Option(help="Largest mean KL over the choices, in nats.")
    ] = None,
    max_token_kl: Annotated[
        float | None, typer.Option(help="Largest mean KL over the vocabulary, in nats.")
    ] = None,
    max_loss: Annotated[float | None, typer.Option(help="Largest drop of the score.")] = None,
    equivalence_margin: Annotated[
        float | None, typer.Option(help="Largest change of the score in either direction.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with thresholds, also of single tasks.")
    ] = None,
    judge_by: Annotated[
        JudgeBy | None,
        typer.Option("--judge", help="Hold thresholds against the 95 % interval or the point."),
    ] = None,
    metric: MetricOption = None,
    tasks: TasksOption = "*",
    cluster: ClusterOption = None,
    plan: PlanOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write JSON.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Append Markdown, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
    on_nan: OnNanOption = OnNan.error,
    allow_identical: IdenticalOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Pass (0), fail (1) or cannot be judged (2): compressed runs against thresholds, for CI."""
    for file in (json_file, junit):
        refuse_existing(file, overwrite=overwrite)
    from lm_eval_flips.gate import gate as gating

    thresholds = gating.Thresholds(
        max_flips=max_flips,
        max_all_flips=max_all_flips,
        max_negative_flip_rate=max_negative_flip_rate,
        max_choice_kl=max_choice_kl,
        max_token_kl=max_token_kl,
        max_loss=max_loss,
        equivalence_margin=equivalence_margin,
    )
    read = gating.GateConfig() if config is None else gating.load_gate(config)
    asked = gating.with_thresholds(read, thresholds)
    if judge_by is not None:
        asked = gating.judged_by(asked, judge_by.value)
    gating.refuse_no_rule(asked)
    from lm_eval_flips.comparison.compare import compare as compare_runs
    from lm_eval_flips.report.text import gate as report

    result = compare_runs(
        baseline,
        *compressed,
        metric=metric,
        tasks=tasks,
        on_nan=on_nan.value,
        allow_identical=allow_identical,
        equivalence_margin=gating.margin_of(asked),
        cluster=cluster,
        plan=plan,
    )
    gates = gating.judge(result, asked)
    for line in report.gate_lines(gates):
        typer.echo(line)
    if json_file:
        write(json_file, report.gate_json(gates))
    if junit:
        write(junit, report.gate_junit(gates))
    if markdown:
        with writing(markdown), markdown.open("a", encoding="utf-8") as summary:
            summary.write(report.gate_markdown(gates))
    codes = [found.exit_code for found in gates]
    raise typer.Exit(1 if 1 in codes else max(codes))
