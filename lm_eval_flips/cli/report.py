"""`report`: one HTML file of a comparison; and `--report` of the verbs that compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.comparing import compared, load_runs
from lm_eval_flips.cli.options import (
    Asked,
    NoColorOption,
    OverwriteOption,
    SizeOption,
    takes_options,
)
from lm_eval_flips.cli.output import Outputs, say
from lm_eval_flips.cli.sides import BaselineRuns, CompressedRuns, SidesVerb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lm_eval_flips.comparison.result import Comparison


def page_files(option: str, file: Path | None) -> dict[str, Path | None]:
    """The page, and the file beside it for the changed samples that do not fit."""
    if file is None:
        return {}
    return {option: file, f"{option} (its samples)": file.with_suffix(".parquet")}


class PageAhead:
    """A page whose libraries are seen to before the comparison, which takes longer.

    Raises:
        FlipsError: the extra [report] is not installed.
    """

    def __init__(self, file: Path) -> None:
        from lm_eval_flips.report.page.bundles import BundlesAhead

        self._file = file
        self._libraries = BundlesAhead()

    def write(self, comparison: Comparison, *, sizes: Mapping[str, int] | None = None) -> None:
        """Write the page, and print what was written."""
        from lm_eval_flips.report.page.report_file import write_report

        written = write_report(
            comparison,
            self._file,
            sizes=sizes,
            libraries=self._libraries.get(),
            overwrite=True,  # what may not be replaced was refused before
        )
        for file in written:
            say(f"wrote {file}")


@app.command(
    cls=SidesVerb,
    epilog="Example: lm-eval-flips report runs/base runs/int8 runs/int4 --output report.html",
)
@takes_options()
def report(
    baseline: Annotated[Path, typer.Argument(help="The baseline's run.")],
    compressed: Annotated[list[Path], typer.Argument(help="One or more compressed runs.")],
    asked: Asked,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The HTML file; it needs nothing else.")
    ] = Path("report.html"),
    size: SizeOption = None,
    drawn: BaselineRuns = None,
    others: CompressedRuns = None,
    overwrite: OverwriteOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Write one HTML file to look at: numbers, charts, tasks, and every changed sample.

    Beyond 10,000 changed samples the rest is written to a Parquet file beside it.
    """
    from lm_eval_flips.report.given_sizes import parse_sizes

    outputs = Outputs(page_files("--output", output), overwrite=overwrite)
    sizes = parse_sizes(size or ())
    page = PageAhead(output)
    runs = load_runs(baseline, compressed, asked.noise_floor, drawn=drawn, others=others)
    outputs.refuse_inputs(runs.all)
    page.write(compared(runs, asked), sizes=sizes)
