"""The application that every verb adds itself to."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lm_eval_flips.cli.options import NoColorOption

# in the order of work
VERBS = (
    *("run", "compare", "report", "gate", "leaderboard", "plan", "judge", "compress", "schemes"),
    *("prove", "layers", "noise-run", "measure-answers", "tasks", "eval"),
)

WAYS_IN = """\
Which answers did compression change? Three ways in:

  Two runs of lm_eval that you have, made with --log_samples:
    lm-eval-flips compare runs/baseline runs/int4

  The harness's own command, against a baseline's run:
    lm_eval run --include_path "$(lm-eval-flips tasks)" --tasks flips_mmlu \\
      --metadata baseline=runs/baseline --model hf --model_args pretrained=COMPRESSED

  One command that evaluates and compares:
    lm-eval-flips run --baseline pretrained=BASELINE --compressed pretrained=COMPRESSED \\
      --tasks mmlu --output_path runs

lm-eval-flips --help lists the verbs, lm-eval-flips VERB --help what each takes."""


class Verbs(TyperGroup):
    """The verbs in the order of work; the command alone says the ways in.

    ``ctx`` is click's context, which Typer brings under names that change from version to version.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order in which --help shows them; hidden ones come last."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: (*VERBS, name).index(name))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what each does, whole."""
        names = [name for name in self.list_commands(ctx) if name in VERBS]
        verbs = [(name, self.get_command(ctx, name)) for name in names]
        with formatter.section("Verbs"):
            formatter.write_dl(
                [(name, verb.get_short_help_str(limit=200)) for name, verb in verbs if verb]
            )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; without any there is something to say."""
        if not args and not ctx.resilient_parsing:  # which completion parses with
            typer.echo(WAYS_IN)
            raise typer.Exit
        return super().parse_args(ctx, args)


class Verb(TyperCommand):
    """A verb whose --help shows the options of a comparison apart from its own."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write each panel as a section of its own, in plain text: rich takes longer to load."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            kind = "Arguments" if param.param_type_name == "argument" else "Options"
            panel = getattr(param, "rich_help_panel", None) or kind
            panels.setdefault(panel, []).extend(filter(None, [param.get_help_record(ctx)]))
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)


app = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
    pretty_exceptions_enable=False,
    help="Which answers did compression change? Flips and KL-divergence of paired lm_eval runs.",
    epilog="Example: lm-eval-flips compare runs/baseline runs/int8 runs/int4",
)


def _version(wanted: bool) -> None:
    if wanted:
        from lm_eval_flips.logs.names import own_version

        typer.echo(f"lm-eval-flips {own_version()}")
        raise typer.Exit


@app.callback()
def before_any_verb(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            callback=_version,
            expose_value=False,
            is_eager=True,
        ),
    ] = False,
    no_color: NoColorOption = False,
) -> None:
    """Which answers did compression change? Flips and KL-divergence of paired lm_eval runs."""
