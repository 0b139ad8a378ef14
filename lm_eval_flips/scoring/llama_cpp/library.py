"""The one seam to llama.cpp: a shared library with its C interface, out of a Python package.

Two packages bring one: xllamacpp (wheels, the extra ``[gguf]``) and llama-cpp-python (compiled when
it is installed). Neither package's own Python is used, only the library that lies in it.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Sequence
from ctypes import c_bool, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.layouts import (
    Batch,
    ContextParams,
    LaterContextParams,
    ModelParams,
    Room,
    misfit,
)

CHOICE = "LM_EVAL_FLIPS_LLAMA_CPP"  # environment variable: a library to load instead
KNOWN = "xllamacpp 2026.10 (pip install 'lm-eval-flips[gguf]') or llama-cpp-python 0.3.36"
PACKAGES = {
    # module: distribution, where its library lies
    "xllamacpp": ("xllamacpp", ("xllamacpp*.so", "xllamacpp*.pyd")),
    "llama_cpp": (
        "llama-cpp-python",
        ("lib/libllama.so", "lib/libllama.dylib", "lib/llama.dll"),
    ),
}
BACKENDS = "ggml_backend_load_all_from_path"
WARNING = 3  # ggml's level of a log message; errors are 4, and 5 goes on with the line before
INT32S = ctypes.POINTER(c_int32)
LogCallback = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)

# name: result, arguments
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_log_set": (None, [LogCallback, c_void_p]),
    "llama_backend_init": (None, []),
    "llama_print_system_info": (c_char_p, []),
    "llama_model_free": (None, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_model_n_ctx_train": (c_int32, [c_void_p]),
    "llama_model_n_embd": (c_int32, [c_void_p]),
    "llama_model_n_params": (c_uint64, [c_void_p]),
    "llama_model_n_swa": (c_int32, [c_void_p]),
    "llama_model_size": (c_uint64, [c_void_p]),
    "llama_model_has_encoder": (c_bool, [c_void_p]),
    "llama_model_is_recurrent": (c_bool, [c_void_p]),
    "llama_model_is_hybrid": (c_bool, [c_void_p]),
    "llama_model_chat_template": (c_char_p, [c_void_p, c_char_p]),
    "llama_model_meta_val_str": (c_int32, [c_void_p, c_char_p, c_char_p, c_size_t]),
    "llama_free": (None, [c_void_p]),
    "llama_n_ctx": (c_uint32, [c_void_p]),
    "llama_n_batch": (c_uint32, [c_void_p]),
    "llama_n_ubatch": (c_uint32, [c_void_p]),
    "llama_n_seq_max": (c_uint32, [c_void_p]),
    "llama_n_threads": (c_int32, [c_void_p]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_memory_seq_cp": (None, [c_void_p, c_int32, c_int32, c_int32, c_int32]),
    "llama_memory_seq_rm": (c_bool, [c_void_p, c_int32, c_int32, c_int32]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits_ith": (c_void_p, [c_void_p, c_int32]),
    "llama_get_embeddings_ith": (c_void_p, [c_void_p, c_int32]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_type": (c_int32, [c_void_p]),
    "llama_vocab_get_text": (c_char_p, [c_void_p, c_int32]),
    "llama_vocab_get_attr": (c_int32, [c_void_p, c_int32]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_eos": (c_int32, [c_void_p]),
    "llama_vocab_pad": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_vocab_get_add_eos": (c_bool, [c_void_p]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, INT32S, c_int32, c_bool, c_bool]),
    "llama_detokenize": (c_int32, [c_void_p, INT32S, c_int32, c_char_p, c_int32, c_bool, c_bool]),
}


class Library:
    """A llama.cpp library, loaded and found to be of a version that is known here.

    Its functions are attributes, ``library.llama_decode`` and so on.

    Args:
        path: the library's file.
        source: where it comes from, for messages.

    Raises:
        FlipsError: it cannot be loaded, lacks a function, or lays its structs out otherwise.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source
        self._complaints: deque[str] = deque(maxlen=8)
        try:
            self._loaded = ctypes.CDLL(str(path))
        except OSError as error:
            raise FlipsError(f"llama.cpp of {source} cannot be loaded: {error}") from None
        for name, (result, arguments) in FUNCTIONS.items():
            self.declare(name, result, arguments)
        self._model = self._fitting("llama_model_default_params", (ModelParams,))
        self._context = self._fitting(
            "llama_context_default_params", (ContextParams, LaterContextParams)
        )
        self.declare("llama_model_load_from_file", c_void_p, [c_char_p, type(self._model)])
        self.declare("llama_init_from_model", c_void_p, [c_void_p, type(self._context)])
        self._callback = LogCallback(self._hear)  # kept: the library holds only its address
        self.llama_log_set(self._callback, None)
        if hasattr(self._loaded, BACKENDS):  # of builds whose processors are libraries of their own
            self.declare(BACKENDS, None, [c_char_p])
            getattr(self, BACKENDS)(str(path.parent).encode())
        self.llama_backend_init()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is not among the functions declared of llama.cpp")

    def model_params(self, **changed: Any) -> Any:
        """The library's defaults for loading a model, with some changed."""
        return _changed(self._model, changed)

    def context_params(self, **changed: Any) -> Any:
        """The library's defaults for running a model, with some changed."""
        return _changed(self._context, changed)

    def complaints(self) -> str:
        """What the library warned of since this was last asked, in one line."""
        said = "; ".join(line for line in self._complaints if line)
        self._complaints.clear()
        # one hears for the whole process: a server that was started in it may have taken over
        self.llama_log_set(self._callback, None)
        return said

    @property
    def quantises(self) -> bool:
        """Whether it exports llama.cpp's quantiser."""
        return hasattr(self._loaded, "llama_model_quantize")

    def declare(self, name: str, result: Any, arguments: list[Any]) -> None:
        """Make a function of the library an attribute.

        Raises:
            FlipsError: it is not exported.
        """
        try:
            function = getattr(self._loaded, name)
        except AttributeError:
            raise FlipsError(f"{self.source} exports no {name}; use {KNOWN}") from None
        function.restype, function.argtypes = result, arguments
        setattr(self, name, function)

    def _fitting(self, name: str, layouts: Sequence[type[ctypes.Structure]]) -> ctypes.Structure:
        """The library's defaults in the layout that they fit."""
        self.declare(name, Room, [])
        content = bytes(getattr(self, name)().content)
        for layout in layouts:
            if (why := misfit(layout, content)) is None:
                return layout.from_buffer_copy(content[: ctypes.sizeof(layout)])
        raise FlipsError(
            f"{self.source} has another version of llama.cpp than is known here ({name}: {why}); "
            f"use {KNOWN}"
        )

    def _hear(self, level: int, text: bytes, _: Any) -> None:
        line = text.decode(errors="replace")
        if level in (WARNING, WARNING + 1):
            self._complaints.append(line.strip())


@lru_cache(maxsize=1)
def library() -> Library:
    """The library of the installed package, loaded once.

    Raises:
        FlipsError: none is installed, or it is of a version that is not known.
    """
    if chosen := os.environ.get(CHOICE):
        return Library(Path(chosen), f"{CHOICE}={chosen}")
    for module, (distribution, patterns) in PACKAGES.items():
        spec = util.find_spec(module)
        for folder in () if spec is None else spec.submodule_search_locations or ():
            files = (file for pattern in patterns for file in sorted(Path(folder).glob(pattern)))
            for file in files:
                return Library(file, f"{distribution} {metadata.version(distribution)}")
    raise FlipsError("GGUF files are run by llama.cpp, which is missing; use " + KNOWN)


def _changed(defaults: ctypes.Structure, changed: dict[str, Any]) -> Any:
    params = type(defaults).from_buffer_copy(defaults)
    for name, value in changed.items():
        setattr(params, name, value)
    return params
