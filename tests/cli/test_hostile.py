"""Names and texts that would steer a terminal, forge a line, or break a file, in every output."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Called
from tests.generators import logs

STEER = "\x1b]0;owned\x07\x1b[2J"  # another title for the window, and an empty screen
FORGED = "\nPASS      everything"
MARKUP = "<script>alert(1)</script> [click](javascript:alert(1)) ![x](http://x/x.png) a|b"
NAME = f"=1+1{STEER}{FORGED}\u202e{MARKUP}"
FILTER = f"none{STEER}"
CHOICE = f"oak{STEER}{FORGED}"
# What no output may hold as it is; line ends are looked at apart.
CONTROL = [chr(code) for code in (*range(9), 11, 12, *range(14, 32), 127, *range(128, 160))]
CONTROL += ["\u202e", "\u2066"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline and a compressed run whose every text is hostile."""
    folder = tmp_path_factory.mktemp("runs")
    for name, flipped in (("baseline", 0), ("int4", 6)):
        records = [
            logs.choice(
                i,
                [-1.03125 - i / 7, -2.5 - i / 3] if i >= flipped else [-2.25 - i / 3, -1.125],
                choices=(CHOICE, f"elm{STEER}"),
                question=f"Who?{STEER}{FORGED} {i}",
                filter=FILTER,
            )
            for i in range(24)
        ]
        file = logs.write_run(folder / name, {"task": records}, model="m")
        results = json.loads(file.read_text())
        results["model_name"] = f"{NAME}{name}"
        results["config"]["model_args"]["dtype"] = f"{STEER}{FORGED}{name}"
        file.write_text(json.dumps(results))
    return folder


def steering(text: str) -> list[str]:
    """The characters in a text that steer whatever shows it."""
    return [char for char in CONTROL if char in text]


def test_the_search_for_steering_can_fail() -> None:
    """Control: the names that are planted hold what is looked for."""
    assert "\x1b" in steering(NAME)
    assert "\u202e" in steering(NAME)
    assert steering("plain\n") == []


def test_nothing_that_is_printed_steers_the_terminal(call: Called, runs: Path) -> None:
    """Every verb's output and errors; nothing forges a line of the gate."""
    base, int4 = runs / "baseline", runs / "int4"
    for said in (
        call("compare", base, int4, "--show-flips", "3"),
        call("gate", base, int4, "--max-flips", "0.1", "--judge", "point"),
        call("plan", base, "--budget", "10", "--output", runs / "s.json", "--overwrite"),
        call("compare", base, int4, "--metric", NAME),
        call("compare", base, int4, "--filter", NAME),
        call("compare", f"{base}{STEER}{FORGED}", int4),
        call("leaderboard", runs, "--baseline", base, "--csv", runs / "b.csv"),
    ):
        assert steering(said.out + said.err) == []
        lines = (said.out + said.err).splitlines()
        assert not [line for line in lines if line.startswith("PASS      everything")]
        assert lines


def test_a_terminal_gets_only_our_own_escapes(runs: Path) -> None:
    """With colours too: in a real one, no title is set and no screen emptied."""
    base, int4 = str(runs / "baseline"), str(runs / "int4")

    def shown(*more: str, **environment: str) -> str:
        reading, writing = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "lm_eval_flips", "compare", base, int4, *more],
            stdout=writing,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment},
        )
        os.close(writing)
        content = b""
        try:
            while block := os.read(reading, 65536):
                content += block
        except OSError:  # the other end is closed
            pass
        assert process.wait(timeout=60) == 0
        os.close(reading)
        return content.decode()

    coloured = shown("--show-flips", "2")
    assert "\x1b[33m" in coloured  # what differs is yellow
    for text in (coloured, shown("--no-color"), shown(NO_COLOR="1")):
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text
        assert "\x07" not in text
    assert "\x1b[33m" not in shown("--no-color")
    assert "\x1b[33m" not in shown(NO_COLOR="1")


def test_the_gates_files_hold_names_as_text(call: Called, runs: Path, tmp_path: Path) -> None:
    """JUnit is XML, and Markdown has neither markup nor a link of a name's."""
    xml, markdown = tmp_path / "g.xml", tmp_path / "g.md"
    call(
        *("gate", runs / "baseline", runs / "int4", "--max-flips", "0.1", "--judge", "point"),
        *("--junit", xml, "--markdown", markdown),
    )
    suite = ElementTree.parse(xml).getroot()[0]
    assert "\\x1b]0;owned" in suite.attrib["name"]
    assert "<script>" in suite.attrib["name"]
    text = markdown.read_text()
    assert steering(text) == []
    assert "\\<script\\>" in text
    assert "](" not in text.replace("\\](", "")
    assert not [line for line in text.splitlines() if line.startswith("PASS")]


def test_what_a_spreadsheet_opens_is_no_formula(call: Called, runs: Path, tmp_path: Path) -> None:
    """No cell begins one, and a row is a line."""
    file = tmp_path / "b.csv"
    call("leaderboard", runs, "--baseline", runs / "baseline", "--csv", file)
    text = file.read_text()
    assert steering(text) == []
    rows = list(csv.DictReader(text.splitlines()))
    assert rows[0]["model"].startswith("'=1+1")
    assert len(text.splitlines()) == 1 + len(rows)


def test_cards_boards_and_pages_hold_names_as_text(
    call: Called, runs: Path, tmp_path: Path
) -> None:
    """Markdown and HTML of both kinds; JSON holds the name itself, escaped as JSON does."""
    base, int4 = runs / "baseline", runs / "int4"
    card, board, page, file = (tmp_path / name for name in ("c.md", "b.md", "p.html", "c.json"))
    said = call(
        *("compare", base, int4, "--model-card", card, "--report", page, "--json", file),
    )
    assert said.code == 0, said.err
    call("leaderboard", runs, "--baseline", base, "--markdown", board)
    for markdown in (card, board):
        text = markdown.read_text()
        assert steering(text) == []
        assert "\\<script\\>" in text
        assert "](javascript" not in text.replace("\\](", "")
    assert "<script>alert(1)" not in page.read_text()
    assert not [char for char in steering(file.read_text()) if char < " "]
    assert json.loads(file.read_text())["compressed"][0]["model"] == f"{NAME}int4"
