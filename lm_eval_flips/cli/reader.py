"""Reading samples with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lm_eval_flips.logs.remote_files import Progress
    from lm_eval_flips.logs.runs import Run
    from lm_eval_flips.logs.samples import Samples
    from lm_eval_flips.logs.task_log import TaskLog

LONG_READ = 50_000_000  # bytes; shorter reads need no processes and no progress bar


@contextmanager
def fetching(path: Path) -> Iterator[Progress | None]:
    """What is told of an address's files while they are fetched: a bar at a terminal."""
    from lm_eval_flips.logs.addresses import address_of

    if address_of(path) is None:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("fetching", total=None)
        yield lambda size, total: bar.update(task, advance=size, total=total)


def found(path: Path) -> Run:
    """The run at a path, or at an address, whose files are fetched.

    Raises:
        FlipsError: as ``load_run``.
    """
    from lm_eval_flips.logs.runs import load_run

    with fetching(path) as progress:
        return load_run(path, progress=progress)


@contextmanager
def reader(runs: list[Run], tasks: str) -> Iterator[Callable[[TaskLog], dict[str, Samples]]]:
    """Reads samples: long files in processes of their own, with a progress bar at a terminal."""
    from lm_eval_flips.logs.files import size_on_disk
    from lm_eval_flips.logs.prefetch import SampleReader
    from lm_eval_flips.logs.reading import read_samples

    chosen = set(runs[0].select(tasks))
    logs = [run.tasks[name] for name in runs[0].tasks for run in runs if name in run.tasks]
    logs = [log for log in logs if log.name in chosen]
    total = sum(size_on_disk(log.path) for log in logs)
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
