"""`leaderboard`: every compressed run of a folder against one baseline."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_flips.cli.app import Verb, app
from lm_eval_flips.cli.board_files import Files, board_outputs, write_board
from lm_eval_flips.cli.options import (
    Asked,
    NoColorOption,
    OverwriteOption,
    SizeOption,
    takes_options,
)
from lm_eval_flips.cli.output import Outputs, say
from lm_eval_flips.cli.reader import LONG_READ, fetching, found
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.addresses import refuse_address

if TYPE_CHECKING:
    from lm_eval_flips.leaderboard.board import Board
    from lm_eval_flips.logs.runs import Run


@app.command(
    cls=Verb,
    epilog="Example: lm-eval-flips leaderboard runs --baseline runs/baseline --output board.html",
)
@takes_options()
def leaderboard(
    runs_folder: Annotated[
        Path, typer.Argument(help="A folder that holds the runs, or its address.")
    ],
    baseline: Annotated[Path, typer.Option(help="The baseline's run.")],
    asked: Asked,
    output: Annotated[Path | None, typer.Option(help="Write a page, one file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write CSV: a row a model and task.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write the same as Parquet.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write JSON: an object a model.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown table.")] = None,
    size: SizeOption = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where runs are kept as computed; by default in RUNS_FOLDER."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute every run.")] = False,
    overwrite: OverwriteOption = False,
    no_color: NoColorOption = False,
) -> None:
    """List every compressed run of a folder, closest first; again, only new ones are computed.

    An earlier board of this command is replaced; any other file only with --overwrite.
    """
    from lm_eval_flips.report.given_sizes import parse_sizes

    files = Files(output=output, csv=csv, parquet=parquet, json=json, markdown=markdown)
    sizes = parse_sizes(size or ())
    outputs = board_outputs(files, overwrite=overwrite)
    from lm_eval_flips.leaderboard.cache import FOLDER
    from lm_eval_flips.logs.remote import here

    if cache is not None:
        refuse_address(cache, what="--cache")
    with fetching(runs_folder) as progress:
        folder = here(runs_folder, tree=True, progress=progress)
    kept = None if no_cache else cache or Path(folder) / FOLDER
    board = _board(folder, baseline, asked, cache=kept, outputs=outputs, sizes=sizes)
    if not board.runs:
        raise FlipsError("no run could be compared, so there is no board")
    write_board(board, files)
    for file in files.given:
        say(str(file))


def _board(
    folder: Path,
    baseline: Path,
    asked: Asked,
    *,
    cache: Path | None,
    outputs: Outputs,
    sizes: Mapping[str, int],
) -> Board:
    """Find, compare and rank; says how many runs are on the board, and every one that is not."""
    # small tensors: torch's threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from lm_eval_flips.comparison.options import Options
    from lm_eval_flips.leaderboard.cache import Cache
    from lm_eval_flips.leaderboard.discovery import find_runs
    from lm_eval_flips.leaderboard.gathering import gather

    base = found(baseline)
    floor = None if asked.noise_floor is None else found(asked.noise_floor)
    compressed, left_out = find_runs(folder, base)
    runs = [own.run for own in compressed]
    outputs.refuse_inputs([base, *runs, *([] if floor is None else [floor])])
    options = Options(**asked.options(floor))
    kept = Cache(cache, base, options)
    key = kept.key_of_all(runs)
    computed: list[Run] = []
    with _progress(len(runs)) as advance:

        def done(run: Run, cached: bool) -> None:
            computed.extend([] if cached else [run])
            advance()

        workers = _workers(base, runs)
        entries = gather(base, runs, options, cache=kept, workers=workers, done=done)
    # only now: these import torch, and processes are forked before
    from lm_eval_flips.comparison.model_sizes import sizes_of
    from lm_eval_flips.leaderboard.board import assemble
    from lm_eval_flips.leaderboard.ranked import Ranked
    from lm_eval_flips.report.board.words import board_lines

    known = sizes_of(base, runs, given=sizes)
    rank = Ranked(kept, key, len(runs))
    board = assemble(base, compressed, entries, left_out, sizes=known, rank=rank)
    count = len(board.runs)
    groups = f" in {board.groups} group{'s' * (board.groups > 1)}" if board.groups else ""
    say(
        f"{count} compressed run{'s' * (count != 1)} against {board.baseline.model}{groups}; "
        f"{len(computed)} computed, {len(runs) - len(computed)} kept"
    )
    for line in board_lines(board):
        say(line)
    for own in board.left_out:
        say(f"left out: {own.folder}: {own.reason}", error=True)
    if kept.problem is not None:
        say(f"computed runs are not kept: {kept.problem}", error=True)
    return board


def _workers(base: Run, runs: list[Run]) -> int:
    """Processes for long files; short ones are read faster than a process starts."""
    from lm_eval_flips.logs.files import size_on_disk

    logs = [path for run in (base, *runs) for path in run.sample_paths.values()]
    total = sum(map(size_on_disk, logs))
    return 0 if total < LONG_READ else os.cpu_count() or 1


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
