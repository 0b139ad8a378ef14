"""--baseline RUN... --compressed RUN...: several runs a side through the real command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Called
from tests.comparison.test_several_runs import OURS, THEIRS, by_hand
from tests.generators.seeds import seed_runs


@pytest.fixture
def sides(tmp_path: Path) -> list[str]:
    """The options of both sides."""
    ours = seed_runs(tmp_path, OURS)
    theirs = seed_runs(tmp_path, THEIRS, model="org/quant")
    return ["--baseline", *map(str, ours), "--compressed", *map(str, theirs)]


def test_compare_says_and_writes_what_draws_change(
    call: Called, sides: list[str], tmp_path: Path
) -> None:
    """Sentence and JSON; options may stand before, between and behind the sides."""
    file = tmp_path / "all.json"
    done = call("compare", "--json", file, *sides, "--details")
    assert done.code == 0, done.err
    assert "and 2 more seeds" in done.out
    assert f"a draw of each differ in correctness in {100 * by_hand():.2f} %" in done.out
    written = json.loads(file.read_text())
    assert written["compressed"][0]["pooled"]["expected_flips"] == pytest.approx(by_hand())
    assert len(written["baseline"]["others"]) == len(written["compressed"][0]["others"]) == 2


def test_several_models_each_have_a_side(call: Called, sides: list[str], tmp_path: Path) -> None:
    """--compressed again is another model; both are told."""
    more = seed_runs(tmp_path, OURS[::-1], model="org/other", seeds=(4, 5))
    done = call("compare", *sides, "--compressed", *more)
    assert done.code == 0, done.err
    assert "quant: " in done.out
    assert "other: " in done.out


def test_gate_has_rules_for_draws(call: Called, sides: list[str]) -> None:
    """Exit codes 0 and 1, and one line for a rule of single answers."""
    assert call("gate", *sides, "--max-flips-beyond-seeds", "0.9").code == 0
    assert call("gate", *sides, "--max-expected-flips", "0.01").code == 1
    done = call("gate", *sides, "--max-flips", "0.9")
    assert done.code == 2
    assert "give max_expected_flips" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--baseline", "a", "b"], "Missing argument"),
        (["--compressed", "a", "b"], "Missing argument"),
        (["--baseline", "--compressed", "a"], "Missing argument"),
        (["x", "--baseline", "a", "--compressed", "b"], "give all runs by --baseline and"),
        (["x", "y", "--compressed", "b"], "give the runs of both sides: --baseline runs/s1"),
        (["--baseline", "a", "--compressed", "b", "--plan", "p"], "'a' does not exist"),
    ],
)
def test_half_a_side_is_one_line(call: Called, arguments: list[str], message: str) -> None:
    """No traceback whatever is missing."""
    done = call("compare", *arguments)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_plan_is_of_one_run(call: Called, sides: list[str]) -> None:
    """Refused by name."""
    done = call("compare", *sides, "--plan", "samples.json")
    assert done.code == 2
    assert "--plan does not go together with several runs a side" in done.err
