"""The command line: verbs, printing, exit codes. No arithmetic.

Exit codes: 0 done, 2 misuse or input that cannot be judged. Heavy modules are imported by the verb
that needs them, so that --help answers at once.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.errors import FlipsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from lm_eval_flips.report.flipped import FlippedSample
    from lm_eval_flips.runs import Run, TaskLog
    from lm_eval_flips.samples import Samples

LONG_READ = 50_000_000  # bytes; shorter reads need no processes and no progress bar

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Which answers did compression change? Flips and KL-divergence of paired lm_eval runs.",
    epilog="[bold]Example:[/bold] lm-eval-flips compare runs/baseline runs/int8 runs/int4",
)
tasks_app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode="rich",
    help="Print the folder of flip tasks, for lm_eval's --include_path.",
    epilog='[bold]Example:[/bold] lm_eval run --include_path "$(lm-eval-flips tasks)" '
    "--tasks flips_mmlu --metadata baseline=runs/baseline ...",
)
app.add_typer(tasks_app, name="tasks")


class OnMismatch(str, Enum):
    """What to do with samples that cannot be paired."""

    error = "error"
    intersect = "intersect"


class OnNan(str, Enum):
    """What to do with samples whose numbers are nan."""

    error = "error"
    exclude = "exclude"


class JudgeBy(str, Enum):
    """What a threshold is held against."""

    interval = "interval"
    point = "point"


class Positions(str, Enum):
    """Which scored positions a reference keeps."""

    all = "all"
    last = "last"


# options that several verbs share
MetricOption = Annotated[str | None, typer.Option(help="Only this metric, such as acc_norm.")]
TasksOption = Annotated[str, typer.Option(help="Glob of tasks, or a group, to compare.")]
OnNanOption = Annotated[
    OnNan, typer.Option(help="Samples with a nan or +inf: an error, or left out.")
]
IdenticalOption = Annotated[
    bool, typer.Option("--allow-identical", help="Accept two runs that agree in everything.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace output files that exist.")
]
MarginOption = Annotated[
    float | None,
    typer.Option(help="Say whether scores are the same within this margin, such as 0.01."),
]


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
    overwrite: OverwriteOption = False,
    device: Annotated[str, typer.Option(help="Device of the computation: cpu, cuda.")] = "cpu",
) -> None:
    """Compare compressed runs with their baseline, sample by sample."""
    for file in (json_file, per_sample):
        _refuse_existing(file, overwrite=overwrite)
    from lm_eval_flips.runs import load_run

    runs = [load_run(path) for path in (baseline, *compressed)]
    floor = None if noise_floor is None else load_run(noise_floor)
    with _reader([*runs, *([] if floor is None else [floor])], tasks) as read:
        # only now, while the files are being read: this import takes as long as reading them
        from lm_eval_flips.comparing import compare as compare_runs
        from lm_eval_flips.report.table import tables

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
            device=device,
            read=read,
        )
    console = _console()
    console.print(tables(result), crop=False)
    if show_flips:
        from lm_eval_flips.report.flipped import flipped_samples

        for sample in flipped_samples(result, limit=show_flips):
            _print_flip(console, sample)
    if json_file:
        from lm_eval_flips.report.document import to_json

        _write(json_file, to_json(result))
    if per_sample:
        import pyarrow.parquet

        from lm_eval_flips.report.per_sample import to_table

        with _writing(per_sample):
            pyarrow.parquet.write_table(to_table(result), per_sample)


@app.command(epilog="[bold]Example:[/bold] lm-eval-flips gate runs/base runs/int8 --max-flips 0.03")
def gate(
    baseline: Annotated[Path, typer.Argument(help="The baseline's run.")],
    compressed: Annotated[list[Path], typer.Argument(help="One or more compressed runs.")],
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
    max_loss: Annotated[float | None, typer.Option(help="Largest drop of the score.")] = None,
    equivalence_margin: Annotated[
        float | None, typer.Option(help="Largest change of the score in either direction.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with thresholds, also of single tasks.")
    ] = None,
    judge_by: Annotated[
        JudgeBy | None,
        typer.Option("--judge", help="Hold thresholds against the 95 % interval or the point."),
    ] = None,
    metric: MetricOption = None,
    tasks: TasksOption = "*",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write JSON.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Append Markdown, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
    on_nan: OnNanOption = OnNan.error,
    allow_identical: IdenticalOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Pass (0), fail (1) or cannot be judged (2): compressed runs against thresholds, for CI."""
    for file in (json_file, junit):
        _refuse_existing(file, overwrite=overwrite)
    from lm_eval_flips import gating

    thresholds = gating.Thresholds(
        max_flips=max_flips,
        max_all_flips=max_all_flips,
        max_negative_flip_rate=max_negative_flip_rate,
        max_choice_kl=max_choice_kl,
        max_token_kl=max_token_kl,
        max_loss=max_loss,
        equivalence_margin=equivalence_margin,
    )
    read = gating.GateConfig() if config is None else gating.load_gate(config)
    asked = gating.with_thresholds(read, thresholds)
    if judge_by is not None:
        asked = gating.judged_by(asked, judge_by.value)
    gating.refuse_no_rule(asked)
    from lm_eval_flips.comparing import compare as compare_runs
    from lm_eval_flips.report import gate as report

    result = compare_runs(
        baseline,
        *compressed,
        metric=metric,
        tasks=tasks,
        on_nan=on_nan.value,
        allow_identical=allow_identical,
        equivalence_margin=gating.margin_of(asked),
    )
    gates = gating.judge(result, asked)
    for line in report.gate_lines(gates):
        typer.echo(line)
    if json_file:
        _write(json_file, report.gate_json(gates))
    if junit:
        _write(junit, report.gate_junit(gates))
    if markdown:
        with _writing(markdown), markdown.open("a", encoding="utf-8") as summary:
            summary.write(report.gate_markdown(gates))
    codes = [found.exit_code for found in gates]
    raise typer.Exit(1 if 1 in codes else max(codes))


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
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="[bold]Example:[/bold] lm-eval-flips run --baseline pretrained=B --compressed "
    "pretrained=Q --tasks mmlu --output_path runs --limit 100",
)
def run(
    context: typer.Context,
    baseline: Annotated[
        str, typer.Option(help="Model arguments of the baseline, or a folder with its run.")
    ],
    compressed: Annotated[
        list[str], typer.Option(help="Model arguments of a compressed model; may be repeated.")
    ],
    tasks: Annotated[str, typer.Option(help="Tasks, as for lm_eval.")],
    output_path: Annotated[
        Path, typer.Option("--output_path", "--output-path", help="Folder for the runs.")
    ],
    model: Annotated[
        str, typer.Option(help="lm_eval's model type; only flips-hf measures token KL.")
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
    equivalence_margin: MarginOption = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="The result as JSON; by default OUTPUT_PATH/comparison.json."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace runs of other settings.")
    ] = False,
) -> None:
    """Evaluate a baseline and its compressed models, and compare them.

    Every other flag is lm_eval's own and is passed to all evaluations.
    """
    from lm_eval_flips.evaluation import plan_run, run_all

    plan = plan_run(
        baseline=baseline,
        compressed=compressed,
        tasks=tasks,
        output_path=output_path,
        model=model,
        positions=positions.value,
        top=top,
        noise_floor=noise_floor,
        arguments=context.args,
    )
    if plan.note:
        typer.echo(plan.note)
    for line in run_all(plan, overwrite=overwrite):
        typer.echo(line)
    from lm_eval_flips.comparing import compare as compare_runs
    from lm_eval_flips.report.document import to_json
    from lm_eval_flips.report.table import tables

    result = compare_runs(
        plan.baseline.folder,
        *(one.folder for one in plan.compressed),
        noise_floor=None if plan.noise_floor is None else plan.noise_floor.folder,
        equivalence_margin=equivalence_margin,
    )
    _console().print(tables(result), crop=False)
    _write(json_file or output_path / "comparison.json", to_json(result))


