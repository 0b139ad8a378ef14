"""What every engine is asked and answers: requests of tokens, their keys, and answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError

Ints = NDArray[np.int64]

KEY = 16  # bytes of a request's key


@dataclass(frozen=True, slots=True, eq=False)
class TokenRequest:
    """One request: a context and the continuation whose tokens are scored, both token ids.

    ``fed`` is what a causal model reads: all but the last token, cut from the left to the model's
    longest input. Its last ``scored`` positions predict the continuation.
    """

    fed: Ints
    continuation: Ints

    @classmethod
    def of(
        cls, context: Sequence[int], continuation: Sequence[int], *, max_length: int
    ) -> TokenRequest:
        """Cut a request to what the model reads, as the harness does.

        Raises:
            FlipsError: a token of the continuation has no token before it, as where the
                continuation alone is longer than ``max_length``; or there is no continuation.

        Example:
            >>> TokenRequest.of([1, 2, 3], [4, 5], max_length=3).fed.tolist()
            [2, 3, 4]
        """
        whole = np.array([*context, *continuation][-(max_length + 1) :], np.int64)
        if not 0 < len(continuation) < len(whole):
            raise FlipsError(
                f"a continuation of {len(continuation)} tokens behind a context of {len(context)} "
                f"cannot be scored by a model that reads {max_length} tokens"
            )
        return cls(whole[:-1], np.array(continuation, np.int64))

    @property
    def scored(self) -> int:
        """Number of positions that are scored: the continuation's tokens."""
        return len(self.continuation)

    @property
    def first_scored(self) -> int:
        """Position of the first one, counted from 0; the tokens before it are only read."""
        return len(self.fed) - self.scored


class Answer(NamedTuple):
    """What a model gave for a request: its log-likelihood (nats), and whether it is greedy.

    ``token_kl`` is the mean over its tokens of KL(baseline || compressed), nan without a baseline.
    """

    loglikelihood: float
    is_greedy: bool
    token_kl: float = nan


def key_of(request: TokenRequest) -> bytes:
    """A request's key: a hash of what the model is fed and of the continuation.

    Example:
        >>> request = TokenRequest.of([1, 2], [3], max_length=8)
        >>> key_of(request) == key_of(TokenRequest.of([1, 2], [3], max_length=9))
        True
    """
    hashed = hashlib.blake2b(digest_size=KEY)
    hashed.update(len(request.fed).to_bytes(8, "little"))
    hashed.update(request.fed.astype("<i4").tobytes())
    hashed.update(request.continuation.astype("<i4").tobytes())
    return hashed.digest()
