"""The board as JSON: what the CSV has, by run; nothing twice, and what is undefined is null."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips.leaderboard import JSON_BEGINS
from lm_eval_flips.leaderboard.board import Board
from lm_eval_flips.report.files.leaderboard_json import to_json
from lm_eval_flips.report.files.leaderboard_markdown import to_markdown
from lm_eval_flips.report.files.leaderboard_table import columns, of_model, to_csv, to_parquet_table
from tests.generators.folders import board_of, write_one
from tests.generators.many_models import BASELINE_BYTES, MB, MODELS, write_models

FEW = {name: MODELS[name] for name in ("int8", "int4", "gptq-w4a16", "noise-0.02")}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """Four models of three families, and a run that agrees in everything."""
    folder = tmp_path_factory.mktemp("few")
    write_models(folder, FEW)
    return board_of(folder / "runs")


@pytest.fixture(scope="module")
def document(board: Board) -> dict[str, Any]:
    """What the file holds."""
    found: dict[str, Any] = json.loads(to_json(board))
    return found


def test_it_says_what_it_is_and_what_the_order_goes_by(
    board: Board, document: dict[str, Any]
) -> None:
    """So that the next board may replace it."""
    assert to_json(board).startswith(JSON_BEGINS)
    assert document["distance"] == "choice_kl"
    assert document["baseline"]["bytes"] == BASELINE_BYTES
    assert [run["scheme"] for run in document["runs"]] == [
        "int8",
        "noise-0.02",
        "gptq-w4a16",
        "int4",
    ]


def test_models_have_family_bits_size_front_and_best(document: dict[str, Any]) -> None:
    """By hand, from the models as they were written: int8 is closest, noise as large as nothing."""
    found = {run["scheme"]: run for run in document["runs"]}
    told = {
        name: (run["family"], run["bits"], run["bytes"], run["best_of_family"])
        for name, run in found.items()
    }
    assert told == {
        "int8": ("torchao", 8.0, 164 * MB, True),
        "noise-0.02": ("noise", None, 270 * MB, True),
        "gptq-w4a16": ("GPTQ", 4.0, 114 * MB, True),
        "int4": ("torchao", 4.0, 112 * MB, False),
    }
    assert {name: run["pareto_choice_kl"] for name, run in found.items()} == {
        "int8": True,
        "noise-0.02": False,
        "gptq-w4a16": True,
        "int4": True,
    }
    assert found["int8"]["bits_on_disk"] == pytest.approx(8 * 164 * MB / (BASELINE_BYTES // 2))


def test_every_cell_is_the_table_s(board: Board, document: dict[str, Any]) -> None:
    """With the same keys; control: a key that no table has is told."""
    table = {
        (row["path"], row["level"], row["task"]): row for row in to_parquet_table(board).to_pylist()
    }
    seen = set()
    for run in document["runs"]:
        of_run = {name: value for name, value in run.items() if name != "rows"}
        for row in run["rows"]:
            own = table[run["path"], row["level"], row["task"]]
            assert {**of_run, **row}.items() <= own.items()
            seen |= {*of_run, *row}
            assert not of_run.keys() & row.keys()
    assert seen == set(columns()) - {"baseline_model", "baseline_path"}


def test_csv_and_markdown_say_the_same_of_a_model(board: Board) -> None:
    """Every row of the CSV; in Markdown a star and a column each."""
    found = csv.DictReader(io.StringIO(to_csv(board).decode()))
    for row, run in zip((r for r in found if r["level"] == "pooled"), board.runs, strict=True):
        told = of_model(run)
        assert row["family"] == told["family"]
        assert row["bytes"] == str(told["bytes"])
        assert row["best_of_family"] == str(told["best_of_family"])
        assert row["pareto_flips"] == str(told["pareto_flips"])
    lines = [line for line in to_markdown(board).splitlines() if line.startswith("| tiny")]
    assert [line.split(" | ")[0] for line in lines] == [
        "| tiny-int8 ★",
        "| tiny-noise-0.02 ★",
        "| tiny-gptq-w4a16 ★",
        "| tiny-int4",
    ]
    assert "| int4 | torchao | 4 | 112 MB |" in lines[3]


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    """A model without a scheme or a size: neither on a front nor off it."""
    write_one(tmp_path, "baseline", 0.0, model="org/llama")
    write_one(tmp_path, "plain", 0.5)
    (run,) = json.loads(to_json(board_of(tmp_path)))["runs"]
    assert (run["scheme"], run["family"]) == ("unknown", "unknown")
    for name in ("bits", "bytes", "bits_on_disk", "pareto_flips", "pareto_choice_kl"):
        assert run[name] is None
    assert run["best_of_family"] is False
