"""Board -> JSON: the baseline, what the order goes by, and every row of the table by its run."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from lm_eval_flips.leaderboard import MADE_BY
from lm_eval_flips.leaderboard.board import Board
from lm_eval_flips.report.files.leaderboard_table import BEFORE, of_model, rows

VERSION = 1
OF_BASELINE = ("baseline_model", "baseline_path")


def to_json(board: Board) -> bytes:
    """The columns of the CSV table as objects: a run holds its rows, which are not repeated.

    Undefined and infinite numbers are null, for JSON has neither nan nor inf.
    """
    document = {
        "made_by": MADE_BY.decode(),
        "version": VERSION,
        "baseline": {
            "model": board.baseline.model,
            "path": board.baseline.path,
            "bytes": None if board.size is None else board.size.bytes,
        },
        "distance": board.distance or None,
        "runs": _runs(board),
        "left_out": [
            {"run": own.folder, "model": own.model, "reason": own.reason} for own in board.left_out
        ],
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", errors="replace")


def _runs(board: Board) -> list[dict[str, Any]]:
    by_path: dict[str, list[dict[str, Any]]] = {run.path: [] for run in board.runs}
    for row in rows(board):
        by_path[row["path"]].append({name: _plain(value) for name, value in row.items()})
    found = []
    for run in board.runs:
        own = by_path[run.path]
        of_run = [*(name for name in BEFORE if name not in OF_BASELINE), *of_model(run)]
        apart = {*BEFORE, *of_run}
        found.append(
            {name: own[0][name] for name in of_run}
            | {
                "rows": [
                    {name: value for name, value in row.items() if name not in apart} for row in own
                ]
            }
        )
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return None
    return value
