"""GGUF files of a run: which are meant, and what is said of them before anything is scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation.gguf_models import expanded, held_together, is_gguf, name_of
from lm_eval_flips.scoring.llama_cpp.file_facts import FileFacts
from tests.generators.gguf_files import write_gguf

Type = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three files of the tiny model."""
    folder = tmp_path_factory.mktemp("models")
    for kind in (Type.F16, Type.Q8_0, Type.Q4_0):
        write_gguf(tiny_model, folder / f"tiny-{kind.name}.gguf", kind)
    return folder


def given(folder: Path, *names: str, more: str = "") -> list[str]:
    """Model arguments of some of the files."""
    return [f"gguf={folder}/tiny-{name}.gguf{more}" for name in names]


def test_patterns_and_folders_are_files_the_largest_first(models: Path) -> None:
    """Other arguments stay with each; the baseline's file is not among the others."""
    (baseline,) = given(models, "F16")
    expected = given(models, "Q8_0", "Q4_0", more=",n_threads=2")
    for named in (f"{models}/*.gguf", f"{models}"):
        assert expanded([f"gguf={named},n_threads=2"], baseline=baseline) == expected
    everything = expanded([f"gguf={models}"], baseline="pretrained=org/model")
    assert everything == given(models, "F16", "Q8_0", "Q4_0")


def test_what_is_named_stays(models: Path) -> None:
    """Also the baseline's own file, and what is no GGUF file."""
    (baseline,) = given(models, "F16")
    named = [baseline, "pretrained=org/int4", '{"pretrained": "org/int4"}']
    assert expanded(named, baseline=baseline) == named


def test_nothing_is_named(tmp_path: Path) -> None:
    """A pattern or folder without a file, a file that is not there."""
    for pattern in (f"{tmp_path}/*.gguf", f"{tmp_path}"):
        with pytest.raises(FlipsError, match="is no GGUF file, and holds none"):
            expanded([f"gguf={pattern}"], baseline="pretrained=m")
    with pytest.raises(FlipsError, match="'nowhere.gguf' is no file"):
        expanded(["gguf=nowhere.gguf"], baseline="pretrained=m")


def test_parts_are_one_model(models: Path, tmp_path: Path) -> None:
    """The first part stands for all; a missing one is named."""
    parts = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for part in parts:
        shutil.copy(models / "tiny-Q4_0.gguf", part)
    assert expanded([f"gguf={tmp_path}"], baseline="pretrained=m") == [f"gguf={parts[0]}"]
    assert name_of(str(parts[0])) == "m"
    parts[1].unlink()
    with pytest.raises(FlipsError, match="one of 2 parts, of which m-00002-of-00002.gguf is miss"):
        held_together("pretrained=m", [f"gguf={parts[0]}"])


def test_facts_are_what_was_written(models: Path, tiny_model: Path) -> None:
    """Oracle: the tiny model's own numbers, and the format's bits a weight."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    facts = FileFacts.of(models / "tiny-Q8_0.gguf")
    flat = sum(weight.numel() for weight in model.parameters() if weight.ndim == 1)
    assert facts.weights == sum(weight.numel() for weight in model.parameters())
    assert facts.kinds == {"F32": flat, "Q8_0": facts.weights - flat}
    # 32 weights of 8 bits share a scale of 16
    assert facts.bits_per_weight == pytest.approx(
        (32 * flat + 8.5 * (facts.weights - flat)) / facts.weights
    )
    assert (facts.file_type, facts.architecture, facts.layers) == ("Q8_0", "llama", 2)
    assert facts.bytes == (models / "tiny-Q8_0.gguf").stat().st_size


DIFFERENCES = {
    "pre": ({"tokenizer__ggml__pre": "default"}, "tokenizer.ggml.pre is default and gpt-2"),
    "template": ({"tokenizer__chat_template": "{{ 1 }}"}, "have other chat templates"),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_what_is_no_compression_is_said(
    case: str, models: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """One line each; control: nothing is said of files that differ in their weights alone."""
    changed, message = DIFFERENCES[case]
    file = write_gguf(tiny_model, tmp_path / "other.gguf", Type.Q8_0, **changed)
    (baseline,) = given(models, "F16")
    (line,) = held_together(baseline, [f"gguf={file}"])
    assert message in line
    assert held_together(baseline, given(models, "Q8_0", "Q4_0")) == []
    assert held_together("pretrained=m", given(models, "Q8_0")) == []
    assert held_together("pretrained=m", ["pretrained=n"]) == []


def test_another_vocabulary_is_another_model(models: Path, tmp_path: Path) -> None:
    """Refused, whatever the weights are."""
    reader = gguf.GGUFReader(models / "tiny-Q8_0.gguf")
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    writer.add_token_list([*tokens[:-1], "else"])
    writer.add_tensor("a", reader.tensors[0].data, raw_dtype=Type.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (baseline,) = given(models, "F16")
    with pytest.raises(FlipsError, match="have other vocabularies: they are not of one model"):
        held_together(baseline, [f"gguf={tmp_path}/other.gguf"])


def test_a_vocabulary_alone_is_no_model(tmp_path: Path) -> None:
    """As such files are made for tests of tokenizers."""
    writer = gguf.GGUFWriter(tmp_path / "vocab.gguf", "llama")
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(FlipsError, match="holds a vocabulary alone, and no model"):
        held_together("pretrained=m", [f"gguf={tmp_path}/vocab.gguf"])


@pytest.mark.parametrize(
    ("model_args", "expected"),
    [
        ("gguf=a.gguf", True),
        ("n_threads=2,gguf=a.gguf", True),
        ('{"gguf": "a.gguf"}', True),
        ("pretrained=m,gguf_file=a.gguf", False),
        ('{"pretrained": "m", "gguf_file": "a.gguf"}', False),
    ],
)
def test_which_arguments_name_a_file(model_args: str, expected: bool) -> None:
    """flips-gguf runs these; transformers de-quantises `gguf_file`."""
    assert is_gguf(model_args) is expected
