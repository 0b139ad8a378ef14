"""Outputs are seen to before the work: none is an input, another output, or a place unfit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Called
from tests.generators.folders import write_folder

LIMIT = 3000  # bytes that a file may have where the disk is full

# Runs the command where little room is left in any file; torch is loaded before that.
FULL = """
import resource, sys, torch
from lm_eval_flips import cli
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.argv = ["lm-eval-flips", *sys.argv[1:]]
cli.main()
"""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A baseline and a compressed run."""
    return write_folder(tmp_path / "runs", {"int4": 3.0})


def samples_of(run: Path) -> Path:
    """A samples file of a run."""
    return next(run.rglob("samples_arc_*.jsonl"))


@pytest.mark.parametrize("place", ["samples", "results", "hard link", "link", "noise floor"])
def test_an_output_that_is_an_input_is_refused(call: Called, runs: Path, place: str) -> None:
    """--overwrite does not help; the run is as it was."""
    base, int4 = runs / "baseline", runs / "int4"
    file = {
        "results": next(base.rglob("results_*.json")),
        "noise floor": samples_of(write_folder(runs, {"again": 0.1}) / "again"),
    }.get(place, samples_of(int4))
    given = file
    if place == "hard link":
        given = runs / "other.json"
        os.link(file, given)
    elif place == "link":
        given = runs / "link.json"
        given.symlink_to(file)
    before = file.read_bytes()
    floor = ["--noise-floor", runs / "again"] if place == "noise floor" else []
    said = call("compare", base, int4, *floor, "--json", given, "--overwrite")
    assert said.code == 2
    assert said.err == f"error: --json '{given}' is one of the files to be read; name another\n"
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("verb", "option", "more"),
    [
        ("report", "--output", []),
        ("gate", "--markdown", ["--max-flips", "0.5"]),
        ("gate", "--junit", ["--max-flips", "0.5"]),
        ("compare", "--model-card", []),
        ("compare", "--per-sample", []),
        ("plan", "--output", ["--budget", "20"]),
        ("leaderboard", "--csv", []),
    ],
)
def test_every_verb_refuses_it(
    call: Called, runs: Path, verb: str, option: str, more: list[str]
) -> None:
    """Whatever is written, and be it put at the end of a file."""
    base, int4 = runs / "baseline", runs / "int4"
    others: dict[str, list[str | Path]] = {
        "plan": [base],
        "leaderboard": [runs, "--baseline", base],
    }
    arguments = others.get(verb, [base, int4])
    file = samples_of(base)
    before = file.read_bytes()
    said = call(verb, *arguments, *more, option, file, "--overwrite")
    assert said.code == 2
    assert f"{option} '{file}' is one of the files to be read" in said.err
    assert file.read_bytes() == before
    elsewhere = runs / "elsewhere.out"
    again = call(verb, *arguments, *more, option, elsewhere, "--overwrite")
    assert elsewhere.exists(), again.err  # the control: elsewhere it is written


@pytest.mark.parametrize("name", ["s.json", "s.plan.json", "gate.toml"])
def test_a_plan_and_a_gates_rules_are_inputs(
    call: Called, runs: Path, tmp_path: Path, name: str
) -> None:
    """The plan's two files, whichever of them is given; and the file with thresholds."""
    base, plan, rules = runs / "baseline", tmp_path / "s.json", tmp_path / "gate.toml"
    assert call("plan", base, "--budget", "20", "--output", plan).code == 0
    rules.write_text("[pooled]\nmax_flips = 0.5\n")
    before = (tmp_path / name).read_bytes()
    given = ["--plan", plan, "--config", rules, "--json", tmp_path / name, "--overwrite"]
    said = call("gate", base, runs / "int4", *given)
    assert said.code == 2
    assert "is one of the files to be read" in said.err
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        ("--json", "x", "--per-sample", "x"),
        ("--json", "x", "--report", "sub/../x"),
        ("--json", "x", "--plots", "x"),
        ("--report", "page.html", "--per-sample", "page.parquet"),
    ],
)
def test_two_outputs_of_one_path_are_refused(
    call: Called, runs: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Before anything is computed; the page's further samples count, too."""
    filled = [part if part.startswith("-") else tmp_path / part for part in options]
    said = call("compare", runs / "baseline", runs / "int4", *filled, "--overwrite")
    assert said.code == 2
    assert "name the same file" in said.err
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("folder", "is a folder; name a file"),
        ("taken/c.json", "cannot be written: Not a directory"),
        ("circle", "cannot be written: "),
        ("x" * 300, "cannot be written: File name too long"),
    ],
)
def test_a_place_that_is_unfit_is_refused_at_once(
    call: Called, tmp_path: Path, place: str, message: str
) -> None:
    """Before the runs are even looked for: these do not exist."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken").write_text("")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    said = call("compare", tmp_path / "no", tmp_path / "runs", "--json", tmp_path / place)
    assert said.code == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    fit = call("compare", tmp_path / "no", tmp_path / "runs", "--json", tmp_path / "fit")
    assert "no' does not exist" in fit.err


def test_a_device_is_no_file_that_exists(call: Called, runs: Path) -> None:
    """What goes to /dev/null, or into a pipe, needs no --overwrite."""
    said = call("compare", runs / "baseline", runs / "int4", "--json", "/dev/null")
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("verb", "option", "name"),
    [
        ("compare", "--json", "c.json"),
        ("compare", "--per-sample", "c.parquet"),
        ("compare", "--report", "c.html"),
        ("compare", "--model-card", "README.md"),
        ("leaderboard", "--csv", "b.csv"),
        ("leaderboard", "--parquet", "b.parquet"),
        ("leaderboard", "--output", "b.html"),
    ],
)
def test_a_full_disk_leaves_the_earlier_file(
    call: Called, runs: Path, tmp_path: Path, verb: str, option: str, name: str
) -> None:
    """Of every kind; with room it is replaced by the same command, so that the check can fail."""
    base = runs / "baseline"
    arguments = [runs, "--baseline", base, "--no-cache"] if verb == "leaderboard" else []
    arguments = arguments or [base, runs / "int4"]
    file = tmp_path / "out" / name
    given = [verb, *map(str, arguments), option, str(file), "--overwrite"]
    file.parent.mkdir()
    old = b"# My model\n" + b"what was there before\n" * 200
    file.write_bytes(old)
    full = subprocess.run(
        [sys.executable, "-c", FULL.format(limit=LIMIT), *given],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert full.returncode == 2, full.stderr
    assert f"'{file}' cannot be written: " in full.stderr
    assert full.stderr.count("\n") == 1
    assert file.read_bytes() == old
    assert list(file.parent.iterdir()) == [file]
    assert call(*given).code == 0
    assert file.read_bytes() != old
