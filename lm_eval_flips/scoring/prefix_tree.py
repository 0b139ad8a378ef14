"""Requests that share a prefix are computed once: the plan, without a model.

The choices of a question share its context, the questions of a subject share its few-shot
examples. The token sequences of all requests are merged into a tree. A pack is a part of that tree
laid out as one sequence, in which a token sees its ancestors only; a prefix that many packs share
is run once and kept as keys and values, which the packs attend to. Packs are run in batches: many
short rows cost less attention than one long one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.scoring.requests import Ints, TokenRequest

WORTH_KEEPING = 32  # tokens; running a shorter prefix by itself costs more than it saves
ROW = 96  # tokens of a pack, where its requests need no more; attention costs the square
REPEATED = 8  # tokens; a shared prefix that is shorter is repeated to keep packs short


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pack:
    """A part of the tree as one sequence of ``T`` tokens, each in a place behind its ancestors.

    ``base`` tokens stand before it: the prefix that is kept. ``depths`` are the tokens' positions
    in their own requests, ``ends`` the first place after all that descends from a token.
    ``requests`` are the requests scored here; ``places`` holds, request after request, the places
    that predict its continuation's tokens.
    """

    base: int
    tokens: Ints
    depths: Ints
    ends: Ints
    requests: tuple[int, ...]
    places: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def chain(self) -> bool:
        """Whether every token descends from the one before it: nothing needs to be hidden."""
        return bool((self.ends == len(self.tokens)).all())

    def visible(self) -> NDArray[np.bool_]:
        """``[T, T]``: whether the token of a row sees that of a column, its ancestor or itself.

        Example:
            >>> a, b = (TokenRequest.of([7, 8], [n, 0], max_length=9) for n in (1, 2))
            >>> (pack,) = plan([a, b], budget=9).steps
            >>> pack.tokens.tolist(), pack.visible()[3].tolist()
            ([7, 8, 1, 2], [True, True, False, True])
        """
        place = np.arange(len(self.tokens))
        return (place <= place[:, None]) & (place[:, None] < self.ends)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Branch:
    """Steps that share a prefix: ``tokens`` are run once, behind ``base`` tokens run before."""

    base: int
    tokens: Ints
    steps: tuple[Branch | Pack, ...]

    def packs(self) -> Iterator[Pack]:
        """All packs below."""
        for step in self.steps:
            if isinstance(step, Pack):
                yield step
            else:
                yield from step.packs()

    @property
    def largest(self) -> int:
        """Tokens of the largest pack below."""
        return max(map(len, self.packs()), default=0)

    @property
    def furthest(self) -> Pack | None:
        """Of the packs below that stand behind a prefix run here, the one that ends last."""
        behind = (pack for pack in self.packs() if pack.base > self.base)
        return max(behind, key=lambda pack: pack.base + len(pack), default=None)


def plan(
    requests: Sequence[TokenRequest],
    *,
    budget: int,
    row: int = ROW,
    among: Sequence[int] | None = None,
    base: int = 0,
    keep_prefixes: bool = True,
) -> Branch:
    """Lay out requests as packs of at most ``budget`` tokens, over prefixes that are run once.

    Args:
        requests: the requests.
        budget: most tokens of a pack; a single request that is longer is a pack of its own.
        row: tokens of a pack where it can be split without repeating much; behind a longer prefix
            as many as that has.
        among: the requests to lay out, all of them if None.
        base: tokens that all of these share and that were run before.
        keep_prefixes: run shared prefixes once; False leaves each pack whole.

    Returns:
        The root, which adds no token of its own.
    """
    order = sorted(
        range(len(requests)) if among is None else among,
        key=lambda index: requests[index].fed.astype(">u4").tobytes(),
    )
    planner = _Planner(requests, order, budget=budget, row=row, keep_prefixes=keep_prefixes)
    steps = planner.steps([(0, len(order))], base) if order else ()
    return Branch(base=base, tokens=np.empty(0, np.int64), steps=tuple(steps))


def plain_batches(
    requests: Sequence[TokenRequest], *, size: int, among: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Batches of requests, the longest first, for a model that has to read each by itself.

    Requests that are fed the same tokens stand in one batch, where they need only one row.
    """
    chosen = range(len(requests)) if among is None else among
    rows: dict[bytes, list[int]] = {}
    for index in chosen:
        rows.setdefault(requests[index].fed.tobytes(), []).append(index)
    ordered = sorted(rows.values(), key=lambda row: -len(requests[row[0]].fed))
    for start in range(0, len(ordered), size):
        yield [index for row in ordered[start : start + size] for index in row]