@tasks_app.callback()
def tasks(context: typer.Context) -> None:
    """Print the folder of flip tasks, for lm_eval's --include_path."""
    if context.invoked_subcommand is None:
        from lm_eval_flips.task_folder import task_folder

        typer.echo(task_folder())


@tasks_app.command(
    epilog="[bold]Example:[/bold] lm-eval-flips tasks make boolq 'blimp_*' --output my_tasks"
)
def make(
    names: Annotated[
        list[str], typer.Argument(help="Tasks, groups, tags or globs of the catalogue.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the YAML files.")],
    include_path: Annotated[
        Path | None,
        typer.Option(
            "--include_path", "--include-path", help="Further task YAMLs, as for lm_eval."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a flips_NAME group for any task, group, tag or glob of the catalogue."""
    from lm_eval_flips.harness.catalogue import group_files

    for name, content in group_files(names, include_path=include_path).items():
        file = output / f"{name}.yaml"
        _refuse_existing(file, overwrite=overwrite)
        _write(file, content.encode())
        typer.echo(file)


def main() -> None:
    """Run the command line; a FlipsError is printed without a traceback and exits with 2."""
    try:
        app()
    except FlipsError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    finally:
        # the last collection of all that torch made takes a tenth of a comparison's time
        gc.freeze()


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no width: one line a row, to be searched
    return console


def _refuse_existing(file: Path | None, *, overwrite: bool) -> None:
    if file is not None and file.exists() and not overwrite:
        raise FlipsError(f"'{file}' exists; name another file, or replace it with --overwrite")


def _write(file: Path, content: bytes) -> None:
    with _writing(file):
        file.write_bytes(content)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise FlipsError(f"'{file}' cannot be written: {error.strerror or error}") from None


@contextmanager
def _reader(runs: list[Run], tasks: str) -> Iterator[Callable[[TaskLog], dict[str, Samples]]]:
    """Reads samples: long files in processes of their own, with a progress bar at a terminal."""
    from lm_eval_flips.reading import SampleReader, read_samples

    chosen = set(runs[0].select(tasks))
    logs = [run.tasks[name] for name in runs[0].tasks for run in runs if name in run.tasks]
    logs = [log for log in logs if log.name in chosen]
    total = sum(log.path.stat().st_size for log in logs)
    if total < LONG_READ:
        yield read_samples
        return
    with SampleReader(workers=min(len(logs), os.cpu_count() or 1)) as read:
        read.prefetch(logs)
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("reading samples", total=total)
            read.progress = lambda size: bar.advance(task, size)
            yield read


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
