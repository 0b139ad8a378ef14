"""`leaderboard` as its user meets it: files, what is printed, exit codes, and being run again."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tests.cli.conftest import Called
from tests.generators.folders import write_folder, write_one

KINDS = ("board.html", "board.csv", "board.parquet", "board.md")


def asked(folder: Path, *more: str | Path) -> list[str | Path]:
    """The arguments of a board of this folder."""
    return ["leaderboard", folder, "--baseline", folder / "baseline", *more]


def outputs(folder: Path) -> list[str | Path]:
    """Every kind of output."""
    flags = ("--output", "--csv", "--parquet", "--markdown")
    return [part for flag, name in zip(flags, KINDS, strict=True) for part in (flag, folder / name)]


def test_all_files_are_written_and_renewed_with_a_new_run(call: Called, tmp_path: Path) -> None:
    """The second time only the new run is computed, and the earlier files are replaced unasked."""
    runs = write_folder(tmp_path / "runs")
    said = call(*asked(runs, *outputs(tmp_path)))
    assert said.code == 0, said.err
    first, second, *files = said.out.splitlines()
    assert first == "3 compressed runs against org/llama in 2 groups; 3 computed, 0 kept"
    assert second.startswith("closest to the baseline by choice KL: int8, 0.0100 nats [")
    assert files == [str(tmp_path / name) for name in KINDS]
    write_one(runs, "nf4", 0.5)
    said = call(*asked(runs, *outputs(tmp_path)))
    assert said.code == 0, said.err
    assert "4 compressed runs against org/llama" in said.out
    assert "1 computed, 3 kept" in said.out
    with (tmp_path / "board.csv").open(newline="") as file:
        models = {row["model"] for row in csv.DictReader(file)}
    assert "org/llama-nf4" in models
    assert len(pyarrow.parquet.read_table(tmp_path / "board.parquet")) == 4 * 5
    assert "llama-nf4" in (tmp_path / "board.html").read_text()


def test_boards_with_and_without_a_cache_are_equal(call: Called, tmp_path: Path) -> None:
    """Every file, to the last byte."""
    runs = write_folder(tmp_path / "runs")
    for name, more in (("first", []), ("second", []), ("third", ["--no-cache"])):
        said = call(*asked(runs, *outputs(tmp_path / name), *more, "--equivalence-margin", "0.02"))
        assert said.code == 0, said.err
    for name in KINDS:
        found = {(tmp_path / place / name).read_bytes() for place in ("first", "second", "third")}
        assert len(found) == 1, name


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_no_board_is_not_replaced(call: Called, tmp_path: Path, name: str) -> None:
    """Not even one that speaks of boards; with --overwrite it is."""
    runs = write_folder(tmp_path / "runs", {"int8": 0.2})
    file = tmp_path / name
    file.write_text("my notes on: lm-eval-flips leaderboard\n")
    flag = {".html": "--output", ".csv": "--csv", ".parquet": "--parquet", ".md": "--markdown"}
    arguments = asked(runs, flag[file.suffix], file)
    said = call(*arguments)
    assert said.code == 2
    assert "exists and is no board of this command" in said.err
    assert file.read_text().startswith("my notes")
    assert call(*arguments, "--overwrite").code == 0
    assert call(*arguments).code == 0


def test_what_is_left_out_is_said_and_stops_nothing(call: Called, tmp_path: Path) -> None:
    """On standard error, with the reason; the board is made of the others."""
    runs = write_folder(tmp_path / "runs", {"int8": 0.2})
    write_one(runs, "same", 0.0)
    broken = write_one(runs, "broken", 0.5)
    broken.write_text("{")
    said = call(*asked(runs, "--markdown", tmp_path / "b.md"))
    assert said.code == 0
    assert "1 compressed run against org/llama" in said.out
    assert "left out: same/org__llama-same: " in said.err
    assert "left out: broken/org__llama-broken: " in said.err
    assert (tmp_path / "b.md").read_text().count("- Left out: ") == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "nothing to write; give --output, --csv, --parquet, --json or --markdown"),
        (["--csv", "{out}", "--tasks", "mmlu"], "matches 'mmlu'; it holds arc, law, maths"),
        (["--csv", "{out}", "--metric", "bleu"], "no run could be compared"),
        (["--csv", "{out}", "--equivalence-margin", "2"], "margin 2.0 is no change of a score"),
        (["--csv", "{taken}/b.csv"], "cannot be written"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    call: Called, tmp_path: Path, more: list[str], message: str
) -> None:
    """Exit code 2, and no traceback."""
    runs = write_folder(tmp_path / "runs", {"int8": 0.2})
    (tmp_path / "taken").write_text("")
    filled = [a.format(out=tmp_path / "b.csv", taken=tmp_path / "taken") for a in more]
    said = call(*asked(runs, *filled))
    assert said.code == 2
    assert message in said.err.splitlines()[-1]
    assert said.err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_a_folder_without_runs_is_told(call: Called, tmp_path: Path, name: str) -> None:
    """Empty, or not there."""
    runs = write_folder(tmp_path / "runs", {"int8": 0.2})
    (tmp_path / "empty").mkdir()
    said = call(
        *("leaderboard", tmp_path / name, "--baseline", runs / "baseline"),
        *("--csv", tmp_path / "b.csv"),
    )
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert not (tmp_path / "b.csv").exists()


def test_a_cache_elsewhere_leaves_the_runs_alone(call: Called, tmp_path: Path) -> None:
    """--cache names its folder; one that cannot be written is said and costs time only."""
    runs = write_folder(tmp_path / "runs", {"int8": 0.2})
    said = call(*asked(runs, "--csv", tmp_path / "b.csv", "--cache", tmp_path / "kept"))
    assert said.code == 0
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert not (runs / ".lm-eval-flips-cache").exists()
    (tmp_path / "taken").write_text("")
    said = call(*asked(runs, "--csv", tmp_path / "b.csv", "--cache", tmp_path / "taken" / "c"))
    assert said.code == 0
    assert "computed runs are not kept" in said.err


def test_processes_of_their_own_make_the_same_files(call: Called, tmp_path: Path) -> None:
    """A command of its own, whose long files are read and compared in processes."""
    runs = write_folder(tmp_path / "runs", {"int8": 0.2, "int4": 3.0})
    assert call(*asked(runs, "--csv", tmp_path / "here.csv", "--no-cache")).code == 0
    code = (
        "import sys; from lm_eval_flips.cli import leaderboard, main; leaderboard.LONG_READ = 1; "
        "main()"
    )
    arguments = asked(runs, "--csv", tmp_path / "there.csv", "--no-cache")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here, there = (cells(tmp_path / name) for name in ("here.csv", "there.csv"))
    assert len(here) == len(there)
    for ours, theirs in zip(here, there, strict=True):
        # sums in other memory may be rounded otherwise in the last digit
        assert ours == (pytest.approx(theirs, rel=1e-12) if isinstance(theirs, float) else theirs)


def cells(file: Path) -> list[str | float]:
    """Every cell of a CSV file, numbers as such."""
    found: list[str | float] = []
    for row in csv.reader(file.read_text(encoding="utf-8").splitlines()):
        for cell in row:
            try:
                found.append(float(cell))
            except ValueError:
                found.append(cell)
    return found


def test_help_loads_nothing_heavy() -> None:
    """--help answers without torch or pyarrow."""
    code = (
        "import sys\nfrom lm_eval_flips import cli\n"
        "sys.argv = ['x', 'leaderboard', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pyarrow', 'jinja2', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"n-shot": {"arc": "none"}}, "n-shot"),
        ({"configs": {"arc": {"task": "arc", "metric_list": 1}}}, "metric_list"),
        ({"results": []}, "is not a results file"),
        ({"config": {"model_args": [1]}}, ""),
        ({"group_subtasks": {"arc": ["arc"]}}, ""),
    ],
)
def test_a_malformed_run_ends_no_board(
    call: Called, tmp_path: Path, damage: dict[str, Any], reason: str
) -> None:
    """A value of another type in its results: it is left out with the reason, or read; no more."""
    runs = write_folder(tmp_path / "runs", {"int8": 0.2, "int4": 3.0})
    file = next((runs / "int4").rglob("results_*.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    said = call(*asked(runs, "--csv", tmp_path / "b.csv"))
    assert said.code == 0, said.err
    assert "Traceback" not in said.err
    assert "llama-int8" in (tmp_path / "b.csv").read_text()
    if reason:
        assert "1 compressed run against org/llama" in said.out
        assert f"left out: {(runs / 'int4').name}/" in said.err
        assert reason in said.err


def test_a_run_that_could_not_be_read_is_on_the_next_board(call: Called, tmp_path: Path) -> None:
    """Its samples are a link to nothing, then there again: computed though no file's time changed."""
    runs = write_folder(tmp_path / "runs", {"int8": 0.2, "int4": 3.0})
    file = next((runs / "int4").rglob("samples_law_*"))
    away = file.rename(tmp_path / "away.jsonl")
    file.symlink_to(tmp_path / "nowhere")
    first = call(*asked(runs, "--csv", tmp_path / "b.csv"))
    assert "1 compressed run against org/llama" in first.out
    assert "a link to nothing" in first.err
    file.unlink()
    away.rename(file)
    second = call(*asked(runs, "--csv", tmp_path / "b.csv"))
    assert "2 compressed runs against org/llama" in second.out
    assert "1 computed, 1 kept" in second.out
    assert second.err == ""
    assert "llama-int4" in (tmp_path / "b.csv").read_text()
