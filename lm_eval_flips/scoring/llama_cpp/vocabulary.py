"""The tokenizer in a GGUF file, by llama.cpp: text to token ids and back."""

from __future__ import annotations

import ctypes
from ctypes import c_int32
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.library import Library

UNUSED = 1 << 1  # llama.cpp's attribute of an entry that only fills the vocabulary up
NONE = -1  # what llama.cpp calls a special token that there is not


class Vocabulary:
    """A file's vocabulary and how it splits text.

    Args:
        library: the library that loaded the model.
        pointer: its ``llama_vocab``.
    """

    def __init__(self, library: Library, pointer: Any) -> None:
        self._library, self._pointer = library, pointer
        self.size = int(library.llama_vocab_n_tokens(pointer))
        self.adds_bos = bool(library.llama_vocab_get_add_bos(pointer))
        self.adds_eos = bool(library.llama_vocab_get_add_eos(pointer))
        self.bos = self._special("bos")
        self.eos = self._special("eos")
        self.pad = self._special("pad")

    def encode(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text, in which special tokens may be written out.

        Args:
            text: any text.
            add_special: begin and end it as the file says.

        Raises:
            FlipsError: the text cannot be split by this tokenizer.
        """
        encoded = text.encode("utf-8", "surrogatepass")
        room = len(encoded) + 8
        ids = (c_int32 * room)()
        count = self._library.llama_tokenize(
            self._pointer, encoded, len(encoded), ids, room, add_special, True
        )
        if count < 0:
            raise FlipsError(
                f"llama.cpp could not split a text of {len(encoded)} bytes into tokens"
            )
        return list(ids[:count])

    def decode(self, ids: list[int], *, special: bool = False) -> str:
        """Text of token ids; with special tokens written out, or without them."""
        given = (c_int32 * len(ids))(*ids)
        room = 16 * len(ids) + 64
        while True:
            text = ctypes.create_string_buffer(room)
            size = self._library.llama_detokenize(
                self._pointer, given, len(ids), text, room, not special, special
            )
            if size >= 0:
                return text.raw[:size].decode(errors="replace")
            room = -size

    def text(self, token: int | None) -> str | None:
        """What an entry of the vocabulary stands for, as it is written in the file."""
        if token is None:
            return None
        raw: bytes = self._library.llama_vocab_get_text(self._pointer, token)
        return raw.decode(errors="replace")

    def entries(self) -> dict[str, int]:
        """All entries that are used, by their text; later ones of the same text win."""
        return {
            str(self.text(token)): token
            for token in range(self.size)
            if not self._library.llama_vocab_get_attr(self._pointer, token) & UNUSED
        }

    def ends(self, token: int) -> bool:
        """Whether a token ends what a model writes."""
        return bool(self._library.llama_vocab_is_eog(self._pointer, token))

    def _special(self, name: str) -> int | None:
        token = int(getattr(self._library, f"llama_vocab_{name}")(self._pointer))
        return None if token == NONE else token
