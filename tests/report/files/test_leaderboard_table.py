"""The flat table: documented columns, CSV and Parquet alike, and nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
from math import isnan
from pathlib import Path

import pyarrow as pa
import pytest

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.leaderboard import CSV_BEGINS
from lm_eval_flips.leaderboard.board import Board
from lm_eval_flips.report.columns import COLUMN
from lm_eval_flips.report.files import leaderboard_table
from lm_eval_flips.report.files.leaderboard_table import columns, rows, to_csv, to_parquet_table
from tests.generators.folders import board_of, write_folder, write_one


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """Three runs of three tasks in a group, one of which lacks a task."""
    folder = write_folder(tmp_path_factory.mktemp("runs"))
    write_one(folder, "nf4", 0.5, tasks=("arc", "law"), max_length=1024)
    return board_of(folder, asked=Options(equivalence_margin=0.05))


def read(content: bytes) -> list[dict[str, str]]:
    """A CSV's rows."""
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_there_is_one_row_a_model_and_task(board: Board) -> None:
    """Tasks, the group, and the pool, whose name is "pooled"; keys are unique."""
    found = read(to_csv(board))
    keys = [(row["path"], row["level"], row["task"]) for row in found]
    assert len(set(keys)) == len(keys) == 3 * 5 + 3
    first = [(row["level"], row["task"]) for row in found[:5]]
    assert first == [
        ("task", "arc"),
        ("task", "law"),
        ("task", "maths"),
        ("group", "all"),
        ("pooled", "pooled"),
    ]
    assert found[0]["model"] == board.runs[0].model


def test_numbers_keep_all_their_digits(board: Board) -> None:
    """Read back, each is the very number; the undefined is an empty cell."""
    found = read(to_csv(board))
    for run in board.runs:
        own = [row for row in found if row["path"] == run.path]
        for line, row in zip(run.entry.lines, own, strict=True):
            assert float(row["score_change"]) == line.value("score_change")
            assert float(row["flips_low"]) == line.numbers["flips"].interval.low
            assert float(row["choice_kl"]) == line.value("choice_kl")
            assert int(row["correct_to_incorrect"]) == line.value("correct_to_incorrect")
            assert row["token_kl"] == ""
            assert row["equivalence_verdict"] == line.equivalence_verdict
            assert (row["p_holm"] == "") == isnan(line.value("p_holm"))
            assert (row["place"] == "") == (line.level != "pooled")


def test_parquet_holds_the_same(board: Board) -> None:
    """Typed: null for the undefined, also in a column that has nothing."""
    table = to_parquet_table(board)
    assert table.column_names == list(columns())
    assert table.to_pylist() == list(rows(board))
    assert table.schema.field("token_kl").type == pa.float64()
    assert table.schema.field("token_lower_bound_top").type == pa.int64()
    assert table.schema.field("higher_is_better").type == pa.bool_()
    assert table.column("token_kl").null_count == len(table)


def test_every_column_is_documented() -> None:
    """Numbers in the list of columns; the others, by their name, where they are made."""
    text = leaderboard_table.__doc__ or ""
    others = 0
    for name in columns():
        plain = name.removesuffix("_low").removesuffix("_high")
        if plain in COLUMN:
            assert COLUMN[plain].meaning
            continue
        assert name in text.replace(",", " ").replace("`", " ").split(), name
        others += 1
    assert others > 20


def test_the_file_begins_as_its_own_kind_does(board: Board) -> None:
    """So that the next board knows that it may replace it."""
    assert to_csv(board).startswith(CSV_BEGINS)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx", "=HYPERLINK(1)"])
def test_a_name_is_no_formula(tmp_path: Path, name: str) -> None:
    """An apostrophe stands before it in CSV; in Parquet it is itself; numbers stay numbers."""
    write_folder(tmp_path, {})
    write_one(tmp_path, "int4", 3.0, model=name)
    board = board_of(tmp_path)
    row = read(to_csv(board))[-1]
    assert row["model"] == f"'{name}".replace("\t", "\\t")
    assert row["score_change"].startswith("-")
    assert to_parquet_table(board)["model"][0].as_py() == name


def test_what_differs_and_what_lacks_is_told(board: Board) -> None:
    """Settings and tasks, in the run's every row."""
    own = [row for row in read(to_csv(board)) if row["model"] == "org/llama-nf4"]
    assert {row["settings_that_differ"] for row in own} == {"max_length 512 → 1024"}
    assert {row["not_compared"] for row in own} == {"maths"}
