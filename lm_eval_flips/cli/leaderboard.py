"""`leaderboard`: every compressed run of a folder against one baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    TasksOption,
)
from lm_eval_flips.cli.output import write, writing
from lm_eval_flips.cli.reader import LONG_READ
from lm_eval_flips.errors import FlipsError

if TYPE_CHECKING:
    from lm_eval_flips.leaderboard.board import Board
    from lm_eval_flips.runs import Run

HEAD, FOOT = 4096, 65536  # bytes in which a file says that it is a board of ours


@app.command(
    epilog="[bold]Example:[/bold] lm-eval-flips leaderboard runs --baseline runs/baseline "
    "--output board.html"
)
def leaderboard(
    runs_folder: Annotated[Path, typer.Argument(help="A folder that holds the runs.")],
    baseline: Annotated[Path, typer.Option(help="The baseline's run.")],
    output: Annotated[Path | None, typer.Option(help="Write a page, one file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write CSV: a row a model and task.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the same as Parquet.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown table.")] = None,
    equivalence_margin: MarginOption = None,
    metric: MetricOption = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="Only this filter, such as strict-match.")
    ] = None,
    tasks: TasksOption = "*",
    cluster: ClusterOption = None,
    on_mismatch: Annotated[
        OnMismatch, typer.Option(help="Samples that differ: the run is left out, or they are.")
    ] = OnMismatch.error,
    on_nan: OnNanOption = OnNan.error,
    allow_identical: IdenticalOption = False,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where runs are kept as computed; by default in RUNS_FOLDER."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute every run.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Rank every compressed run of a folder; again with new runs, only those are computed.

    An earlier board of this command is replaced; any other file only with --overwrite.
    """
    outputs = [file for file in (output, csv, parquet, markdown) if file is not None]
    if not outputs:
        raise FlipsError("nothing to write; give --output, --csv, --parquet or --markdown")
    if not overwrite:
        _refuse_others(outputs)
    from lm_eval_flips.leaderboard.asked import Asked
    from lm_eval_flips.leaderboard.cache import FOLDER, Cache
    from lm_eval_flips.leaderboard.discovery import find_runs
    from lm_eval_flips.leaderboard.gathering import gather
    from lm_eval_flips.runs import load_run

    asked = Asked(
        metric=metric,
        filter=filter_,
        tasks=tasks,
        on_mismatch=on_mismatch.value,
        on_nan=on_nan.value,
        allow_identical=allow_identical,
        equivalence_margin=equivalence_margin,
        cluster=cluster,
    )
    base = load_run(baseline)
    found, left_out = find_runs(runs_folder, base)
    runs = [own.run for own in found]
    kept = Cache(None if no_cache else cache or runs_folder / FOLDER, base, asked)
    computed: list[Run] = []
    with _progress(len(runs)) as advance:

        def done(run: Run, cached: bool) -> None:
            computed.extend([] if cached else [run])
            advance()

        workers = _workers(base, runs)
        entries = gather(base, runs, asked, cache=kept, workers=workers, done=done)
    from lm_eval_flips.leaderboard.board import assemble

    board = assemble(base, found, entries, left_out)
    _report(board, computed=len(computed), kept=len(runs) - len(computed), problem=kept.problem)
    if not board.runs:
        raise FlipsError("no run could be compared, so there is no board")
    _write(board, output=output, csv=csv, parquet=parquet, markdown=markdown)
    for file in outputs:
        typer.echo(file)


def _write(
    board: Board,
    *,
    output: Path | None,
    csv: Path | None,
    parquet: Path | None,
    markdown: Path | None,
) -> None:
    from lm_eval_flips.report.leaderboard_table import to_csv, to_parquet_table

    if csv is not None:
        write(csv, to_csv(board))
    if parquet is not None:
        import pyarrow.parquet

        with writing(parquet):
            pyarrow.parquet.write_table(to_parquet_table(board), parquet)
    if markdown is not None:
        from lm_eval_flips.report.leaderboard_markdown import to_markdown

        write(markdown, to_markdown(board).encode())
    if output is not None:
        from lm_eval_flips.report.leaderboard_page import to_html

        write(output, to_html(board).encode())


def _report(board: Board, *, computed: int, kept: int, problem: str | None) -> None:
    """How many runs are on the board, and every one that is not."""
    count = len(board.runs)
    groups = f" in {board.groups} group{'s' * (board.groups > 1)}" if board.groups else ""
    typer.echo(
        f"{count} compressed run{'s' * (count != 1)} against {board.baseline.model}{groups}; "
        f"{computed} computed, {kept} kept"
    )
    for own in board.left_out:
        typer.echo(f"left out: {own.folder}: {own.reason}", err=True)
    if problem is not None:
        typer.echo(f"computed runs are not kept: {problem}", err=True)


def _refuse_others(files: list[Path]) -> None:
    """Refuse files that are no earlier board: those are not replaced unasked."""
    for file in files:
        if file.exists() and not _own(file):
            raise FlipsError(
                f"'{file}' exists and is no board of this command; name another file, or replace "
                "it with --overwrite"
            )


def _own(file: Path) -> bool:
    """Whether a file is a board that this command wrote: each kind says so in its own way."""
    from lm_eval_flips.leaderboard import CSV_BEGINS, MADE_BY, MARKDOWN_BEGINS

    content = file.read_bytes() if file.is_file() else b""
    if content.startswith(b"PAR1"):
        return MADE_BY in content[-FOOT:]
    page = b'content="' + MADE_BY + b'"' in content[:HEAD] and content.startswith(
        b"<!doctype html>"
    )
    return page or content.startswith((CSV_BEGINS, MARKDOWN_BEGINS))


def _workers(base: Run, runs: list[Run]) -> int:
    """Processes for long files; short ones are read faster than a process starts."""
    import os

    logs = [path for run in (base, *runs) for path in run.sample_paths.values()]
    total = sum(path.stat().st_size for path in logs)
    return 0 if total < LONG_READ else min(len(runs), os.cpu_count() or 1)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar at a terminal, runs being its steps; its thread starts after all processes have."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("comparing runs", total=total)

    def advance() -> None:
        bar.start()
        bar.advance(task)

    try:
        yield advance
    finally:
        bar.stop()
