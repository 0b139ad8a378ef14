"""Names as they are shown, of models, runs and tasks; cut in the middle where room is short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from rich.cells import cell_len, set_cell_size

from lm_eval_flips.comparison.result import Comparison, RunComparison, RunSummary
from lm_eval_flips.leaderboard.board import Board
from lm_eval_flips.logs.names import last_name

ELLIPSIS = "…"
# Where a name is cut, as a share of what stays: the first of these that tells all names apart.
CUTS = (0.5, 0.3, 0.7, 0.1, 0.9, 0.0, 1.0)


def model_name(model: str) -> str:
    """A model as it is known to others: a local one, logged by its whole path, by its last part.

    Example:
        >>> model_name("org/model-int4"), model_name("/models/model-int4")
        ('org/model-int4', 'model-int4')
    """
    local = model.startswith(("/", ".", "~")) or "\\" in model
    return last_name(model) if local else model


def run_names(comparison: Comparison) -> list[str]:
    """A distinct short name for each compressed run.

    The model's last name without what all share with the baseline; where models are alike, the
    name of the run's folder.
    """
    names = [last_name(run.model) for run in comparison.compressed]
    if len(set(names)) < len(names):
        names = [_folder(run) for run in comparison.compressed]
    return distinct(_without(names, last_name(comparison.baseline.model)))


def board_names(board: Board) -> dict[str, str]:
    """A short name for each run of a leaderboard, by its path: without what all share."""
    names = _without([run.name for run in board.runs], last_name(board.baseline.model))
    return {run.path: name for run, name in zip(board.runs, distinct(names), strict=True)}


def distinct(names: Iterable[str]) -> list[str]:
    """The names, those that were there before with a number.

    Example:
        >>> distinct(["int4", "int8", "int4"])
        ['int4', 'int8', 'int4 (2)']
    """
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return numbered


def shortened(names: Sequence[str], width: int) -> list[str]:
    """The names, none wider than ``width`` cells, cut in the middle so that all stay distinct.

    Names that no cut tells apart get a number in place of their end.

    Example:
        >>> shortened(["mmlu_college_biology", "arc_easy"], 12)
        ['mmlu_c…ology', 'arc_easy']
    """
    distinct_names = list(dict.fromkeys(names))
    for share in CUTS:
        cut = [_cut(name, width, share) for name in distinct_names]
        if len(set(cut)) == len(cut):
            break
    else:
        digits = len(str(len(distinct_names)))
        cut = [
            name
            if cell_len(name) <= width
            else f"{_cut(name, max(1, width - digits), 1.0)}{place:0{digits}}"
            for place, name in enumerate(distinct_names, 1)
        ]
    by_name = dict(zip(distinct_names, cut, strict=True))
    return [by_name[name] for name in names]


def _cut(name: str, width: int, share: float) -> str:
    if cell_len(name) <= width:
        return name
    room = max(0, width - 1)
    head = round(room * share)
    # cells, not characters: a character of CJK is two wide, and half of it is a space
    begin = set_cell_size(name, head).rstrip() if head else ""
    end = set_cell_size(name[::-1], room - head).rstrip()[::-1] if room > head else ""
    return f"{begin}{ELLIPSIS}{end}"


def _folder(run: RunComparison | RunSummary) -> str:
    # lm_eval writes <output folder>/<model>/results_<date>.json
    parents = PurePath(run.path).parts[:-2]
    return parents[-1] if parents else PurePath(run.path).name


def _without(names: list[str], prefix: str) -> list[str]:
    """The names without a prefix that all of them go on from."""
    rest = [name[len(prefix) :].lstrip("-_. ") for name in names if name.startswith(prefix)]
    return rest if len(rest) == len(names) and all(rest) else names
