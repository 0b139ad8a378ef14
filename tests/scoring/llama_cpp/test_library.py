"""The seam to llama.cpp: a library that fits is taken, any other is refused with those that fit."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp import trial
from lm_eval_flips.scoring.llama_cpp.layouts import (
    DEFAULTS,
    ContextParams,
    LaterContextParams,
    ModelParams,
    Room,
    misfit,
)
from lm_eval_flips.scoring.llama_cpp.library import CHOICE, FUNCTIONS, Library, library
from tests.generators.gguf_files import write_gguf

COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


def defaults(name: str) -> bytes:
    """What the installed library fills in."""
    function = getattr(ctypes.CDLL(str(library().path)), name)
    function.restype = Room
    return bytes(function().content)


def compiled(folder: Path, source: str) -> Path:
    """A shared library of a few lines."""
    (folder / "own.c").write_text(source)
    target = folder / "own.so"
    command = [str(COMPILER), "-shared", "-fPIC", str(folder / "own.c"), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


def test_the_installed_library_fits_in_one_layout() -> None:
    """Control: the other layout of contexts does not fit what it fills in."""
    assert misfit(ModelParams, defaults("llama_model_default_params")) is None
    filled = defaults("llama_context_default_params")
    fits = [layout for layout in (ContextParams, LaterContextParams) if not misfit(layout, filled)]
    assert len(fits) == 1


@pytest.mark.parametrize("layout", DEFAULTS)
def test_a_field_that_came_in_shows(layout: type[ctypes.Structure]) -> None:
    """Control: four or eight bytes more, at any place before the last default, are seen."""
    name = "llama_model_default_params" if layout is ModelParams else "llama_context_default_params"
    params = library().model_params() if layout is ModelParams else library().context_params()
    if layout is not type(params):
        pytest.skip("the installed library has the other layout")
    filled = defaults(name)
    telling = [name for name, known in DEFAULTS[layout].items() if all(known)]
    last = max(getattr(layout, name).offset for name in telling)
    for more in (4, 8):
        for place in range(0, last, 4):
            changed = filled[:place] + bytes(more) + filled[place:]
            assert misfit(layout, changed) is not None, place


def test_what_is_set_is_what_a_context_says(tiny_model: Path, tmp_path: Path) -> None:
    """Oracle: the library's own account of a context, which reads the struct where it expects."""
    own = library()
    file = write_gguf(tiny_model, tmp_path / "tiny.gguf")
    model = own.llama_model_load_from_file(str(file).encode(), own.model_params())
    given = {"n_ctx": 768, "n_batch": 600, "n_ubatch": 300, "n_seq_max": 7}
    params = own.context_params(**given, n_threads=3, kv_unified=True)
    context = own.llama_init_from_model(model, params)
    for name, value in {**given, "n_threads": 3}.items():
        assert getattr(own, f"llama_{name}")(context) == value
    own.llama_free(context)
    own.llama_model_free(model)


@needs_compiler
def test_a_library_without_a_function_is_refused(tmp_path: Path) -> None:
    """The message names the function and the versions that fit."""
    path = compiled(tmp_path, "int llama_nothing(void) { return 0; }")
    with pytest.raises(FlipsError, match="mine exports no llama_log_set; use xllamacpp"):
        Library(path, "mine")


@needs_compiler
def test_a_library_of_other_structs_is_refused(tmp_path: Path) -> None:
    """The message names the field that is not where it was."""
    own = "".join(f"void {name}(void) {{}}\n" for name in FUNCTIONS)
    other = "struct p { char b[512]; };\n" + "".join(
        f"struct p {name}(void) {{ struct p own = {{{{0}}}}; return own; }}\n"
        for name in ("llama_model_default_params", "llama_context_default_params")
    )
    with pytest.raises(FlipsError, match=r"another version .*split_mode is 0.*; use xllamacpp"):
        Library(compiled(tmp_path, own + other), "mine")


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    """Not by a traceback of the loader."""
    path = tmp_path / "libllama.so"
    path.write_text("no library")
    with pytest.raises(FlipsError, match="llama.cpp of mine cannot be loaded"):
        Library(path, "mine")


@needs_compiler
def test_a_library_that_ends_its_process_is_found_out_by_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    """A real child, ended by SIGILL; control: with the installed library it ends well."""
    file = write_gguf(tiny_model, tmp_path / "tiny.gguf")
    trial.refuse_other_processors(file, gpu_layers=0)
    dies = compiled(tmp_path, "__attribute__((constructor)) void f(void) { __builtin_trap(); }")
    monkeypatch.setenv(CHOICE, str(dies))
    with pytest.raises(FlipsError, match="was ended by SIG(ILL|TRAP) when it computed with"):
        trial.refuse_other_processors(file, gpu_layers=0)


@pytest.mark.parametrize("content", [b"GGUF", b""])
def test_a_child_says_nothing_of_a_file_that_cannot_be_loaded(
    content: bytes, tmp_path: Path
) -> None:
    """The process that asks says it, with the library's reason."""
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    trial.refuse_other_processors(file, gpu_layers=0)
