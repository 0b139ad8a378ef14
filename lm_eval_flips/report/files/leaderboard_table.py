"""Board -> a flat table for CSV and Parquet: one row a model and task, the pool being "pooled".

Numbers have the keys of ``comparison/numbers.py``, which mean the same in Python and in the JSON
document. Shares lie in 0..1, distances are nats, ``*_low`` and ``*_high`` are the ends of 95 %
intervals; undefined is an empty cell (CSV) or null (Parquet). A row is known by ``path``, ``level``
and ``task``.

baseline_model, baseline_path, model, path
    As the harness logged the models; the results files of both runs.
run, scheme, date
    The run's folder below the folder of all runs; how the model was compressed, "unknown" where
    neither its files nor its arguments nor its name tell; when it was evaluated.
level, task, filter, metric, higher_is_better
    "task", "group" (of the harness) or "pooled"; the task's or group's name, or "pooled"; what was
    compared. A task of several metrics is told by its first binary one.
numbers
    Every number of the list that is no detail, each with its interval where it has one.
token_kl_first_position_only, token_lower_bound_top
    Whether only first positions are known; K where token_kl is a lower bound from the K likeliest
    tokens.
equivalence_verdict, test, error_method
    "equivalent", "different", "both" or "undecided", where a margin was given; by which test p is,
    and which samples are taken as independent.
place, group_first, group_last, ranked_score, ranked_n, p_holm_runs
    Of the pool only. The place in the order, from 1; the first and the last group that the run is
    in: runs that share one cannot be told apart at 5 %. The score over the samples that all runs
    have, which is what they are ranked by, and the number of these. p_value adjusted by Holm over
    the runs of the board.
family, bits, bytes, bits_on_disk
    What the scheme belongs to, "unknown" where nothing tells; bits of a compressed weight; bytes of
    the model's weights, and bits for each of the baseline's weights, where these are known.
pareto_flips, pareto_choice_kl, best_of_family
    Whether no other model, nor the baseline, is both as small and as near by flips or by choice KL,
    and better in one; whether it is the closest of its family.
dropped, not_compared, settings_that_differ, warnings
    Samples of the run that were left out; tasks that only one of the runs holds; settings that
    change scores without changing prompts; the codes of the run's warnings. Semicolons between
    several.

In CSV, text that a spreadsheet would run as a formula has an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import lru_cache
from math import isnan
from typing import TYPE_CHECKING, Any

from lm_eval_flips.comparison.numbers import SPECS
from lm_eval_flips.leaderboard import MADE_BY
from lm_eval_flips.leaderboard.board import Board, Placed
from lm_eval_flips.leaderboard.line import Line
from lm_eval_flips.report.printable import csv_cell

if TYPE_CHECKING:
    import pyarrow as pa

BEFORE = ("baseline_model", "baseline_path", "model", "path", "run", "scheme", "date")
NAMES = ("level", "task", "filter", "metric")
NUMBERS = tuple(spec for spec in SPECS if not spec.detail)
BESIDE = {
    "token_kl_first_position_only": bool,
    "token_lower_bound_top": int,
    "equivalence_verdict": str,
    "test": str,
    "error_method": str,
}
OF_MODEL = {
    "family": str,
    "bits": float,
    "bytes": int,
    "bits_on_disk": float,
    "pareto_flips": bool,
    "pareto_choice_kl": bool,
    "best_of_family": bool,
}
AFTER = {
    "place": int,
    "group_first": int,
    "group_last": int,
    "ranked_score": float,
    "ranked_n": int,
    "p_holm_runs": float,
    "dropped": int,
    "not_compared": str,
    "settings_that_differ": str,
    "warnings": str,
}


@lru_cache
def columns() -> dict[str, type]:
    """Every column in order, and the type of its values.

    Example:
        >>> list(columns())[:3]
        ['baseline_model', 'baseline_path', 'model']
        >>> "flips" in columns(), "flips_low" in columns()
        (True, True)
    """
    found: dict[str, type] = dict.fromkeys((*BEFORE, *NAMES), str) | {"higher_is_better": bool}
    for spec in NUMBERS:
        found[spec.key] = int if spec.unit == "count" else float
        if not spec.no_interval:
            found |= {f"{spec.key}_low": float, f"{spec.key}_high": float}
    return {**found, **BESIDE, **OF_MODEL, **AFTER}


def rows(board: Board) -> Iterator[dict[str, Any]]:
    """Every row, in the order of the board; the pool after a run's tasks and groups."""
    names = tuple(columns())
    for run in board.runs:
        before = {
            "baseline_model": board.baseline.model,
            "baseline_path": board.baseline.path,
            "model": run.model,
            "path": run.path,
            "run": run.folder,
            "scheme": run.scheme,
            "date": run.date,
        }
        after = of_model(run) | {
            "dropped": run.entry.left_out,
            "not_compared": "; ".join(run.entry.not_compared),
            "settings_that_differ": settings_text(run),
            "warnings": "; ".join(dict.fromkeys(own.code for own in run.entry.warnings)),
        }
        for line in run.entry.lines:
            ranked = _ranked(board, run) if line.level == "pooled" else {}
            found = {**before, **_flat(line), **ranked, **after}
            yield {name: _defined(found.get(name)) for name in names}


def of_model(run: Placed) -> dict[str, Any]:
    """Scheme, size and standing of a run's model, by the names of their columns."""
    own = run.standing
    return {
        "family": run.family,
        "bits": own.bits,
        "bytes": None if own.size is None else own.size.bytes,
        "bits_on_disk": None if own.size is None else own.size.bits_per_weight,
        "pareto_flips": own.pareto["flips"],
        "pareto_choice_kl": own.pareto["choice_kl"],
        "best_of_family": own.best_of_family,
    }


def to_csv(board: Board) -> bytes:
    """The table as CSV (UTF-8, a header, numbers with all their digits)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns())
    for row in rows(board):
        writer.writerow(
            csv_cell(value) if isinstance(value, str) else value for value in row.values()
        )
    return text.getvalue().encode("utf-8", errors="replace")


def to_parquet_table(board: Board) -> pa.Table:
    """The same table for Parquet, its types given and not guessed."""
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns().items()])
    schema = schema.with_metadata({"made_by": MADE_BY})
    every = list(rows(board))
    return pa.table({name: [row[name] for row in every] for name in columns()}, schema=schema)


def settings_text(run: Placed) -> str:
    """The settings in which a run differs from the baseline, in one line."""
    return "; ".join(
        f"{found.setting} {found.baseline!s:.40} → {found.compressed!s:.40}"
        for found in run.entry.settings
    )


def _flat(line: Line) -> dict[str, Any]:
    found = {name: getattr(line, name) for name in (*NAMES, "higher_is_better", *BESIDE)}
    for spec in NUMBERS:
        number = line.numbers[spec.key]
        found[spec.key] = number.value
        if not spec.no_interval:
            found[f"{spec.key}_low"], found[f"{spec.key}_high"] = number.interval
    return found


def _ranked(board: Board, run: Placed) -> dict[str, Any]:
    first, last = run.groups or (None, None)
    return {
        "place": run.standing.place,
        "group_first": first,
        "group_last": last,
        "ranked_score": run.ranked_score,
        "ranked_n": board.ranked_n if board.ranked else None,
        "p_holm_runs": run.p_holm_runs,
    }


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and isnan(value) else value
