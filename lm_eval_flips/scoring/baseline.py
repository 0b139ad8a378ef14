"""Distances of a compressed model's logits from a recorded baseline's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.lm_head import LMHead
from lm_eval_flips.scoring.reference import Reference, States
from lm_eval_flips.scoring.top_tokens import TopTokens, bounded_distances
from lm_eval_flips.scoring.vocabulary import (
    VocabularyDistances,
    token_scores,
    vocabulary_distances,
)


class Baseline:
    """A recorded baseline that logits are measured against.

    Args:
        reference: the recording.
        tokens: size of the compressed model's vocabulary, which may be padded otherwise than the
            baseline's; what both hold is compared.
    """

    def __init__(self, reference: Reference, *, tokens: int) -> None:
        self.reference = reference
        self.first_only = reference.header.positions == "last"
        self.shared = min(tokens, reference.header.vocabulary)
        self._tokens = tokens
        self._head: LMHead | None = reference.head() if reference.header.top is None else None

    def rows(self, wanted: Sequence[tuple[bytes, int]]) -> BaselineRows:
        """What the baseline said where it predicted token ``j`` of each request, by its key."""
        return BaselineRows(self, self.reference.states(wanted))

    def distances(self, logits: Tensor, states: States) -> VocabularyDistances:
        """Distances of some positions' logits from those of the baseline's states."""
        ours = logits[:, : self.shared]
        if isinstance(states, TopTokens):
            if int(states.ids.max()) >= self.shared:
                raise FlipsError(
                    f"the reference '{self.reference.folder}' holds tokens that the compressed "
                    "model does not have"
                )
            found = bounded_distances(baseline=states, compressed=ours)
        else:
            if self._head is None:
                raise FlipsError(f"the reference '{self.reference.folder}' has no lm_head")
            theirs = self._head.logits(states)[:, : self.shared]
            found = vocabulary_distances(baseline=theirs, compressed=ours)
        if self.shared == self._tokens:
            return found
        return replace(found, compressed=token_scores(logits))


class BaselineRows:
    """What the baseline said at some positions, in order."""

    def __init__(self, baseline: Baseline, states: States) -> None:
        self._baseline, self._states = baseline, states

    def distances(self, logits: Tensor, place: slice) -> VocabularyDistances:
        """Distances of logits from the baseline's at these of the positions."""
        states = self._states
        if isinstance(states, TopTokens):
            states = TopTokens(ids=states.ids[place], logprobs=states.logprobs[place])
        else:
            states = states[place]
        return self._baseline.distances(logits, states)
