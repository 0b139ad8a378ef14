"""`lm-eval-flips layers` on two folders of models."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_eval_flips import FlipsError
from lm_eval_flips.compression.block_models import costs_of
from tests.conftest import harness_environment


@pytest.fixture(scope="module")
def one_block(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with noise on its second block alone."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("layers") / "one-block")
    file = folder / "model.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: weight
        + 0.5 * weight.std() * torch.randn(weight.shape, generator=generator) * (".1." in name)
        for name, weight in load_file(file).items()
    }
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def called(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, offline."""
    return subprocess.run(
        [sys.executable, "-m", "lm_eval_flips", "layers", *map(str, arguments)],
        env=harness_environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_block_that_moved_is_told_drawn_and_written(
    tiny_model: Path, one_block: Path, tmp_path: Path
) -> None:
    """First in the table; without it nothing is left; the same in JSON and in a picture."""
    files = ("--json", tmp_path / "costs.json", "--plot", tmp_path / "costs.svg")
    models = ("--baseline", tiny_model, "--compressed", one_block)
    done = called(tmp_path, *models, "--tokens", 120, *files)
    costs = costs_of(str(tiny_model), str(one_block), tokens=120)
    assert done.returncode == 0, done.stderr
    head, first, second, whole, mixed, *_ = done.stdout.splitlines()
    assert head.split("  ")[0].strip() == "block"
    assert first.split()[0] == "1"
    assert second.split() == ["0", "0.0", "0.00", "%", *second.split()[4:]]
    assert f"of {costs.positions} positions" in whole
    assert "with block 1 as before: KL 0" in mixed
    assert "100.00 % less" in mixed
    written = json.loads((tmp_path / "costs.json").read_text())
    assert written["whole"]["kl"] == pytest.approx(costs.whole.kl)
    assert [own["block"] for own in written["blocks"]] == [0, 1]
    assert "What each block costs" in (tmp_path / "costs.svg").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"compressed": "no-such-model"}, "'no-such-model' cannot be loaded: "),
        ({"compressed": "model-Q4_0.gguf"}, "is a GGUF file, whose blocks llama.cpp does not let"),
        ({"dtype": "int4"}, "--dtype int4 is none of auto, float32"),
        ({"tokens": 1}, "--tokens 1 leaves nothing to predict"),
    ],
)
def test_what_cannot_be_swapped_is_refused(
    given: dict[str, object], message: str, tiny_model: Path
) -> None:
    """In one line."""
    asked = {"compressed": str(tiny_model), **given}
    with pytest.raises(FlipsError, match=message):
        costs_of(str(tiny_model), **asked)  # type: ignore[arg-type]


def test_pictures_of_other_kinds_and_files_that_exist_are_refused_first(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Before the models are loaded."""
    models = ("--baseline", tiny_model, "--compressed", tiny_model)
    done = called(tmp_path, *models, "--plot", tmp_path / "costs.pdf")
    assert done.returncode == 2
    assert "is no .svg or .png file" in done.stderr
    (tmp_path / "costs.json").write_text("{}")
    done = called(tmp_path, *models, "--json", tmp_path / "costs.json")
    assert done.returncode == 2
    assert "exists; name another file" in done.stderr
