"""Disks that are too small for a model: refused before, and told where it is seen too late."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_eval_flips.cli import main
from lm_eval_flips.compression.maker import Step
from lm_eval_flips.compression.process import done
from lm_eval_flips.compression.source import refuse_full_disk, source_of
from lm_eval_flips.errors import FlipsError


def source(folder: Path, size: int, **config: object) -> Path:
    """A model's folder whose weights take so many bytes, none of which is written."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    with (folder / "model.safetensors").open("wb") as weights:
        weights.truncate(size)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB, which only root can mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_is_too_small_is_refused_before(
    small_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is written; two models need twice as much; control: one of 10 MB has its place."""
    model = source(tmp_path / "model", 10_000_000)
    refuse_full_disk(source_of(str(model)), small_disk, dtypes=["auto"])
    command = ["lm-eval-flips", "compress", model, "--scheme", "drop-1,drop-2"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--output", str(small_disk / "out")])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert "has 21 MB free, and 2 models of" in said
    assert "may take 24 MB; free some, make fewer at once, or choose another --output" in said
    assert list(small_disk.iterdir()) == []


def test_a_wider_dtype_takes_more(tmp_path: Path) -> None:
    """By hand: bfloat16 made in float32 takes twice, in float16 as much; no narrower one less."""
    for name in ("dtype", "torch_dtype"):
        own = source_of(str(source(tmp_path / name, 1000, **{name: "bfloat16"})))
        sizes = [own.bytes_in(asked) for asked in ("auto", "bfloat16", "float16", "float32")]
        assert sizes == [1000, 1000, 1000, 2000]
    wide = source_of(str(source(tmp_path / "wide", 1000, dtype="float32")))
    assert wide.bytes_in("bfloat16") == 1000
    unknown = source_of(str(source(tmp_path / "unknown", 1000)))
    assert unknown.bytes_in("float32") == 1000


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_fills_meanwhile_is_told(
    small_disk: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """In one line, not the end of a traceback; by the real process."""
    free = 100_000  # less than the weights
    with (small_disk / "other").open("wb") as other:
        other.write(bytes(20 * 1024 * 1024 - free))
    step = Step(
        source=str(tiny_model),
        dtype="auto",
        reading=str(tmp_path / "memory.safetensors"),
        name="drop-1",
        make="layers.drop_last",
        parameters={"count": "1"},
        texts=[],
        folder=str(small_disk / "model"),
        packages=[],
    )
    with pytest.raises(FlipsError, match="^the disk is full: free some, or choose another"):
        done(sys.executable, step, name="drop-1", scratch=tmp_path)
