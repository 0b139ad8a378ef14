"""`layers`: what each block of a compressed model costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lm_eval_flips.cli.app import Verb, app
from lm_eval_flips.cli.options import NoColorOption, OverwriteOption
from lm_eval_flips.cli.output import Outputs, console, say
from lm_eval_flips.logs.output_files import write_whole


@app.command(
    cls=Verb,
    epilog="Example: lm-eval-flips layers --baseline models/Llama --compressed models/Llama-int4",
)
def layers(
    baseline: Annotated[str, typer.Option(help="The model that was compressed.")],
    compressed: Annotated[str, typer.Option(help="The compressed one.")],
    dtype: Annotated[
        str, typer.Option(help="What to load both in: float32, bfloat16 …; auto: as each is.")
    ] = "auto",
    tokens: Annotated[int, typer.Option(help="The most tokens of text to read.")] = 500,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it into a file: .svg or .png.")] = None,
    overwrite: OverwriteOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Tell where compression hurts: swap one block at a time, on fixed texts.

    Says what each block costs alone, what is left without it, and what a mixed scheme that leaves
    the most expensive ones as they were would gain.
    """
    outputs = Outputs({"--json": json_file, "--plot": plot}, overwrite=overwrite)
    outputs.refuse_inputs(folders=[Path(baseline), Path(compressed)])
    if plot is not None:
        from lm_eval_flips.report.files.plot_file import refuse_plot

        refuse_plot(plot)  # not only after the models were read
    from lm_eval_flips.compression.block_models import costs_of
    from lm_eval_flips.report.text.block_costs import block_json, block_lines, block_table

    costs = costs_of(baseline, compressed, dtype=dtype, tokens=tokens)
    console().print(block_table(costs), crop=False)
    for line in block_lines(costs):
        say(line)
    if json_file is not None:
        write_whole(json_file, block_json(costs))
    if plot is not None:
        from lm_eval_flips.report.charts.block_costs import block_costs_chart
        from lm_eval_flips.report.files.plot_file import write_plot

        write_plot(block_costs_chart(costs), plot)
