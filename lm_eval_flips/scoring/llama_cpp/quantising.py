"""GGUF files of fewer bits, by llama.cpp's quantiser or, for plain types, by the format's library.

llama.cpp's is in llama-cpp-python's library and in the program ``llama-quantize``; xllamacpp has
none. The format's own library rounds whole files to one type: F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1
and Q4_0, but neither K-quants nor I-quants.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from ctypes import c_bool, c_char_p, c_int32, c_uint8, c_uint32
from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.library import Library, library

PLAIN = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
PROGRAM = "llama-quantize"


class QuantizeParams(ctypes.Structure):
    """How a file is quantised (``struct llama_model_quantize_params``): how it begins."""

    _fields_ = [
        ("nthread", c_int32),
        ("ftype", c_int32),
        ("output_tensor_type", c_int32),
        ("token_embedding_type", c_int32),
        ("allow_requantize", c_bool),
        ("quantize_output_tensor", c_bool),
        ("rest", c_uint8 * 490),
    ]


def quantise(
    source: Path, target: Path, file_type: str, *, importance: Path | None = None, threads: int = 1
) -> str:
    """Write a GGUF file of another type.

    Args:
        source: a file of 16 or 32 bits.
        target: the file to write.
        file_type: as llama.cpp calls it, such as "Q4_K_M".
        importance: an importance matrix, which ``llama-quantize`` alone reads.
        threads: of the processor.

    Returns:
        What made it.

    Raises:
        FlipsError: nothing here makes this type, or what makes it failed.
    """
    from gguf import LlamaFileType

    known = {kind.name.removeprefix("MOSTLY_").removeprefix("ALL_"): kind for kind in LlamaFileType}
    if file_type not in known:
        raise FlipsError(f"'{file_type}' is no type of GGUF files; there are {', '.join(known)}")
    if not source.is_file():
        raise FlipsError(f"'{source}' is no file")
    program = shutil.which(PROGRAM)
    own = library()
    if importance is None and own.quantises:
        _by_library(own, source, target, int(known[file_type]), threads)
        return own.source
    if program is not None:
        _by_program(program, source, target, file_type, importance, threads)
        return PROGRAM
    if importance is not None or file_type not in PLAIN:
        what = "an importance matrix" if importance is not None else file_type
        raise FlipsError(
            f"{what} takes llama.cpp's own quantiser: put {PROGRAM} on PATH, or install "
            "llama-cpp-python; without it there are " + ", ".join(PLAIN)
        )
    rounded(source, target, file_type)
    return "gguf"


def _by_library(own: Library, source: Path, target: Path, file_type: int, threads: int) -> None:
    own.declare("llama_model_quantize_default_params", QuantizeParams, [])
    params = own.llama_model_quantize_default_params()
    if (params.nthread, params.allow_requantize, params.quantize_output_tensor) != (0, False, True):
        raise FlipsError(f"the quantiser of {own.source} is of a version that is not known here")
    params.ftype, params.nthread = file_type, threads
    given = [c_char_p, c_char_p, ctypes.POINTER(QuantizeParams)]
    own.declare("llama_model_quantize", c_uint32, given)
    own.complaints()
    names = str(source).encode(), str(target).encode()
    if own.llama_model_quantize(*names, ctypes.byref(params)):
        raise FlipsError(f"{own.source} could not quantise '{source}': {own.complaints()}")


def _by_program(
    program: str, source: Path, target: Path, file_type: str, importance: Path | None, threads: int
) -> None:
    options = [] if importance is None else ["--imatrix", str(importance)]
    command = [program, *options, str(source), str(target), file_type, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise FlipsError(f"{PROGRAM} could not quantise '{source}': {lines[-1] if lines else ''}")


def file_type_of(file: Path) -> str:
    """The type of a GGUF file as llama.cpp calls it, as "F16" or "Q4_K_M"; "" if it names none.

    Raises:
        FlipsError: the file cannot be read.
    """
    import gguf

    try:
        field = gguf.GGUFReader(file).fields.get("general.file_type")
        kind = None if field is None else gguf.LlamaFileType(field.contents())
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise FlipsError(f"'{file}' is no GGUF file that can be read: {error}") from None
    return "" if kind is None else kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")


def rounded(source: Path, target: Path, file_type: str) -> None:
    """Write a GGUF file whose matrices are all of one plain type, by the format's own library.

    Args:
        source: a file of any type; a quantised one is de-quantised first.
        target: the file to write.
        file_type: one of ``PLAIN``.
    """
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        element = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(key, field.contents(), field.types[0], sub_type=element)
    name = f"ALL_{file_type}" if file_type == "F32" else f"MOSTLY_{file_type}"
    writer.add_file_type(int(gguf.LlamaFileType[name]))
    kind = gguf.GGMLQuantizationType[file_type]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    for tensor in reader.tensors:
        plain = gguf.dequantize(tensor.data, tensor.tensor_type)
        fits = plain.ndim > 1 and plain.shape[-1] % block == 0
        _add(writer, tensor.name, plain, kind if fits else gguf.GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: Any, name: str, plain: Any, kind: Any) -> None:
    import gguf

    if kind.name == "F32":
        writer.add_tensor(name, plain.astype("float32"))
    elif kind.name == "F16":
        writer.add_tensor(name, plain.astype("float16"))
    else:
        writer.add_tensor(name, gguf.quantize(plain, kind), raw_dtype=kind)
