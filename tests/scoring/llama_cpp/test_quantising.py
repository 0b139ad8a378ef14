"""Files of fewer bits: by the format's library everywhere, by llama.cpp's quantiser where it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.file_facts import FileFacts
from lm_eval_flips.scoring.llama_cpp.library import library
from lm_eval_flips.scoring.llama_cpp.model import Computing, LlamaModel
from lm_eval_flips.scoring.llama_cpp.quantising import PLAIN, PROGRAM, quantise
from tests.generators.gguf_files import write_gguf

CAN = library().quantises or shutil.which(PROGRAM) is not None


@pytest.fixture(scope="module")
def source(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in float32."""
    return write_gguf(tiny_model, tmp_path_factory.mktemp("gguf") / "tiny-F32.gguf")


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_types_are_the_source_rounded(kind: str, source: Path, tmp_path: Path) -> None:
    """Oracle: the format's own rounding of each matrix; everything else is as it was."""
    target = tmp_path / f"{kind}.gguf"
    quantise(source, target, kind)
    facts, before = FileFacts.of(target), FileFacts.of(source)
    assert facts.file_type == kind
    assert (facts.tokens, facts.special, facts.chat_template, facts.weights) == (
        before.tokens,
        before.special,
        before.chat_template,
        before.weights,
    )
    wanted = gguf.GGMLQuantizationType[kind]
    if not CAN:  # llama.cpp keeps some matrices in more bits
        pairs = zip(gguf.GGUFReader(source).tensors, gguf.GGUFReader(target).tensors, strict=True)
        for own, made in pairs:
            assert own.name == made.name
            if own.data.ndim > 1:
                assert made.tensor_type == wanted
                assert np.array_equal(made.data, gguf.quantize(own.data, wanted))
            else:
                assert np.array_equal(made.data, own.data)
    assert LlamaModel(target, Computing(threads=1)).file_type == kind


@pytest.mark.skipif(CAN, reason="llama.cpp's quantiser is here")
def test_what_only_llama_cpp_makes_says_so(source: Path, tmp_path: Path) -> None:
    """The way out is named, and what there is without it."""
    with pytest.raises(FlipsError, match=f"Q4_K_M takes llama.cpp's own .*put {PROGRAM} on PATH"):
        quantise(source, tmp_path / "k.gguf", "Q4_K_M")
    with pytest.raises(FlipsError, match="an importance matrix takes llama.cpp's own quantiser"):
        quantise(source, tmp_path / "q.gguf", "Q8_0", importance=tmp_path / "imatrix.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not CAN, reason="llama.cpp's quantiser is not here")
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M", "Q2_K"])
def test_llama_cpp_makes_its_own_types(kind: str, source: Path, tmp_path: Path) -> None:
    """The file says its type, and runs."""
    target = tmp_path / f"{kind}.gguf"
    quantise(source, target, kind)
    assert FileFacts.of(target).file_type == kind
    assert LlamaModel(target, Computing(threads=1)).file_type == kind


def test_what_is_no_type_or_no_file_is_named(source: Path, tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(FlipsError, match="'Q9_X' is no type of GGUF files; there are F32, F16"):
        quantise(source, tmp_path / "x.gguf", "Q9_X")
    with pytest.raises(FlipsError, match="nowhere.gguf' is no file"):
        quantise(tmp_path / "nowhere.gguf", tmp_path / "x.gguf", "Q8_0")
