"""Several runs a side: --baseline RUN... --compressed RUN..., of the verbs that compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lm_eval_flips.cli.app import Verb
from lm_eval_flips.errors import FlipsError

BASELINE, COMPRESSED = "--baseline", "--compressed"
BETWEEN = "\0"  # of the paths of one side: no argument of a command can hold it


class SidesVerb(Verb):
    """A verb that takes its runs as arguments, or each side's by an option that takes several."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; each side's first run stands where a single run would."""
        sides, rest = _sides(args)
        if not sides:
            return super().parse_args(ctx, args)
        order = sorted(sides, key=lambda side: side[0] != BASELINE)  # the baseline's comes first
        options = [word for name, paths in order for word in (name, BETWEEN.join(paths))]
        firsts = [paths[0] for _, paths in order if paths]
        return super().parse_args(ctx, [*options, *firsts, *rest])


def _sides(args: Sequence[str]) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """The paths of each option for a side, in order, and the other arguments."""
    sides: list[tuple[str, list[str]]] = []
    rest: list[str] = []
    open_: list[str] | None = None
    for place, word in enumerate(args):
        name, given, value = word.partition("=")
        if word == "--":
            return sides, [*rest, *args[place:]]
        if name in (BASELINE, COMPRESSED):
            open_ = [value] if given else []
            sides.append((name, open_))
        elif word.startswith("-"):
            open_ = None
            rest.append(word)
        else:
            (rest if open_ is None else open_).append(word)
    return sides, rest


BaselineRuns = Annotated[
    str | None,
    typer.Option(
        BASELINE,
        metavar="RUN...",
        help="Runs of the baseline that differ by the seed alone: its answers are drawn.",
    ),
]
CompressedRuns = Annotated[
    list[str] | None,
    typer.Option(
        COMPRESSED, metavar="RUN...", help="The same of a compressed model; again for another."
    ),
]


def sides_of(
    baseline: Path, compressed: Sequence[Path], drawn: str | None, others: Sequence[str] | None
) -> list[list[Path]]:
    """The runs of each side, the baseline's first; of one where nothing else was given.

    Raises:
        FlipsError: runs are given in both ways, or an option is without a run.
    """
    if drawn is None and not others:
        return [[baseline], *([path] for path in compressed)]
    given = [part.split(BETWEEN) if part else [] for part in (drawn or "", *(others or ()))]
    if drawn is None or not others or not all(given):
        raise FlipsError(
            f"give the runs of both sides: {BASELINE} runs/s1 runs/s2 {COMPRESSED} runs/q1 runs/q2"
        )
    if [str(path) for path in (baseline, *compressed)] != [paths[0] for paths in given]:
        raise FlipsError(f"give all runs by {BASELINE} and {COMPRESSED}, or none of them")
    return [[Path(path) for path in paths] for paths in given]
