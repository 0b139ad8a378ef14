"""`gate`: pass, fail or cannot be judged."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.cli.app import app
from lm_eval_flips.cli.comparing import compared, load_runs, plan_inputs
from lm_eval_flips.cli.options import (
    Asked,
    NoColorOption,
    OverwriteOption,
    PlanOption,
    takes_options,
)
from lm_eval_flips.cli.output import Outputs, say
from lm_eval_flips.cli.sides import BaselineRuns, CompressedRuns, SidesVerb
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lm_eval_flips.comparison.result import Comparison
    from lm_eval_flips.gate.gate import Gate
    from lm_eval_flips.gate.thresholds import GateConfig


class JudgeBy(str, Enum):
    """What a threshold is held against."""

    interval = "interval"
    point = "point"


@app.command(
    cls=SidesVerb, epilog="Example: lm-eval-flips gate runs/base runs/int8 --max-flips 0.03"
)
@takes_options()
def gate(
    baseline: Annotated[Path, typer.Argument(help="The baseline's run.")],
    compressed: Annotated[list[Path], typer.Argument(help="One or more compressed runs.")],
    asked: Asked,
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
    max_expected_flips: Annotated[
        float | None,
        typer.Option(help="Of several runs a side: largest chance that a draw of each differ."),
    ] = None,
    max_flips_beyond_seeds: Annotated[
        float | None,
        typer.Option(help="Of several runs a side: the same less what draws of one model change."),
    ] = None,
    max_loss: Annotated[float | None, typer.Option(help="Largest drop of the score.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with thresholds, also of single tasks.")
    ] = None,
    judge_by: Annotated[
        JudgeBy | None,
        typer.Option("--judge", help="Hold thresholds against the 95 % interval or the point."),
    ] = None,
    sequential: Annotated[
        bool,
        typer.Option(
            "--sequential",
            help="Judge question by question in a random order, and say after how many it is "
            "decided: holds however often one looks.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the order of --sequential.")] = 0,
    plan: PlanOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write JSON.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Append Markdown, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
    ladder: Annotated[
        Path | None,
        typer.Option(
            help="Write Markdown: the models by size, and the smallest that passes. Printed too."
        ),
    ] = None,
    drawn: BaselineRuns = None,
    others: CompressedRuns = None,
    overwrite: OverwriteOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Pass (0), fail (1) or cannot be judged (2): compressed runs against thresholds, for CI."""
    from lm_eval_flips.gate import thresholds as limits

    files = {"--json": json_file, "--junit": junit, "--markdown": markdown, "--ladder": ladder}
    outputs = Outputs(files, overwrite=overwrite, kept=["--markdown"])
    if sequential and plan is not None:
        raise FlipsError("--sequential does not go together with --plan: it draws by itself")
    pooled = limits.Thresholds(
        max_flips=max_flips,
        max_all_flips=max_all_flips,
        max_negative_flip_rate=max_negative_flip_rate,
        max_choice_kl=max_choice_kl,
        max_token_kl=max_token_kl,
        max_expected_flips=max_expected_flips,
        max_flips_beyond_seeds=max_flips_beyond_seeds,
        max_loss=max_loss,
        equivalence_margin=asked.equivalence_margin,
    )
    read = limits.GateConfig() if config is None else limits.load_gate(config)
    rules = limits.with_thresholds(read, pooled)
    if judge_by is not None:
        rules = limits.judged_by(rules, judge_by.value)
    limits.refuse_no_rule(rules)
    runs = load_runs(baseline, compressed, asked.noise_floor, drawn=drawn, others=others)
    outputs.refuse_inputs(runs.all, [*plan_inputs(plan), config])
    asked = replace(asked, equivalence_margin=limits.margin_of(rules))
    result = compared(runs, asked, plan=plan)
    gates = _judged(result, rules, seed if sequential else None)
    if ladder is not None:
        _climb(result, gates, ladder)
    _write(gates, json_file=json_file, junit=junit, markdown=markdown)
    raise typer.Exit(_exit_code(gates))


def _exit_code(gates: Sequence[Gate]) -> int:
    """Of all runs: a failure goes before what cannot be judged."""
    codes = [judged.exit_code for judged in gates]
    return 1 if 1 in codes else max(codes)


def _judged(comparison: Comparison, rules: GateConfig, seed: int | None) -> Sequence[Gate]:
    """Each run's verdict, question by question in the order of a seed, if one is given."""
    if seed is None:
        from lm_eval_flips.gate.gate import judge

        return judge(comparison, rules)
    from lm_eval_flips.gate.whole_runs import judge_whole

    return judge_whole(comparison, rules, seed=seed)


def _write(
    gates: Sequence[Gate], *, json_file: Path | None, junit: Path | None, markdown: Path | None
) -> None:
    from lm_eval_flips.report.text import gate as report

    for line in report.gate_lines(gates):
        say(line)
    if json_file:
        write_whole(json_file, report.gate_json(gates))
    if junit:
        write_whole(junit, report.gate_junit(gates))
    if markdown:
        summary = report.gate_markdown(gates).encode(errors="replace")
        write_whole(markdown, _content(markdown) + summary)


def _climb(result: Comparison, gates: Sequence[Gate], file: Path) -> None:
    """Say which is the smallest model that passes, and write all of them by size."""
    from lm_eval_flips.comparison.model_sizes import model_sizes
    from lm_eval_flips.report.text import ladder as report

    found = report.rungs(result, gates, model_sizes(result))
    say(report.ladder_sentence(found))
    floor = None if result.noise_floor is None else result.noise_floor.pooled
    write_whole(file, report.ladder_markdown(found, floor=floor).encode(errors="replace"))


def _content(file: Path) -> bytes:
    """What a file holds that something is put at the end of."""
    try:
        return file.read_bytes() if file.is_file() else b""
    except OSError as error:
        raise FlipsError(f"'{file}' cannot be read: {error.strerror}") from None
