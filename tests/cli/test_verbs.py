"""The command itself: its verbs in the order of work, the ways in, --version, completion, speed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import lm_eval_flips
from lm_eval_flips.cli.options import Asked
from lm_eval_flips.comparison.options import Options
from lm_eval_flips.measures.bootstrap import Bootstrap
from tests.cli.conftest import Called

VERBS = (
    "run compare report gate leaderboard plan judge compress schemes prove layers noise-run "
    "measure-answers tasks eval"
).split()
# An option that the harness has itself, or that is made there, is no option of `run`.
OF_THE_HARNESS = {"tasks", "device", "noise_floor"}


def flag(name: str) -> str:
    """An option's name on the command line."""
    return f"--{name.replace('_', '-')}"


def test_the_verbs_stand_in_the_order_of_work(call: Called) -> None:
    """Each with what it does, uncut."""
    said = call("--help")
    assert said.code == 0
    listed = said.out.split("Verbs:")[1].split("Example")[0]
    assert re.findall(r"^  ([\w-]+) ", listed, re.MULTILINE) == VERBS
    assert "..." not in listed


def test_alone_it_says_the_three_ways_in(call: Called) -> None:
    """With a command for each of them, and exit code 0."""
    said = call()
    assert said.code == 0
    assert said.err == ""
    for command in ("lm-eval-flips compare ", "lm_eval run --include_path", "lm-eval-flips run "):
        assert command in said.out
    assert "Three ways in" in said.out


def test_the_version_is_the_packages(call: Called) -> None:
    """One line."""
    assert call("--version").out == f"lm-eval-flips {lm_eval_flips.__version__}\n"


def test_an_unknown_option_is_misuse(call: Called) -> None:
    """Exit code 2, and the one that was meant."""
    said = call("compare", "--jsn", "x")
    assert said.code == 2
    assert "--json" in said.err


@pytest.mark.parametrize("verb", ["compare", "report", "gate", "leaderboard", "run"])
def test_every_verb_that_compares_takes_the_same_options(call: Called, verb: str) -> None:
    """All fields of the one record, in their own section; the harness's own left out of `run`."""
    section = call(verb, "--help").out.split("Comparison:")[1].split("\n\n")[0]
    listed = re.findall(r"^  (--[\w-]+)", section, re.MULTILINE)
    without = OF_THE_HARNESS if verb == "run" else set()
    assert listed == [flag(field.name) for field in fields(Asked) if field.name not in without]


def test_the_command_line_has_every_option_of_compare() -> None:
    """With the same defaults; a seed is part of the bootstrap there."""
    asked = Asked()
    assert Options(**asked.options()) == Options()
    assert {field.name for field in fields(Asked)} == {
        *(field.name for field in fields(Options)),
        "bootstrap_seed",
    }
    drawn = Asked(bootstrap=300, bootstrap_seed=7, metric="acc", near_kl=0.5)
    assert Options(**drawn.options()) == Options(
        bootstrap=Bootstrap(replicates=300, seed=7), metric="acc", near_kl=0.5
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_verbs_and_options(shell: str) -> None:
    """As the scripts ask that --show-completion prints."""
    environment = {
        "_LM_EVAL_FLIPS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "lm-eval-flips lead",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "lm-eval-flips lead",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from lm_eval_flips import cli; cli.app(prog_name='lm-eval-flips')"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "leaderboard" in done.stdout
    assert "compare" not in done.stdout


@pytest.mark.parametrize("arguments", [[], ["--help"], ["compare", "--help"]])
def test_help_answers_at_once(arguments: list[str]) -> None:
    """Neither rich nor torch is loaded, nor much else: the time is in tests/benchmarks/README.md."""
    code = (
        f"import sys\nfrom lm_eval_flips import cli\nsys.argv = ['x', *{arguments!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'lm_eval', 'scipy', 'numpy', 'pyarrow', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "own = [name for name in sys.modules if name.startswith('lm_eval_flips')]\n"
        "assert len(own) <= 40 and len(sys.modules) <= 350, (own, len(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_the_floor_and_the_bootstrap_are_options_of_report_and_leaderboard(
    call: Called, tmp_path: Path
) -> None:
    """What compare took alone: the floor is in the board's numbers, and its cache tells them apart."""
    from tests.generators.folders import write_folder

    runs = write_folder(tmp_path / "runs", {"int4": 3.0})
    floor = write_folder(tmp_path / "floor", {"again": 0.1})
    board = ["leaderboard", runs, "--baseline", runs / "baseline", "--csv", tmp_path / "b.csv"]
    assert "1 computed, 0 kept" in call(*board).out
    again = call(*board, "--bootstrap", "300")
    assert again.code == 0, again.err
    assert "1 computed, 0 kept" in again.out
    seeded = call(*board, "--bootstrap", "300", "--bootstrap-seed", "3")
    assert "1 computed, 0 kept" in seeded.out
    assert "0 computed, 1 kept" in call(*board, "--bootstrap", "300", "--bootstrap-seed", "3").out
    no_floor = call(*board, "--noise-floor", floor / "again")
    assert no_floor.code == 2
    assert "is no second run of the baseline" in no_floor.err
