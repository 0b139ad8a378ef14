"""`report`: one HTML file of a comparison; and `--report` of the verbs that compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.options import (
    ClusterOption,
    IdenticalOption,
    MarginOption,
    MetricOption,
    OnMismatch,
    OnNan,
    OnNanOption,
    OverwriteOption,
    SizeOption,
    TasksOption,
)
from lm_eval_flips.cli.output import refuse_existing
from lm_eval_flips.cli.reader import reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lm_eval_flips.comparison.result import Comparison


class PageAhead:
    """A page whose file and libraries are seen to before the comparison, which takes longer.

    Raises:
        FlipsError: the file exists, or the extra [report] is not installed.
    """

    def __init__(self, file: Path, *, overwrite: bool) -> None:
        from lm_eval_flips.report.page.bundles import BundlesAhead

        refuse_existing(file, overwrite=overwrite)
        self._file, self._overwrite = file, overwrite
        self._libraries = BundlesAhead()

    def write(self, comparison: Comparison, *, sizes: Mapping[str, int] | None = None) -> None:
        """Write the page, and print what was written."""
        from lm_eval_flips.report.page.report_file import write_report

        written = write_report(
            comparison,
            self._file,
            sizes=sizes,
            libraries=self._libraries.get(),
            overwrite=self._overwrite,
        )
        for file in written:
            typer.echo(f"wrote {file}")


@app.command(
    epilog="[bold]Example:[/bold] lm-eval-flips report runs/base runs/int8 runs/int4 "
    "--output report.html"
)
def report(
    baseline: Annotated[Path, typer.Argument(help="The baseline's run.")],
    compressed: Annotated[list[Path], typer.Argument(help="One or more compressed runs.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The HTML file; it needs nothing else.")
    ] = Path("report.html"),
    noise_floor: Annotated[Path | None, typer.Option(help="A second run of the baseline.")] = None,
    equivalence_margin: MarginOption = None,
    size: SizeOption = None,
    metric: MetricOption = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="Only this filter, such as strict-match.")
    ] = None,
    tasks: TasksOption = "*",
    cluster: ClusterOption = None,
    on_mismatch: Annotated[
        OnMismatch, typer.Option(help="Samples that differ: an error, or left out.")
    ] = OnMismatch.error,
    on_nan: OnNanOption = OnNan.error,
    allow_identical: IdenticalOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Write one HTML file to look at: numbers, charts, tasks, and every changed sample.

    Beyond 10,000 changed samples the rest is written to a Parquet file beside it.
    """
    from lm_eval_flips.logs.runs import load_run
    from lm_eval_flips.report.given_sizes import parse_sizes

    sizes = parse_sizes(size or ())
    page = PageAhead(output, overwrite=overwrite)
    runs = [load_run(path) for path in (baseline, *compressed)]
    floor = None if noise_floor is None else load_run(noise_floor)
    with reader([*runs, *([] if floor is None else [floor])], tasks) as read:
        from lm_eval_flips.comparison.compare import compare as compare_runs

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
            read=read,
        )
    page.write(result, sizes=sizes)
