"""A GGUF model at work: tokens in, logits and hidden states out."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import c_int8
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.layouts import Batch
from lm_eval_flips.scoring.llama_cpp.library import INT32S
from lm_eval_flips.scoring.llama_cpp.model import CACHE_TYPES, FLASH, LlamaModel
from lm_eval_flips.scoring.requests import Ints

SEQUENCES = 256  # as many as llama.cpp tells apart
CELLS = 256  # a context's size is a multiple of this
FLOAT = 4  # bytes
NO_POOLING = 0
NO_ROOM = 1  # what llama_decode says where the cache is full


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """What a model gave for the tokens that were asked of it, in their order.

    ``logits`` are llama.cpp's own memory: they last until the next call. ``hidden`` are the states
    after the last norm, None where they were not asked for.
    """

    logits: Tensor
    hidden: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """Tokens to compute: their ids, where each stands in its sequences, and which sequences.

    Token ``i`` belongs to the sequences ``first[i]`` up to, but not with, ``last[i]``. ``wanted``
    says of which tokens to give logits.
    """

    ids: Ints
    positions: Ints
    first: Ints
    last: Ints
    wanted: NDArray[np.bool_]


class Context:
    """A model at work: a cache of keys and values, in which sequences of tokens share cells.

    Args:
        model: the model.
        cells: tokens that the cache has room for.
        batch: most tokens of one call.
        sequences: sequences that are told apart.
        hidden: give the states after the last norm too.

    Raises:
        FlipsError: there is not enough memory.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        cells: int,
        batch: int,
        sequences: int = SEQUENCES,
        hidden: bool = False,
    ) -> None:
        computing = model.computing
        self._model, self._library, self._hidden = model, model.library, hidden
        self.cells = -(-cells // CELLS) * CELLS
        # llama.cpp reserves room for a token of each sequence, and aborts where a call has none
        self.batch = max(batch, sequences)
        params = self._library.context_params(
            n_ctx=self.cells,
            n_batch=self.batch,
            n_ubatch=min(self.batch, computing.micro_batch),
            n_seq_max=sequences,
            n_outputs_max=0,
            n_outputs_max_per_seq=0,
            n_threads=computing.threads,
            n_threads_batch=computing.threads,
            pooling_type=NO_POOLING,
            flash_attn_type=FLASH[computing.flash_attention],
            type_k=CACHE_TYPES[computing.cache_type],
            type_v=CACHE_TYPES[computing.cache_type],
            embeddings=hidden,
            kv_unified=True,
        )
        self._library.complaints()
        self._pointer = self._library.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise FlipsError(
                f"llama.cpp cannot make room for {self.cells} tokens of '{model.path}' with "
                f"cache_type={computing.cache_type}: "
                f"{self._library.complaints() or 'it does not say why'}"
            )
        self._close = weakref.finalize(self, self._library.llama_free, self._pointer)
        self._memory = self._library.llama_get_memory(self._pointer)

    def close(self) -> None:
        """Give its memory back; nothing can be computed any more."""
        self._close()

    def decode(self, tokens: Tokens) -> Decoded:
        """Compute some tokens behind what their sequences hold.

        Raises:
            FlipsError: llama.cpp failed.
        """
        counts = np.ascontiguousarray(tokens.last - tokens.first, np.int32)
        starts = np.cumsum(counts, dtype=np.int64) - counts
        members = np.arange(int(counts.sum())) - np.repeat(starts - tokens.first, counts)
        flat = np.ascontiguousarray(members, np.int32)
        places = np.uint64(flat.ctypes.data) + (starts * flat.itemsize).astype(np.uint64)
        ids, positions = (
            np.ascontiguousarray(own, np.int32) for own in (tokens.ids, tokens.positions)
        )
        flags = np.ascontiguousarray(tokens.wanted, np.int8)
        batch = Batch(
            n_tokens=len(ids),
            token=_pointer(ids, INT32S),
            pos=_pointer(positions, INT32S),
            n_seq_id=_pointer(counts, INT32S),
            seq_id=_pointer(places, ctypes.POINTER(INT32S)),
            logits=_pointer(flags, ctypes.POINTER(c_int8)),
        )
        self._library.complaints()
        code = self._library.llama_decode(self._pointer, batch)
        if code:
            why = "its cache is full" if code == NO_ROOM else self._library.complaints()
            raise FlipsError(
                f"llama.cpp could not compute {len(ids)} tokens of '{self._model.path}' "
                f"(code {code}): {why or 'it does not say why'}"
            )
        wanted = np.flatnonzero(flags).tolist()
        hidden = self._rows("embeddings", wanted, self._model.width) if self._hidden else None
        return Decoded(
            logits=self._rows("logits", wanted, self._model.vocabulary.size),
            hidden=None if hidden is None else hidden.clone(),
        )

    def keep(self, ids: Ints, start: int, sequence: int) -> None:
        """Compute tokens of one sequence from a position on, and give nothing of them.

        Raises:
            FlipsError: llama.cpp failed.
        """
        for low in range(0, len(ids), self.batch):
            part = ids[low : low + self.batch]
            self.decode(
                Tokens(
                    ids=part,
                    positions=start + low + np.arange(len(part)),
                    first=np.full(len(part), sequence),
                    last=np.full(len(part), sequence + 1),
                    wanted=np.zeros(len(part), bool),
                )
            )

    def copy(self, source: int, target: int, length: int) -> None:
        """Let a sequence share another's first tokens."""
        self._library.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def forget(self, sequence: int) -> None:
        """Drop a sequence's tokens."""
        self._library.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def clear(self) -> None:
        """Drop all tokens of all sequences."""
        self._library.llama_memory_clear(self._memory, False)

    def _rows(self, name: str, wanted: Sequence[int], width: int) -> Tensor:
        """Rows of some tokens of the last call, in llama.cpp's own memory where they lie together.

        They do not where hidden states are given too: then all tokens have rows.
        """
        if not wanted:
            return torch.empty(0, width)
        places = np.array([self._address(name, one) for one in (wanted[0], wanted[-1])])
        if places[1] - places[0] != (len(wanted) - 1) * width * FLOAT:
            places = np.array([self._address(name, one) for one in wanted])
        rows = (places - places[0]) // (width * FLOAT)
        whole = (ctypes.c_float * (width * (int(rows[-1]) + 1))).from_address(int(places[0]))
        found = torch.from_numpy(np.ctypeslib.as_array(whole).reshape(-1, width))
        return found if len(found) == len(wanted) else found[torch.from_numpy(rows)]

    def _address(self, name: str, token: int) -> int:
        pointer = getattr(self._library, f"llama_get_{name}_ith")(self._pointer, token)
        if not pointer:
            raise FlipsError(f"llama.cpp gives no {name} of '{self._model.path}'")
        return int(pointer)


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, kind)
