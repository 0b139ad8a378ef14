"""A GGUF file, loaded by llama.cpp."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from pathlib import Path

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.library import Library, library
from lm_eval_flips.scoring.llama_cpp.vocabulary import Vocabulary

CACHE_TYPES: dict[str, int] = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}  # ggml's numbers
FLASH: dict[str, int] = {"auto": -1, "off": 0, "on": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """How llama.cpp computes; what is not said stays as it is in llama.cpp itself.

    Args:
        threads: threads of a CPU.
        gpu_layers: layers that a GPU computes, -1 for all of them.
        cache_type: numbers in which keys and values are kept, one of ``CACHE_TYPES``.
        flash_attention: "on", "off", or "auto" where the device can.
        micro_batch: tokens that are computed at once.
    """

    threads: int
    gpu_layers: int | None = None
    cache_type: str = "f16"
    flash_attention: str = "auto"
    micro_batch: int = 512

    def __post_init__(self) -> None:
        for name, given, known in (
            ("cache_type", self.cache_type, CACHE_TYPES),
            ("flash_attention", self.flash_attention, FLASH),
        ):
            if given not in known:
                raise FlipsError(f"{name}={given} is none of {', '.join(known)}")
        for name, count in (("n_threads", self.threads), ("n_ubatch", self.micro_batch)):
            if count < 1:
                raise FlipsError(f"{name}={count} is no positive number")


class LlamaModel:
    """A model loaded from a GGUF file.

    Args:
        path: the file, or the first part of a split one.
        computing: how to compute.

    Raises:
        FlipsError: llama.cpp is missing, or cannot load the file.
    """

    def __init__(self, path: Path, computing: Computing) -> None:
        self.path, self.computing = path, computing
        self.library: Library = library()
        changed = {} if computing.gpu_layers is None else {"n_gpu_layers": computing.gpu_layers}
        self.library.complaints()
        self.pointer = self.library.llama_model_load_from_file(
            str(path).encode(), self.library.model_params(**changed)
        )
        if not self.pointer:
            raise FlipsError(
                f"llama.cpp ({self.library.source}) cannot load '{path}': "
                f"{self.library.complaints() or 'it does not say why'}"
            )
        weakref.finalize(self, self.library.llama_model_free, self.pointer)
        self.vocabulary = Vocabulary(self.library, self.library.llama_model_get_vocab(self.pointer))
        self.longest = int(self.library.llama_model_n_ctx_train(self.pointer))
        self.width = int(self.library.llama_model_n_embd(self.pointer))
        self.parameters = int(self.library.llama_model_n_params(self.pointer))
        self.bytes = int(self.library.llama_model_size(self.pointer))
        self._refuse_other_kinds()
        self.recurrent = bool(
            self.library.llama_model_is_recurrent(self.pointer)
            or self.library.llama_model_is_hybrid(self.pointer)
        )

    def _refuse_other_kinds(self) -> None:
        architecture = self.metadata("general.architecture")
        causal = self.metadata(f"{architecture}.attention.causal") != "false"
        if self.library.llama_model_has_encoder(self.pointer) or not causal:
            raise FlipsError(
                f"'{self.path}' ({architecture}) is no causal language model: it gives no "
                "log-likelihoods of continuations"
            )

    @property
    def file_type(self) -> str:
        """How most of the file's weights are stored, such as "Q4_K_M"; "" if it does not say."""
        from gguf import LlamaFileType

        number = self.metadata("general.file_type")
        known = {str(int(kind)): kind.name for kind in LlamaFileType}
        return known.get(number or "", "").removeprefix("MOSTLY_").removeprefix("ALL_")

    @property
    def chat_template(self) -> str | None:
        """The file's chat template."""
        raw: bytes | None = self.library.llama_model_chat_template(self.pointer, None)
        return None if raw is None else raw.decode(errors="replace")

    def metadata(self, key: str) -> str | None:
        """A value of the file's metadata that is no array, as text; None if there is none."""
        room = 256
        while True:
            text = ctypes.create_string_buffer(room)
            size = self.library.llama_model_meta_val_str(self.pointer, key.encode(), text, room)
            if size < 0:
                return None
            if size < room:
                return text.value.decode(errors="replace")
            room = size + 1
