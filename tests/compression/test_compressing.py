"""`lm-eval-flips compress`, `prove` and `schemes`: the real commands on the tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM

from lm_eval_flips.cli import main
from tests.conftest import harness_environment

pytestmark = pytest.mark.e2e
SCHEMES = "int4-g32,drop-1,wanda-2:4"


class Done(NamedTuple):
    code: int
    printed: str


def command(*arguments: object) -> list[str]:
    """Our command line."""
    return [sys.executable, "-m", "lm_eval_flips", *map(str, arguments)]


def run(*arguments: object, folder: Path, **environment: str) -> Done:
    """Run it to its end."""
    done = subprocess.run(
        command(*arguments),
        env={**harness_environment(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(done.returncode, done.stdout)


class Compressed(NamedTuple):
    folder: Path
    printed: str

    def record(self, scheme: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.folder / f"tiny-{scheme}" / "compression.json").read_text()
        )
        return found


@pytest.fixture(scope="module")
def compressed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    """Three schemes of two libraries in one command."""
    folder = tmp_path_factory.mktemp("compressed")
    done = run("compress", tiny_model, "--scheme", SCHEMES, "--output", folder, folder=folder)
    assert done.code == 0, done.printed
    return Compressed(folder, done.printed)


def test_each_is_a_model_with_a_record(compressed: Compressed, tiny_model: Path) -> None:
    """Nothing else is left; each loads as itself and answers otherwise than the baseline."""
    names = sorted(path.name for path in compressed.folder.iterdir())
    assert [name for name in names if name.startswith("tiny")] == [
        "tiny-drop-1",
        "tiny-int4-g32",
        "tiny-wanda-2of4",
    ]
    assert not [name for name in names if name.endswith(".new")]
    ids = torch.arange(3, 40)[None]
    base = AutoModelForCausalLM.from_pretrained(tiny_model)(ids).logits
    for scheme in ("int4-g32", "drop-1", "wanda-2of4"):
        model = AutoModelForCausalLM.from_pretrained(compressed.folder / f"tiny-{scheme}")
        assert not torch.allclose(model(ids).logits, base, atol=1e-3)
        assert compressed.record(scheme)["proof"]["reload_difference"] == 0
        assert compressed.record(scheme)["proof"]["faults"] == []
    assert compressed.printed.count("✓") == 3


def test_the_record_says_how_it_was_made(compressed: Compressed, tiny_model: Path) -> None:
    """Scheme, versions, calibration, seed and the source's hashes, by sha256sum."""
    record = compressed.record("wanda-2of4")
    assert record["scheme"] == "wanda-2:4"
    assert record["calibration"]["name"] == "lm-eval-flips"
    assert record["calibration"]["texts"] == 14
    assert record["seed"] == 0
    assert {"python", "torch", "transformers"} <= record["versions"].keys()
    weights = tiny_model / "model.safetensors"
    summed = subprocess.run(["sha256sum", weights], capture_output=True, text=True, check=True)
    assert record["source_sha256"]["model.safetensors"] == summed.stdout.split()[0]
    quantised = compressed.record("int4-g32")
    assert quantised["calibration"] is None
    assert quantised["bits"] == 4
    assert "torchao" in quantised["versions"]
    dropped = compressed.record("drop-1")
    size = (compressed.folder / "tiny-drop-1" / "model.safetensors").stat().st_size
    assert dropped["proof"]["bytes"] == size < weights.stat().st_size
    assert dropped["bits"] is None


def test_what_was_made_is_kept(compressed: Compressed, tiny_model: Path) -> None:
    """Untouched; another seed or dtype is refused, and --overwrite makes it anew."""
    file = compressed.folder / "tiny-wanda-2of4" / "model.safetensors"
    before = file.stat().st_mtime_ns
    asked = ("compress", tiny_model, "--scheme", "wanda-2:4", "--output", compressed.folder)
    again = run(*asked, folder=compressed.folder)
    assert again.code == 0
    assert "made before, kept" in again.printed
    assert file.stat().st_mtime_ns == before
    other = run(*asked, "--seed", 1, folder=compressed.folder)
    assert other.code == 2
    assert "was made with seed 0, now 1; choose another --output, or replace it" in other.printed


