"""The application that every verb adds itself to."""

from __future__ import annotations

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Which answers did compression change? Flips and KL-divergence of paired lm_eval runs.",
    epilog="[bold]Example:[/bold] lm-eval-flips compare runs/baseline runs/int8 runs/int4",
)
