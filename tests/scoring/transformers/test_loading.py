"""Checkpoints whose library is missing are refused before they are loaded, with what to install."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from lm_eval_flips import FlipsError
from lm_eval_flips.harness.models.bitsandbytes_arguments import as_config
from lm_eval_flips.scoring.transformers import loading
from lm_eval_flips.scoring.transformers.loading import LOADERS, Loader, refuse_unloadable

ABSENT = Loader(modules=("no_such_library", "json"), install="pip install no-such-library")


def checkpoint(folder: Path, content: object) -> Path:
    """A folder with that config."""
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that brings it; what is here is not named."""
    monkeypatch.setitem(loading.LOADERS, "gptq", ABSENT)
    folder = checkpoint(tmp_path, {"quantization_config": {"quant_method": "gptq"}})
    with pytest.raises(FlipsError) as refused:
        refuse_unloadable(folder)
    assert str(refused.value) == (
        f"'{folder}' is a checkpoint of gptq, which needs no_such_library, not installed here: "
        "pip install no-such-library"
    )


@pytest.mark.parametrize(
    "content",
    [{}, [], {"quantization_config": {}}, {"quantization_config": {"quant_method": "of tomorrow"}}],
)
def test_what_needs_nothing_known_is_let_through(tmp_path: Path, content: object) -> None:
    """An ordinary model, a method that is not known, and a model that is not here."""
    refuse_unloadable(checkpoint(tmp_path, content))
    refuse_unloadable(tmp_path / "none")


def test_every_loader_says_how_to_get_it() -> None:
    """Modules are names that can be looked up, and the way out is a command."""
    for loader in LOADERS.values():
        assert loader.install.startswith("pip install ")
        assert all(part.isidentifier() for name in loader.modules for part in name.split("."))


def test_arguments_of_bitsandbytes_are_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers takes them; other arguments stay, and where it is missing that is said."""
    assert as_config({"revision": "main", "load_in_8bit": False}) == {"revision": "main"}
    given = {"revision": "main", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    if find_spec("bitsandbytes"):
        found = as_config(given)
        assert found.keys() == {"revision", "quantization_config"}
        assert found["quantization_config"].bnb_4bit_quant_type == "nf4"
    monkeypatch.setitem(loading.LOADERS, "bitsandbytes", ABSENT)
    with pytest.raises(FlipsError, match="load_in_4bit, bnb_4bit_quant_type is bitsandbytes', whi"):
        as_config(given)
