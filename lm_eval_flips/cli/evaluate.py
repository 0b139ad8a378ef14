"""`eval`: the harness's own command with the plug-in; and what `run --until` starts."""

from __future__ import annotations

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.output import say


@app.command(
    name="eval",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def evaluate(context: typer.Context) -> None:
    """lm_eval's own run command, with the model flips-hf and the flip metrics registered."""
    from lm_eval_flips.harness.command import evaluate as evaluate_by_harness

    evaluate_by_harness(context.args)


@app.command(
    name="eval-in-order",
    hidden=True,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def evaluate_in_order(context: typer.Context, asked: str) -> None:
    """What `run --until` starts for each model: the JSON of what to decide, and lm_eval's flags."""
    import msgspec

    from lm_eval_flips.evaluation.in_order import InOrder
    from lm_eval_flips.harness import in_order
    from lm_eval_flips.report.text.gate import look_line

    wanted = msgspec.json.decode(asked, type=InOrder)
    for look in in_order.evaluate_in_order(wanted, context.args):
        say(look_line(look.gate, look.count))
