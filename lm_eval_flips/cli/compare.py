"""`compare`: compressed runs against their baseline."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.model_card import renew
from lm_eval_flips.cli.options import (
    BootstrapOption,
    ClusterOption,
    IdenticalOption,
    MarginOption,
    MetricOption,
    OnMismatch,
    OnNan,
    OnNanOption,
    OverwriteOption,
    PlanOption,
    ReportOption,
    SizeOption,
    TasksOption,
)
from lm_eval_flips.cli.output import console, refuse_existing, write, writing
from lm_eval_flips.cli.plots import PlotsAhead
from lm_eval_flips.cli.reader import reader
from lm_eval_flips.cli.report import PageAhead
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.report.given_sizes import parse_sizes

if TYPE_CHECKING:
    from rich.console import Console

    from lm_eval_flips.report.text.flipped import FlippedSample


@app.command(
    epilog="[bold]Example:[/bold] lm-eval-flips compare runs/base runs/int4 --show-flips 3"
)
def compare(
    baseline: Annotated[
        Path, typer.Argument(help="The baseline's run: a folder or file of lm_eval.")
    ],
    compressed: Annotated[list[Path], typer.Argument(help="One or more compressed runs.")],
    metric: MetricOption = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="Only this filter, such as strict-match.")
    ] = None,
    tasks: TasksOption = "*",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the whole result as JSON.")
    ] = None,
    per_sample: Annotated[
        Path | None, typer.Option(help="Write a Parquet file with one row per sample.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Write each chart as SVG and PNG into this folder.")
    ] = None,
    report: ReportOption = None,
    size: SizeOption = None,
    model_card: Annotated[
        Path | None,
        typer.Option(help="Put a Markdown block into this model card, or renew the one there."),
    ] = None,
    show_flips: Annotated[
        int, typer.Option(min=0, help="Print this many flipped samples of each run.")
    ] = 0,
    on_mismatch: Annotated[
        OnMismatch, typer.Option(help="Samples that differ: an error, or left out.")
    ] = OnMismatch.error,
    on_nan: OnNanOption = OnNan.error,
    allow_identical: IdenticalOption = False,
    noise_floor: Annotated[
        Path | None,
        typer.Option(help="A second run of the baseline, to tell what rounding alone moves."),
    ] = None,
    equivalence_margin: MarginOption = None,
    cluster: ClusterOption = None,
    bootstrap: BootstrapOption = None,
    plan: PlanOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    near_kl: Annotated[
        float, typer.Option(min=0, help="Runs with a smaller mean KL are near the baseline.")
    ] = 0.02,
    overwrite: OverwriteOption = False,
    device: Annotated[str, typer.Option(help="Device of the computation: cpu, cuda.")] = "cpu",
) -> None:
    """Compare compressed runs with their baseline, sample by sample."""
    for file in (json_file, per_sample):
        refuse_existing(file, overwrite=overwrite)
    if plan is not None:
        _refuse_pictures({"--report": report, "--plots": plots, "--model-card": model_card})
    sizes = parse_sizes(size or ())
    pictures = None if plots is None else PlotsAhead(plots, overwrite=overwrite)
    page = None if report is None else PageAhead(report, overwrite=overwrite)
    from lm_eval_flips.logs.runs import load_run

    runs = [load_run(path) for path in (baseline, *compressed)]
    floor = None if noise_floor is None else load_run(noise_floor)
    with reader([*runs, *([] if floor is None else [floor])], tasks) as read:
        # only now, while the files are being read: this import takes as long as reading them
        from lm_eval_flips.comparison.compare import compare as compare_runs
        from lm_eval_flips.measures.bootstrap import Bootstrap
        from lm_eval_flips.report.text.table import tables

        result = compare_runs(
            *runs,
            metric=metric,
            filter=filter_,
            tasks=tasks,
            on_mismatch=on_mismatch.value,
            on_nan=on_nan.value,
            allow_identical=allow_identical,
            noise_floor=floor,
            equivalence_margin=equivalence_margin,
            cluster=cluster,
            bootstrap=None if bootstrap is None else Bootstrap(replicates=bootstrap, seed=seed),
            near_kl=near_kl,
            plan=plan,
            device=device,
            read=read,
        )
    screen = console()
    screen.print(tables(result), crop=False)
    if show_flips:
        from lm_eval_flips.report.text.flipped import flipped_samples

        for sample in flipped_samples(result, limit=show_flips):
            _print_flip(screen, sample)
    if model_card:
        from lm_eval_flips.report.files.model_card import model_card as block

        renew(model_card, block(result, harness=runs[0].results.lm_eval_version))
    if json_file:
        from lm_eval_flips.report.files.document import to_json

        write(json_file, to_json(result))
    if per_sample:
        import pyarrow.parquet

        from lm_eval_flips.report.files.per_sample import to_table

        with writing(per_sample):
            pyarrow.parquet.write_table(to_table(result), per_sample)
    if pictures is not None:
        pictures.write(result, sizes=sizes)
    if page is not None:
        page.write(result, sizes=sizes)


def _refuse_pictures(asked: Mapping[str, Path | None]) -> None:
    for option, given in asked.items():
        if given is not None:
            raise FlipsError(
                f"{option} is of all documents, of which --plan has some: leave one of them out"
            )


def _print_flip(console: Console, sample: FlippedSample) -> None:
    from rich.text import Text

    console.print()
    sure = "" if isnan(sample.margin) else f"  (baseline's top margin {sample.margin:.2f})"
    console.print(
        Text.assemble(
            (f"{sample.task} doc {sample.doc_id}", "bold"),
            f"  {sample.metric}  {sample.direction}{sure}  {sample.compressed}",
        )
    )
    console.print(Text(sample.question.strip()))
    console.print(Text(f"target: {sample.target}", style="dim"))
    for choice in sample.choices:
        marks = f"{'baseline' if choice.baseline_answer else '':>9}" + (
            f" {'compressed' if choice.compressed_answer else '':<11}"
        )
        shares = (
            "" if isnan(choice.baseline) else f"{choice.baseline:6.1%} → {choice.compressed:6.1%}"
        )
        console.print(Text(f"{marks}{shares}  {choice.text}"))
