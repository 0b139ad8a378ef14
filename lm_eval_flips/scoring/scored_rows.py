"""What an engine gives for requests, and what is asked of an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_eval_flips.scoring.lm_head import LMHead, StoredHead
from lm_eval_flips.scoring.requests import Ints, TokenRequest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredRows:
    """What predicts some requests' continuations, each shared position once.

    ``hidden`` is ``[rows, width]``, of which the model's head makes logits; of request
    ``requests[i]`` token ``j`` is predicted by row ``rows[i][j]``. ``recorded`` are the states that
    a reference keeps, where they are others: those of an engine that gives logits itself.
    """

    hidden: Tensor
    requests: tuple[int, ...]
    rows: tuple[Ints, ...]
    recorded: Tensor | None = None


class ScoredModel(ABC):
    """A model whose rows are scored."""

    @property
    @abstractmethod
    def head(self) -> LMHead:
        """Makes logits of the rows."""

    @property
    @abstractmethod
    def logits_device(self) -> torch.device:
        """Where the logits are made."""

    @abstractmethod
    def stored_head(self, hidden: Tensor) -> StoredHead:
        """The head that a reference keeps, which makes logits of the states that it keeps.

        Raises:
            UnreadableHeadError: there is none.
        """


class RowEngine(ScoredModel):
    """An engine that hands over logits on the CPU, so that its rows are what they are.

    Args:
        tokens: size of its vocabulary.
    """

    def __init__(self, tokens: int) -> None:
        self._head = LMHead(project=_as_they_are, tokens=tokens)

    @property
    def head(self) -> LMHead:
        """Gives the rows back."""
        return self._head

    @property
    def logits_device(self) -> torch.device:
        """The CPU, whatever the engine computes on."""
        return torch.device("cpu")


def _as_they_are(logits: Tensor) -> Tensor:
    return logits


class RowScorer(ABC):
    """Runs requests through a model, ``model``."""

    model: ScoredModel

    @property
    def refusal(self) -> str | None:
        """Why requests are read one by one; None if they are packed, or nothing was tried yet."""
        return None

    @abstractmethod
    def rows(self, requests: Sequence[TokenRequest]) -> Iterator[ScoredRows]:
        """Rows for all requests, in an order of its own."""
