"""What keeps a gate from passing two runs by their files alone: samples that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from lm_eval_flips.logs.runs import Run
from lm_eval_flips.pairs.findings import Finding


def run_findings(base: Run, run: Run, tasks: Sequence[str], *, glob: str) -> tuple[Finding, ...]:
    """Tasks whose samples are missing, and tasks that only one of the runs holds.

    Args:
        base: the baseline's run.
        run: the compressed run.
        tasks: the baseline's tasks that are compared.
        glob: names of the tasks that were asked for.
    """
    return (
        *_faults("the baseline", base, glob),
        *_faults("the compressed run", run, glob),
        *_one_sided(base, run, tasks, glob),
    )


def _faults(name: str, run: Run, glob: str) -> Iterator[Finding]:
    for fault in run.faults:
        task = fault.task
        if fault.severity == "fault" and task is not None and fnmatchcase(task, glob):
            yield _finding(fault.code, task, f"{name}: {fault.text}", fault.way_out)


def _one_sided(base: Run, run: Run, tasks: Sequence[str], glob: str) -> Iterator[Finding]:
    way_out = "Evaluate both models on the same tasks, or choose them with --tasks"
    for name in tasks:
        if name not in run.tasks:
            yield _finding("task-in-one-run", name, "only the baseline holds it", way_out)
    for name in run.tasks:
        if name not in base.tasks and fnmatchcase(name, glob):
            yield _finding("task-in-one-run", name, "only the compressed run holds it", way_out)


def _finding(code: str, task: str, text: str, way_out: str) -> Finding:
    return Finding(
        code=code,
        task=task,
        filter="",
        text=text,
        way_out=way_out,
        impossible=False,
        keeps_from_passing=True,
    )
