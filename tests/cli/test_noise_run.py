"""`noise-run` on the repository's runs, and what the other verbs call what it made."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

from tests.cli.conftest import Called
from tests.e2e.conftest import ROOT

RUNS = ROOT / "examples" / "runs"
NAMED = "noise on log-probabilities"


def test_it_is_named_wherever_it_is_shown(call: Called, tmp_path: Path) -> None:
    """By compare, its JSON and the leaderboard; a gate refuses it; control: int8 keeps its name."""
    runs = tmp_path / "runs"
    for name in ("baseline", "int8"):
        shutil.copytree(RUNS / name, runs / name)
    made = call("noise-run", runs / "baseline", "--sigma", "0.5", "--output", runs / "noisy")
    assert made.code == 0, made.err
    assert "left out: example_answers: texts are generated" in made.out
    assert "left out: example_words: acc cannot be made anew" in made.out
    assert "wrote 3 tasks with noise of 0.5 nats to" in made.out
    again = call("noise-run", runs / "baseline", "--sigma", "0.5", "--output", runs / "noisy")
    assert again.code == 2
    assert "holds something already; name a new folder" in again.err
    file = tmp_path / "comparison.json"
    compared = call("compare", runs / "baseline", runs / "int8", runs / "noisy", "--json", file)
    assert f"~ {NAMED} 0.5 of SmolLM2-135M-Instruct: the score is not told apart" in compared.out
    assert "13.64 % of the answers flipped, 3 lost and 3 won" in compared.out
    assert f"it is no model's run, but {NAMED} of" in compared.out
    schemes = [own["scheme"] for own in json.loads(file.read_text())["compressed"]]
    assert [own["family"] for own in schemes] == ["", NAMED]
    assert [own["name"] for own in schemes] == ["int8", f"{NAMED} 0.5"]
    judged = call("gate", runs / "baseline", runs / "noisy", "--max-flips", "0.9")
    assert judged.code == 2
    assert "a gate judges models; leave it out" in judged.err
    board = ("leaderboard", runs, "--baseline", runs / "baseline", "--output", tmp_path / "b.html")
    assert call(*board, "--csv", tmp_path / "b.csv").code == 0
    with (tmp_path / "b.csv").open(newline="") as table:
        found = {row["scheme"]: row["family"] for row in csv.DictReader(table)}
    assert found == {"int8": "unknown", f"{NAMED} 0.5": NAMED}