class _Planner:
    """Plans a run of requests in order of their tokens, where neighbours share the most."""

    def __init__(
        self,
        requests: Sequence[TokenRequest],
        order: Sequence[int],
        *,
        budget: int,
        row: int,
        keep_prefixes: bool,
    ) -> None:
        self._order, self._budget, self._row = order, budget, min(row, budget)
        self._keep_prefixes = keep_prefixes
        self._requests = [requests[index] for index in order]
        pairs = pairwise(self._requests)
        self._shared = np.array([0, *(common(a.fed, b.fed) for a, b in pairs)], np.int64)
        self._lengths = np.array([len(request.fed) for request in self._requests], np.int64)
        self._first_scored = np.array([r.first_scored for r in self._requests], np.int64)

    def steps(self, parts: Iterable[tuple[int, int]], base: int) -> Iterator[Branch | Pack]:
        """Steps for parts of the order, each from one place up to another, behind ``base``."""
        waiting = [*parts][::-1]
        while waiting:
            low, high = waiting.pop()
            if high - low == 1 or self._is_pack(low, high, base):
                yield self._pack(low, high, base)
                continue
            shared = int(self._shared[low + 1 : high].min())
            # a kept token yields no prediction any more
            prefix = min(shared, int(self._first_scored[low:high].min()))
            large = self._size(low, high, base) > self._budget
            if self._keep_prefixes and large and prefix - base >= WORTH_KEEPING:
                tokens = self._requests[low].fed[base:prefix]
                steps = tuple(self.steps(self._split(low, high, prefix, shared), prefix))
                yield Branch(base=base, tokens=tokens, steps=steps)
            else:
                waiting += [*self._split(low, high, base, shared)][::-1]

    def _is_pack(self, low: int, high: int, base: int) -> bool:
        """Whether these make one pack: short, or not to be split without repeating a prefix."""
        size = self._size(low, high, base)
        if size <= self._room(base):
            return True
        return size <= self._budget and int(self._shared[low + 1 : high].min()) - base > REPEATED

    def _split(self, low: int, high: int, base: int, shared: int) -> Iterator[tuple[int, int]]:
        """Cut where all of these part, and join again what fits into one pack."""
        cuts = low + 1 + np.flatnonzero(self._shared[low + 1 : high] <= shared)
        bounds = [low, *cuts.tolist(), high]
        row = self._room(base)
        start = low
        for left, right in pairwise(bounds):
            if start < left and self._size(start, right, base) > row:
                yield start, left
                start = left
        yield start, high

    def _room(self, base: int) -> int:
        """Tokens of a row: as many as stand before it, since the prefix is copied for each row."""
        return min(max(self._row, base), self._budget)

    def _size(self, low: int, high: int, base: int) -> int:
        """Tokens of the tree of these requests beyond ``base``."""
        if low == high:
            return 0
        new = self._lengths[low:high] - np.maximum(self._shared[low:high], base)
        return int(self._lengths[low] - base + new[1:].sum())

    def _pack(self, low: int, high: int, base: int) -> Pack:
        tokens: list[Ints] = []
        depths: list[Ints] = []
        places: list[Ints] = []
        ends = np.zeros(self._size(low, high, base), np.int64)
        path = np.empty(0, np.int64)  # places of the tokens of the request at hand, from base on
        size = 0
        for index in range(low, high):
            request = self._requests[index]
            kept = max(int(self._shared[index]) - base, 0) if index > low else 0
            ends[path[kept:]] = size
            new = request.fed[base + kept :]
            path = np.concatenate([path[:kept], np.arange(size, size + len(new))])
            tokens.append(new)
            depths.append(np.arange(base + kept, base + kept + len(new)))
            size += len(new)
            places.append(path[request.first_scored - base :])
        ends[path] = size
        return Pack(
            base=base,
            tokens=np.concatenate(tokens),
            depths=np.concatenate(depths),
            ends=ends,
            requests=tuple(self._order[low:high]),
            places=tuple(places),
        )


def common(a: Ints, b: Ints) -> int:
    """Number of tokens that two sequences share from the start.

    Example:
        >>> common(np.array([1, 2, 3]), np.array([1, 2, 4, 5]))
        2
    """
    size = min(len(a), len(b))
    differ = a[:size] != b[:size]
    return int(differ.argmax()) if differ.any() else size
