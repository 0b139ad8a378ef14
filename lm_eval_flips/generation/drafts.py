"""What a model may write next, where it writes much like another one wrote.

A draft is only proposed: the model reads it in one pass and keeps what it would have written
itself (Leviathan, Kalman & Matias 2023, arXiv 2211.17192, section 2.2; greedy, so that the text is
the same). Proposals come from the other answer: all up to where the two are known to part, then
what follows there on the last few tokens that both have, else on those tokens in the prompt or in
what is written already (prompt lookup, as in transformers).
"""

from __future__ import annotations

from collections.abc import Sequence

FAR = 24  # tokens, while the text is the other answer
NEAR = 6  # tokens, behind a place of the other answer that has the same last tokens
LOOKS = (3, 2)  # so many last tokens
TRIES = 6  # proposals, after which those that are seldom kept are given up
WORTH = 1.0  # tokens kept of a proposal: reading 7 tokens takes about as long as 2 one by one


class Draft:
    """Proposes tokens of one answer out of another one.

    Args:
        ids: the other answer's tokens.
        known: how many of its first ones this answer has for sure.
        prompt: tokens of what is answered.

    Example:
        >>> draft = Draft([5, 6, 7, 8, 9, 4], known=2)
        >>> draft.propose([]), draft.propose([5, 6, 3]), draft.propose([5, 6, 3, 7, 8])
        ([5, 6], [], [9, 4])
    """

    def __init__(self, ids: Sequence[int], *, known: int, prompt: Sequence[int] = ()) -> None:
        self._ids, self._prompt = list(ids), list(prompt)
        self._known = known
        self._asked: tuple[int, list[int]] | None = None
        self._tries = self._kept = 0

    def propose(self, written: Sequence[int]) -> list[int]:
        """What may follow, [] where nothing is worth a try.

        Args:
            written: the answer so far; it begins with what was written at the last call.
        """
        at = len(written)
        if at < self._known and list(written) == self._ids[:at]:
            return self._ids[at : self._known]
        self._learn(written)
        if self._tries >= TRIES and self._kept < WORTH * self._tries:
            return []
        found = self._following(written)
        self._asked = (at, found) if found else None
        return found

    def _learn(self, written: Sequence[int]) -> None:
        """Count what was kept of the last proposal."""
        if self._asked is None:
            return
        at, proposed = self._asked
        pairs = zip(proposed, written[at:], strict=False)
        self._kept += next(
            (place for place, (one, other) in enumerate(pairs) if one != other),
            min(len(proposed), len(written) - at),
        )
        self._tries += 1
        self._asked = None

    def _following(self, written: Sequence[int]) -> list[int]:
        at = len(written)
        if list(written) == self._ids[:at]:
            return self._ids[at : at + FAR]
        own = [*self._prompt, *written]
        for size in LOOKS:
            last = list(written[-size:])
            if len(last) < size:
                continue
            if there := _ends(last, self._ids):
                nearest = min(there, key=lambda end: abs(end - at))
                return self._ids[nearest : nearest + NEAR]
            if before := _ends(last, own):
                return own[before[-1] : before[-1] + NEAR]
        return []


def _ends(part: list[int], text: list[int]) -> list[int]:
    """Where these tokens stand in a text, with another one behind them: the place of that one."""
    size = len(part)
    return [end for end in range(size, len(text)) if text[end - size : end] == part]
