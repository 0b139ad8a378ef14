"""The fingerprint of a local model's files: what changes it, and what does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lm_eval_flips.evaluation.model_files import files_fingerprint


def model(folder: Path) -> Path:
    """Two files, as a checkpoint has."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_model_that_stays_keeps_its_fingerprint(tmp_path: Path) -> None:
    """Asked twice, and copied with its times; folders within it do not count."""
    first = files_fingerprint(model(tmp_path / "a"))
    assert first == files_fingerprint(str(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert files_fingerprint(tmp_path / "b") == first
    (tmp_path / "a" / "cache").mkdir()
    assert files_fingerprint(tmp_path / "a") == first


def test_a_model_that_is_made_anew_has_another(tmp_path: Path) -> None:
    """Other contents of the same size, another size, another name, one file more."""
    folder = model(tmp_path / "a")
    found = {files_fingerprint(folder)}
    weights = folder / "model.safetensors"
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(1, 1))
    found.add(files_fingerprint(folder))
    weights.write_bytes(b"more weights")
    os.utime(weights, ns=(1, 1))
    found.add(files_fingerprint(folder))
    weights.rename(folder / "other.safetensors")
    found.add(files_fingerprint(folder))
    (folder / "generation_config.json").write_text("{}")
    found.add(files_fingerprint(folder))
    assert len(found) == 5


def test_a_name_that_is_no_folder_has_none(tmp_path: Path) -> None:
    """A model of a hub is told apart by its revision."""
    assert files_fingerprint("organisation/model") == ""
    assert files_fingerprint(tmp_path / "absent") == ""
