"""`run --compress`: models made beside the runs, evaluated, and known by their schemes after."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

import pytest

from lm_eval_flips import compare
from tests.compression.test_compressing import Done, run

pytestmark = pytest.mark.e2e
SCHEMES = {"drop-1": "layers dropped", "noise-0.3": "noise"}


class Runs(NamedTuple):
    """The folder of the runs, and how to give the command again."""

    folder: Path
    model: Path
    tasks: Path

    def run(self, *more: object, compress: str = ",".join(SCHEMES)) -> Done:
        """`run --compress`."""
        return run(
            *("run", "--baseline", f"pretrained={self.model},dtype=float32"),
            *("--compress", compress, "--tasks", "tiny_choice"),
            *("--include_path", self.tasks, "--device", "cpu", "--batch_size", 8),
            *("--output_path", self.folder, *more),
            folder=self.folder.parent,
        )


@pytest.fixture(scope="module")
def runs(
    tiny_model: Path, task_folder_local: Path, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    """A baseline and two models that one command made and evaluated."""
    folder = tmp_path_factory.mktemp("compress") / "runs"
    found = Runs(folder, tiny_model, task_folder_local)
    done = found.run()
    assert done.code == 0, done.printed
    return found


def test_each_scheme_is_judged(runs: Runs) -> None:
    """As a compressed run that moved, in the dtype of the baseline."""
    found = compare(runs.folder / "baseline", *(runs.folder / f"tiny-{name}" for name in SCHEMES))
    for one, (name, family) in zip(found.compressed, SCHEMES.items(), strict=True):
        assert one.scheme is not None
        assert (one.scheme.name, one.scheme.family) == (name, family)
        assert one.pooled.numbers["token_kl"].value > 0
        folder = runs.folder / "models" / f"tiny-{name}"
        assert one.run.model_args == {
            "pretrained": str(folder),
            "dtype": "float32",
            "reference": str(runs.folder / "baseline"),
            "distances": str(runs.folder / f"tiny-{name}"),
        }
        assert one.scheme.bytes == os.path.getsize(folder / "model.safetensors")
    document = json.loads((runs.folder / "comparison.json").read_text())
    assert [one["scheme"]["name"] for one in document["compressed"]] == list(SCHEMES)


def test_the_same_command_keeps_models_and_runs(runs: Runs) -> None:
    """And the baseline may be its run's folder."""
    model = runs.folder / "models" / "tiny-drop-1" / "model.safetensors"
    before = model.stat().st_mtime_ns
    again = runs.run("--overwrite")
    assert again.code == 0, again.printed
    assert again.printed.count("made before, kept") == 2
    assert again.printed.count("finished before, kept") == 3
    assert model.stat().st_mtime_ns == before


def test_the_board_knows_the_schemes_without_their_models(runs: Runs, tmp_path: Path) -> None:
    """The run keeps what its model's folder said."""
    (runs.folder / "models").rename(tmp_path / "elsewhere")
    try:
        done = run(
            *("leaderboard", runs.folder, "--baseline", runs.folder / "baseline"),
            *("--no-cache", "--csv", tmp_path / "board.csv"),
            folder=tmp_path,
        )
        assert done.code == 0, done.printed
        with (tmp_path / "board.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["scheme"] for row in rows} == set(SCHEMES)
    finally:
        (tmp_path / "elsewhere").rename(runs.folder / "models")


def test_what_is_no_compressed_model_is_not_judged(runs: Runs) -> None:
    """Noise of 0 changes nothing, which is said before anything is evaluated."""
    done = runs.run("--limit", 2, compress="noise-0.0")
    assert done.code == 2
    assert "nothing changed: it answers as the baseline does" in done.printed
    assert "judge them all the same with --allow-implausible" in done.printed
    assert not (runs.folder / "tiny-noise-0.0").exists()
    rmtree(runs.folder / "models" / "tiny-noise-0.0")
    none = run(
        *("run", "--baseline", f"pretrained={runs.model}", "--tasks", "tiny_choice"),
        *("--output_path", runs.folder),
        folder=runs.folder,
    )
    assert none.code == 2
    assert "no compressed model: give --compressed pretrained=MODEL, or --compress" in none.printed