def test_another_version_of_the_library_is_said(
    compressed: Compressed, tiny_model: Path, tmp_path: Path
) -> None:
    """The model is kept, with what made it and what is here."""
    copytree(compressed.folder / "tiny-int4-g32", tmp_path / "tiny-int4-g32")
    file = tmp_path / "tiny-int4-g32" / "compression.json"
    record = json.loads(file.read_text())
    record["versions"]["torchao"] = "0.0.1"
    file.write_text(json.dumps(record))
    again = run(
        *("compress", tiny_model, "--scheme", "int4-g32", "--output", tmp_path), folder=tmp_path
    )
    assert again.code == 0
    assert "kept; made by torchao 0.0.1, here is " in again.printed


def test_a_kill_leaves_no_half_model(tiny_model: Path, tmp_path: Path) -> None:
    """What was being made is not there; the next command removes its traces and makes it.

    One scheme that cannot be made does not end the others: the exit code tells.
    """
    asked = ("compress", tiny_model, "--scheme", "drop-2,drop-1", "--output", tmp_path)
    process = subprocess.Popen(command(*asked), env=harness_environment(tmp_path, preloaded=False))
    for _ in range(1200):
        if list(tmp_path.glob(".lm-eval-flips-*-tiny-drop-*.new")):
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".lm-eval-flips-*"))
    assert not list(tmp_path.glob("tiny-*"))
    done = run(*asked, folder=tmp_path)
    assert done.code == 2, done.printed
    assert "1 could not be made: drop-2: the model has 2 layers; drop 1 at most" in done.printed
    assert (tmp_path / "tiny-drop-1" / "compression.json").exists()
    assert not list(tmp_path.glob(".lm-eval-flips-*"))


def test_what_cannot_be_is_refused(
    compressed: Compressed,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one line each, before anything is made."""

    def refused(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["lm-eval-flips", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    output = ("--output", tmp_path / "out")
    assert "did you mean int4" in refused("compress", tiny_model, "--scheme", "int44", *output)
    said = refused("compress", compressed.folder / "tiny-drop-1", "--scheme", "int8", *output)
    assert "is compressed already (lm-eval-flips)" in said
    said = refused("compress", tmp_path, "--scheme", "int8", *output)
    assert "has no config.json" in said
    said = refused("compress", tmp_path / "none", "--scheme", "int8", *output)
    assert "is no folder, and no model of the hub that can be had here" in said
    said = refused(
        *("compress", tiny_model, "--scheme", "int8", *output, "--maker", "torchao=/none")
    )
    assert "the interpreter '/none' for torchao cannot be run" in said
    said = refused("compress", tiny_model, "--scheme", "int8", *output, "--maker", "x=/bin/sh")
    assert "'x' makes no models here" in said
    (tmp_path / "file").write_text("mine")
    said = refused("compress", tiny_model, "--scheme", "drop-1", "--output", tmp_path / "file")
    assert "is no folder to write into: File exists" in said
    (tmp_path / "taken" / "tiny-drop-1").mkdir(parents=True)
    said = refused("compress", tiny_model, "--scheme", "drop-1", "--output", tmp_path / "taken")
    assert "holds something else, without compression.json; choose another --output" in said
    assert not (tmp_path / "out").exists()


def test_a_model_that_anyone_made_is_proven(
    compressed: Compressed, tiny_model: Path, tmp_path: Path
) -> None:
    """An honest one passes; a copy of the baseline is called that, and is why the code is 2."""
    copytree(tiny_model, tmp_path / "never-engaged")
    good = compressed.folder / "tiny-int4-g32"
    done = run("prove", tiny_model, good, tmp_path / "never-engaged", folder=tmp_path)
    assert done.code == 2
    assert "✓ tiny-int4-g32: perplexity" in done.printed
    assert "✗ never-engaged: perplexity" in done.printed
    assert "nothing changed: it answers as the baseline does" in done.printed


def test_the_list_says_what_is_missing_here(tmp_path: Path) -> None:
    """As JSON: an interpreter without torchao makes none of its models; ours need nothing."""
    done = run(
        *("schemes", "--json"), folder=tmp_path, LM_EVAL_FLIPS_TORCHAO_PYTHON="/usr/bin/python3"
    )
    found = {one["scheme"]: one for one in json.loads(done.printed)}
    assert found["int8"]["missing_to_make"] == ["torchao"]
    assert found["drop-1"]["missing_to_make"] == []
    assert found["drop-1"]["bits"] is None
    assert found["int8"]["bits"] == 8
    table = run("schemes", folder=tmp_path)
    assert table.code == 0
    for name in found:
        assert f"\n{name} " in table.printed
