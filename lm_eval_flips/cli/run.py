"""`run`: evaluate a baseline and its compressed models by the harness, and compare them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.cli.app import Verb, app
from lm_eval_flips.cli.comparing import compared, judged, load_runs
from lm_eval_flips.cli.compress import MakerOption, models_of_schemes
from lm_eval_flips.cli.options import Asked, NoColorOption, ReportOption, takes_options
from lm_eval_flips.cli.output import Outputs, console, say
from lm_eval_flips.cli.report import PageAhead, page_files
from lm_eval_flips.errors import FlipsError, NotJudgedError
from lm_eval_flips.logs.addresses import refuse_address
from lm_eval_flips.logs.output_files import write_whole

if TYPE_CHECKING:
    from lm_eval_flips.evaluation.evaluations import Schedule
    from lm_eval_flips.evaluation.in_order import Until
    from lm_eval_flips.evaluation.launchers import Launcher
    from lm_eval_flips.gate.gate import Gate


class Positions(str, Enum):
    """Which scored positions a reference keeps."""

    all = "all"
    last = "last"


@app.command(
    cls=Verb,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: lm-eval-flips run --baseline pretrained=B --compressed "
    "pretrained=Q --tasks mmlu --output_path runs --limit 100",
)
# the harness has its own --tasks and --device, and a second run of the baseline is made here
@takes_options(without=("tasks", "device", "noise_floor"))
def run(
    context: typer.Context,
    asked: Asked,
    baseline: Annotated[
        str, typer.Option(help="Model arguments of the baseline, or a folder with its run.")
    ],
    tasks: Annotated[str, typer.Option(help="Tasks, as for lm_eval.")],
    output_path: Annotated[
        Path, typer.Option("--output_path", "--output-path", help="Folder for the runs.")
    ],
    compressed: Annotated[
        list[str] | None,
        typer.Option(help="Model arguments of a compressed model; may be repeated."),
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(help="Schemes by which to compress the baseline, separated by commas."),
    ] = None,
    maker: MakerOption = None,
    baseline_only: Annotated[
        bool,
        typer.Option(
            "--baseline-only",
            help="Record the baseline alone, for later calls with --baseline OUTPUT_PATH/baseline.",
        ),
    ] = False,
    model: Annotated[
        str,
        typer.Option(help="lm_eval's model type; flips-hf and flips-vllm measure token KL."),
    ] = "flips-hf",
    positions: Annotated[
        Positions, typer.Option(help="Record all scored positions, or a context's last one.")
    ] = Positions.all,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Record the K likeliest tokens only: lower bounds, less disk."),
    ] = None,
    noise_floor: Annotated[
        bool,
        typer.Option(
            "--noise-floor", help="Evaluate the baseline twice, to tell what noise moves."
        ),
    ] = False,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="RULES",
            help="Evaluate compressed models in a random order until these rules are decided, such "
            "as max-flips=0.05,max-loss=0.02, or those of a gate.toml; exits as gate does.",
        ),
    ] = None,
    seed_of_order: Annotated[
        int, typer.Option("--order-seed", help="Seed of the order of --until.")
    ] = 0,
    budget: Annotated[
        int | None, typer.Option(min=1, help="The most questions of --until; by default all.")
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Go on after the verdict of --until, to the budget.")
    ] = False,
    launcher: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:FLAGS]",
            help="Start each evaluation as several processes: accelerate or torchrun, with its "
            "flags, such as torchrun:'--nproc-per-node 2'.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="The result as JSON; by default OUTPUT_PATH/comparison.json."),
    ] = None,
    report: ReportOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace runs of other settings.")
    ] = False,
    no_color: NoColorOption = False,
) -> None:
    """Evaluate a baseline and its compressed models, and compare them.

    Models that --compress makes lie in OUTPUT_PATH/models. Every other flag is lm_eval's own and
    is passed to all evaluations.
    """
    from lm_eval_flips.evaluation.evaluations import Recording
    from lm_eval_flips.evaluation.launchers import waits
    from lm_eval_flips.evaluation.running import run_all
    from lm_eval_flips.evaluation.schedule import schedule_runs

    if waits():
        return  # one process orders the evaluations; the launcher waits for it
    refuse_address(output_path, what="--output_path")
    json_file = json_file or output_path / "comparison.json"
    outputs = Outputs({"--json": json_file, **page_files("--report", report)}, overwrite=True)
    if report is not None:
        from lm_eval_flips.report.page.bundles import refuse_missing

        refuse_missing()  # not only after hours of evaluating
    models = list(compressed or [])
    if compress is not None:
        models += models_of_schemes(compress, baseline, output_path, makers=maker, asked=asked)
    _refuse_no_models(models, baseline_only=baseline_only)
    schedule = schedule_runs(
        baseline=baseline,
        compressed=models,
        tasks=tasks,
        output_path=output_path,
        model=model,
        recording=Recording(positions=positions.value, top=top),
        noise_floor=noise_floor,
        until=_until(until, seed_of_order, budget=budget, go_on=go_on, asked=asked),
        launcher=_launcher(launcher, until=until),
        arguments=context.args,
    )
    outputs.refuse_inputs(folders=[one.folder for one in schedule.runs])
    for note in schedule.notes:
        say(note)
    for line in run_all(schedule, overwrite=overwrite):
        say(line)
    if baseline_only:
        say(f"go on with --baseline {schedule.baseline.folder} --compressed …")
        return
    try:
        gates = _compare(schedule, asked, json_file=json_file, report=report, until=until)
    except NotJudgedError as error:  # what was asked for is done: only a judge can go on
        folders = [schedule.baseline.folder, *(one.folder for one in schedule.compressed)]
        runs = " ".join(shlex.quote(str(folder)) for folder in folders)
        say(f"evaluated; {error}. Go on with:")
        say(f"  lm-eval-flips judge {runs} --judge-model NAME")
        say(f"  lm-eval-flips compare {runs}")
        return
    if gates:
        from lm_eval_flips.report.text.gate import gate_lines

        for line in gate_lines(gates):
            say(line)
        codes = [gate.exit_code for gate in gates]
        raise typer.Exit(1 if 1 in codes else max(codes))


def _compare(
    schedule: Schedule, asked: Asked, *, json_file: Path, report: Path | None, until: str | None
) -> list[Gate]:
    """Compare what was evaluated, print and write it; the verdicts of --until."""
    floor = None if schedule.noise_floor is None else schedule.noise_floor.folder
    runs = load_runs(schedule.baseline.folder, [one.folder for one in schedule.compressed], floor)
    gates = [] if until is None else judged(runs, asked, until)
    result = compared(runs, asked, in_order=until is not None)
    from lm_eval_flips.report.files.document import to_json
    from lm_eval_flips.report.text.terminal import printed

    console().print(printed(result), crop=False)
    write_whole(json_file, to_json(result))
    if report is not None:
        PageAhead(report).write(result)
    return gates


def _refuse_no_models(models: Sequence[str], *, baseline_only: bool) -> None:
    if models and baseline_only:
        raise FlipsError("--baseline-only evaluates no compressed model; leave one of them out")
    if not models and not baseline_only:
        raise FlipsError(
            "no compressed model: give --compressed pretrained=MODEL, or --compress; "
            "--baseline-only records the baseline alone"
        )


def _launcher(given: str | None, *, until: str | None) -> Launcher | None:
    """The launcher that is asked for, or by which this command was started."""
    from lm_eval_flips.evaluation.launchers import Launcher, from_environment

    launcher = from_environment() if given is None else Launcher.of(given)
    if launcher is not None and until is not None:
        raise FlipsError(
            "--until decides while one process evaluates; leave it or the launcher out"
        )
    return launcher


def _until(
    rules: str | None, seed: int, *, budget: int | None, go_on: bool, asked: Asked
) -> Until | None:
    """What is to be decided; refuses what goes with --until alone, and rules that cannot be."""
    from lm_eval_flips.evaluation.in_order import Until

    if rules is None:
        if go_on or budget is not None:
            raise FlipsError("--budget and --continue go together with --until RULES")
        return None
    from lm_eval_flips.gate.thresholds import parse_rules
    from lm_eval_flips.gate.undecidable import refuse_undecidable

    refuse_undecidable(parse_rules(rules))
    options = {
        name: value
        for name, value in asked.options().items()
        if isinstance(value, str | int | float | bool) and name not in ("tasks", "device")
    }
    return Until(rules=rules, seed=seed, budget=budget, go_on=go_on, options=options)
