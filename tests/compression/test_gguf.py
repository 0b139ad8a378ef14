"""GGUF files of fewer bits as schemes: by the one command, proven by llama.cpp, or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Type

from lm_eval_flips.cli.compress import compressing_of
from lm_eval_flips.compression import gguf as gguf_maker
from lm_eval_flips.compression.made import CompressedModel, Failure
from lm_eval_flips.compression.naming import scheme, schemes
from lm_eval_flips.compression.record import read_record
from lm_eval_flips.errors import FlipsError
from tests.generators.gguf_files import write_gguf

Makes = Callable[..., list[CompressedModel | Failure]]


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a file of 32 bits."""
    return write_gguf(tiny_model, tmp_path_factory.mktemp("whole") / "tiny-F32.gguf")


def made(source: Path, names: str, output: Path) -> list[CompressedModel | Failure]:
    """What came of the schemes."""
    return list(compressing_of(str(source), output).make(schemes(names)))


def only(found: Iterator[CompressedModel | Failure] | list[CompressedModel | Failure]) -> Path:
    """The one model's folder."""
    (one,) = found
    assert isinstance(one, CompressedModel), one
    return one.folder


def test_its_numbers_are_the_library_s(whole: Path, tmp_path: Path) -> None:
    """Every matrix is what `gguf` makes of it; the record tells bits, family, source and proof."""
    folder = only(made(whole, "gguf-q4_0", tmp_path))
    assert folder.name == "tiny-F32-gguf-q4_0"
    (file,) = folder.glob("*.gguf")
    assert file.name == "tiny-F32-Q4_0.gguf"
    before = {own.name: own for own in gguf.GGUFReader(whole).tensors}
    matrices = 0
    for tensor in gguf.GGUFReader(file).tensors:
        if tensor.tensor_type == Type.Q4_0:
            plain = gguf.dequantize(before[tensor.name].data, Type.F32)
            assert np.array_equal(tensor.data, gguf.quantize(plain, Type.Q4_0))
            matrices += 1
    assert matrices > 10
    record = read_record(folder)
    assert record is not None
    assert (record.family, record.bits, record.proof.faults) == ("GGUF", 4.0, ())
    assert record.proof.kl > 0
    assert record.proof.bytes == file.stat().st_size
    assert list(record.source_sha256) == [whole.name]


def test_more_bits_are_nearer(whole: Path, tmp_path: Path) -> None:
    """As proven by llama.cpp itself; what was made is kept."""
    names = "gguf-f16,gguf-q8_0,gguf-q4_0"
    distances = []
    for one in made(whole, names, tmp_path):
        assert isinstance(one, CompressedModel), one
        distances.append(one.record.proof.kl)
    assert distances == sorted(distances)
    assert distances[0] < 1e-4 < distances[-1]
    again = made(whole, names, tmp_path)
    assert all(isinstance(one, CompressedModel) and one.kept for one in again)


def test_a_reading_is_that_of_transformers(whole: Path, tiny_model: Path) -> None:
    """The same texts, token by token: llama.cpp's losses of the file are the model's own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lm_eval_flips.compression.reading import read

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32")
    own = read(model, AutoTokenizer.from_pretrained(tiny_model))
    found = gguf_maker.read_file(whole)
    assert found.losses.tolist() == pytest.approx(own.losses.tolist(), abs=1e-3)
    assert found.parameters == own.parameters


@pytest.mark.parametrize(
    ("change", "names", "why"),
    [
        ("whole", "int8", "int8 is made of a model that transformers loads; of the GGUF file"),
        ("folder", "gguf-q8_0", "made of a GGUF file of 16 or 32 bits.*convert_hf_to_gguf.py"),
        ("text", "gguf-q8_0", "is no GGUF file; .*convert_hf_to_gguf.py"),
        ("missing", "gguf-q8_0", "missing.gguf' cannot be read: No such file"),
    ],
)
def test_what_cannot_be_made_is_refused(
    change: str, names: str, why: str, whole: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Before anything is made, in one line, with the way out."""
    text = tmp_path / "text.gguf"
    text.write_text("no model")
    sources = {"whole": whole, "folder": tiny_model, "text": text}
    with pytest.raises(FlipsError, match=why):
        made(sources.get(change, tmp_path / "missing.gguf"), names, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_compressed_already_is_no_source(whole: Path, tmp_path: Path) -> None:
    """To round twice is another model."""
    folder = only(made(whole, "gguf-q8_0", tmp_path))
    (file,) = folder.glob("*.gguf")
    (failure,) = made(file, "gguf-q4_0", tmp_path)
    assert isinstance(failure, Failure)
    assert "is compressed already (Q8_0); give the file of 16 or 32 bits" in failure.reason


def test_a_file_that_was_cut_off_is_told(whole: Path, tmp_path: Path) -> None:
    """By whatever reads it first; nothing is left of it."""
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:1000])
    (failure,) = made(cut, "gguf-q8_0", tmp_path / "out")
    assert isinstance(failure, Failure)
    assert "no GGUF file that can be read" in failure.reason
    assert [file.suffix for file in (tmp_path / "out").iterdir()] in ([], [".log"])


def test_mixed_types_need_llama_cpp_s_quantiser(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is missing that is said before; a program on PATH is enough."""
    library = scheme("gguf-q4_k_m").recipe.library
    monkeypatch.setenv("PATH", str(tmp_path))
    interpreters = compressing_of(str(whole), tmp_path).interpreters
    missing = interpreters.missing(library)
    if "llama-cpp-python" in missing:
        with pytest.raises(FlipsError, match="gguf-q4_k_m needs llama-cpp-python: llama-quantize"):
            made(whole, "gguf-q4_k_m", tmp_path / "out")
    program = tmp_path / "llama-quantize"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert shutil.which("llama-quantize") == str(program)
    assert interpreters.missing(library) == ()


@pytest.mark.parametrize(
    ("name", "bits"), [("gguf-q8_0", 8), ("gguf-q3_k_m", 3), ("gguf-iq4_xs", 4), ("gguf-bf16", 16)]
)
def test_bits_are_those_of_the_type(name: str, bits: int) -> None:
    """The number in its name."""
    assert scheme(name).bits == bits


def test_a_type_that_is_none_has_nearest_names() -> None:
    """As every scheme."""
    with pytest.raises(FlipsError, match=r"no scheme 'gguf-q9_0'; did you mean .*gguf-q8_0"):
        scheme("gguf-q9_0")
