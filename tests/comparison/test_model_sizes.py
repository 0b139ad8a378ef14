"""Sizes of models: given, from files, by parameters and dtype, or unknown."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.comparison.model_sizes import ModelSize, model_sizes, weight_bytes
from tests.generators import logs

CONFIG: dict[str, Any] = {
    "model": "hf",
    "model_num_parameters": 1000,
    "model_dtype": "torch.bfloat16",
    "model_sha": "",
}


def compared(folder: Path, *, arguments: dict[str, Any] | None = None, **base: Any) -> Comparison:
    """A baseline and a compressed run, whose model lies in folder/int4 or elsewhere."""
    runs = []
    for name, row in (("base", [-1.0, -2.0]), ("int4", [-2.0, -1.0])):
        own = {"pretrained": str(folder / name)} | ((arguments or {}) if name == "int4" else {})
        config = CONFIG | {"model_args": own} | (base if name == "base" else {})
        runs.append(
            logs.write_run(
                folder / "runs" / name,
                {"task": [logs.choice(i, row) for i in range(3)]},
                model=f"org/{name}",
                config=config,
            )
        )
    return compare(*runs)


def by_name(comparison: Comparison, **given: int) -> dict[str, ModelSize]:
    """The known sizes by the model's last name."""
    found = model_sizes(comparison, given=given)
    runs = [(run.model, run.path) for run in comparison.compressed]
    runs.insert(0, (comparison.baseline.model, comparison.baseline.path))
    return {model.rsplit("/", 1)[-1]: found[path] for model, path in runs if path in found}


def make_model(folder: Path, **files: int) -> None:
    """A model's folder with files of these sizes; dots of their names are written as __."""
    folder.mkdir()
    for name, size in files.items():
        (folder / name.replace("__", ".")).write_bytes(bytes(size))


def test_weight_files_of_a_local_folder_count(tmp_path: Path) -> None:
    """All shards, not the tokenizer; bits are of the baseline's 1000 weights."""
    make_model(tmp_path / "int4", a__safetensors=300, b__safetensors=325, tokenizer__json=999)
    found = by_name(compared(tmp_path))
    assert found["int4"] == ModelSize(bytes=625, bits_per_weight=5.0, source="weight files")


def test_the_same_weights_in_two_formats_count_once(tmp_path: Path) -> None:
    """Safetensors go first."""
    make_model(tmp_path / "m", model__safetensors=100, pytorch_model__bin=101)
    assert weight_bytes(tmp_path / "m") == 100
    make_model(tmp_path / "none", config__json=10)
    assert weight_bytes(tmp_path / "none") is None


def test_shards_are_those_of_the_index_and_all_of_them(tmp_path: Path) -> None:
    """A second copy of the weights beside them does not count; a missing shard leaves no size."""
    make_model(tmp_path / "m", a__safetensors=30, b__safetensors=40, consolidated__safetensors=70)
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "a.safetensors"}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_bytes(tmp_path / "m") == 70
    (tmp_path / "m" / "b.safetensors").unlink()
    assert weight_bytes(tmp_path / "m") is None


def test_several_gguf_files_are_several_models_unless_they_are_shards(tmp_path: Path) -> None:
    """A folder of q4 and q8 has no one size."""
    make_model(tmp_path / "two", q4__gguf=40, q8__gguf=80)
    assert weight_bytes(tmp_path / "two") is None
    make_model(tmp_path / "one", **{"q4-00001-of-00002__gguf": 40, "q4-00002-of-00002__gguf": 41})
    assert weight_bytes(tmp_path / "one") == 81


def test_the_baseline_alone_is_told_by_its_parameters(tmp_path: Path) -> None:
    """1000 weights of two bytes; a compressed model's dtype says nothing of its size."""
    found = by_name(compared(tmp_path))
    assert found == {
        "base": ModelSize(bytes=2000, bits_per_weight=16.0, source="parameters and dtype")
    }
    assert by_name(compared(tmp_path / "b", model_dtype="torch.float7")) == {}


@pytest.mark.parametrize(
    "arguments", [{"load_in_4bit": True}, {"load_in_8bit": "True"}, {"peft": "adapter"}]
)
def test_what_is_changed_while_loading_has_no_size_of_its_own(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    """The files are the 16-bit ones; a control: without the argument they count."""
    make_model(tmp_path / "int4", model__safetensors=2000)
    assert "int4" not in by_name(compared(tmp_path, arguments=arguments))
    assert "int4" in by_name(compared(tmp_path, arguments={"load_in_4bit": False}))


def test_vllm_quantises_on_the_fly_or_reads_quantised_files(tmp_path: Path) -> None:
    """The model's config.json tells which."""
    make_model(tmp_path / "int4", model__safetensors=500)
    comparison = compared(tmp_path, arguments={"quantization": "awq"})
    assert "int4" not in by_name(comparison)
    config = {"quantization_config": {"quant_method": "awq"}}
    (tmp_path / "int4" / "config.json").write_text(json.dumps(config))
    assert by_name(comparison)["int4"].bytes == 500


def test_a_gguf_file_is_its_own_size(tmp_path: Path) -> None:
    """One of several in a folder, named by the arguments, or the model itself."""
    make_model(tmp_path / "int4", q4__gguf=400, q8__gguf=800)
    comparison = compared(tmp_path, arguments={"gguf_file": "q4.gguf"})
    assert by_name(comparison)["int4"] == ModelSize(bytes=400, bits_per_weight=3.2, source="file")
    own = {"pretrained": str(tmp_path / "int4" / "q8.gguf")}
    assert by_name(compared(tmp_path, arguments=own))["int4"].bytes == 800


def test_a_given_size_goes_first(tmp_path: Path) -> None:
    """By the model's last name; the number of weights may be unknown."""
    make_model(tmp_path / "int4", model__safetensors=2000)
    comparison = compared(tmp_path, model_num_parameters=-1)
    size = by_name(comparison, int4=700)["int4"]
    assert (size.bytes, size.source) == (700, "given")
    assert isnan(size.bits_per_weight)


def test_names_and_sizes_that_fit_nothing_are_errors(tmp_path: Path) -> None:
    """Each message says what is wrong and what there is."""
    comparison = compared(tmp_path)
    with pytest.raises(FlipsError, match="no model is called 'int8'; there are base, int4"):
        model_sizes(comparison, given={"int8": 10})
    with pytest.raises(FlipsError, match="the size of 'int4' is 0 bytes; give a positive number"):
        model_sizes(comparison, given={"int4": 0})


def test_runs_are_not_read_a_second_time(tmp_path: Path) -> None:
    """The comparison carries them: it tells the same where their files are gone since."""
    comparison = compared(tmp_path)
    before = model_sizes(comparison)
    for file in (tmp_path / "runs").rglob("*.json*"):
        file.unlink()
    assert before
    assert model_sizes(comparison) == before
