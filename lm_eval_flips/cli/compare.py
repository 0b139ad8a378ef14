"""`compare`: compressed runs against their baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.comparing import compared, load_runs, plan_inputs
from lm_eval_flips.cli.flipped import print_flip
from lm_eval_flips.cli.model_card import renew
from lm_eval_flips.cli.options import (
    Asked,
    DetailsOption,
    NoColorOption,
    OverwriteOption,
    PlanOption,
    ReportOption,
    SizeOption,
    WideOption,
    takes_options,
)
from lm_eval_flips.cli.output import Outputs, console, say
from lm_eval_flips.cli.plots import PlotsAhead
from lm_eval_flips.cli.report import PageAhead, page_files
from lm_eval_flips.cli.sides import BaselineRuns, CompressedRuns, SidesVerb
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.output_files import replacing, write_whole
from lm_eval_flips.report.given_sizes import parse_sizes

if TYPE_CHECKING:
    from lm_eval_flips.comparison.result import Comparison


@app.command(
    cls=SidesVerb, epilog="Example: lm-eval-flips compare runs/base runs/int4 --show-flips 3"
)
@takes_options()
def compare(
    baseline: Annotated[
        Path, typer.Argument(help="The baseline's run: a folder or file of lm_eval.")
    ],
    compressed: Annotated[list[Path], typer.Argument(help="One or more compressed runs.")],
    asked: Asked,
    plan: PlanOption = None,
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
    eval_results: Annotated[
        Path | None,
        typer.Option(help="Write the YAML of results that the model hub reads; it is not sent."),
    ] = None,
    details: DetailsOption = False,
    wide: WideOption = False,
    show_flips: Annotated[
        int, typer.Option(min=0, help="Print this many flipped samples of each run.")
    ] = 0,
    drawn: BaselineRuns = None,
    others: CompressedRuns = None,
    overwrite: OverwriteOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Compare compressed runs with their baseline, sample by sample."""
    if plan is not None:
        _refuse_pictures(
            {
                "--report": report,
                "--plots": plots,
                "--model-card": model_card,
                "--eval-results": eval_results,
            }
        )
    files = {
        "--json": json_file,
        "--per-sample": per_sample,
        "--model-card": model_card,
        "--eval-results": eval_results,
    }
    outputs = Outputs(
        {**files, **page_files("--report", report)},
        overwrite=overwrite,
        kept=["--model-card"],
        folders={"--plots": plots},
    )
    sizes = parse_sizes(size or ())
    pictures = None if plots is None else PlotsAhead(plots, overwrite=overwrite)
    page = None if report is None else PageAhead(report)
    runs = load_runs(baseline, compressed, asked.noise_floor, drawn=drawn, others=others)
    outputs.refuse_inputs(runs.all, plan_inputs(plan))
    result = compared(runs, asked, plan=plan)
    from lm_eval_flips.report.text.terminal import printed

    screen = console()
    screen.print(printed(result, details=details, fit=not wide), crop=False)
    if show_flips:
        from lm_eval_flips.report.text.flipped import flipped_samples

        for sample in flipped_samples(result, limit=show_flips):
            print_flip(screen, sample)
    if model_card:
        from lm_eval_flips.report.files.model_card import model_card as block

        renew(model_card, block(result, harness=runs.baseline.results.lm_eval_version))
    if eval_results:
        _write_hub_results(eval_results, result, harness=runs.baseline.results.lm_eval_version)
    _write_numbers(result, json_file=json_file, per_sample=per_sample)
    if pictures is not None:
        pictures.write(result, sizes=sizes)
    if page is not None:
        page.write(result, sizes=sizes)


def _write_hub_results(file: Path, result: Comparison, *, harness: str | None) -> None:
    from lm_eval_flips.report.files.hub_results import hub_results

    found = hub_results(result, harness=harness)
    write_whole(file, found.text.encode())
    if found.left_out:
        say(f"not in {file}, as no data set of the hub is theirs: {named(list(found.left_out))}")


def _refuse_pictures(asked: Mapping[str, Path | None]) -> None:
    for option, given in asked.items():
        if given is not None:
            raise FlipsError(
                f"{option} is of all documents, of which --plan has some: leave one of them out"
            )


def _write_numbers(result: Comparison, *, json_file: Path | None, per_sample: Path | None) -> None:
    if json_file:
        from lm_eval_flips.report.files.document import to_json

        write_whole(json_file, to_json(result))
    if per_sample:
        import pyarrow.parquet

        from lm_eval_flips.report.files.per_sample import to_table

        with replacing(per_sample) as beside:
            pyarrow.parquet.write_table(to_table(result), beside)
