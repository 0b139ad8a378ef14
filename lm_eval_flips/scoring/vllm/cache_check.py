"""Do scores that read the prefix cache agree with those that do not? Tried on some requests.

Stale values in a cache, or layers that cannot read one, would give other numbers without a word.
Windows and chosen tokens show behind long prefixes alone: where much longer ones come it is tried
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from statistics import mean
from typing import Any

from lm_eval_flips.scoring.vllm.known import Known
from lm_eval_flips.scoring.vllm.planning import Position

MOST = 8  # positions that are tried at once
SHARE = 64  # of so many positions one is tried, but one at least: each costs a whole prompt
LONGER = 2  # times what was tried is much longer
# Largest mean difference (nats) that rounding explains; in float32 real models show 1e-5, and in
# bfloat16 half a nat, which an engine shows from batch to batch too. Another prefix costs nats.
ROUNDING = {"float32": 1e-3, "float16": 0.2}
COARSE_ROUNDING = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCheck:
    """What was tried: ``positions``, up to ``longest_prefix`` tokens of a prompt out of the cache.

    ``nats_from_uncached`` is the largest difference of a wanted token's log-probability, ``mean``
    that of all on average; ``most`` what rounding explains of it.
    """

    positions: int
    longest_prefix: int
    nats_from_uncached: float
    mean: float
    most: float

    @property
    def refusal(self) -> str | None:
        """Why the prefix cache cannot be read; None if it can."""
        if self.mean <= self.most:
            return None
        return (
            f"its prefix cache gives log-probabilities that are off by {self.mean:.2g} nats on "
            "average"
        )

    @property
    def verdict(self) -> dict[str, Any]:
        """The same as plain values for a log."""
        off = self.nats_from_uncached
        return {
            "positions": self.positions,
            "longest_prefix": self.longest_prefix,
            "nats_from_uncached": None if isnan(off) else off,
        }

    def joined(self, other: CacheCheck) -> CacheCheck:
        """With what another trial found; the larger mean of both counts."""
        return CacheCheck(
            positions=self.positions + other.positions,
            longest_prefix=max(self.longest_prefix, other.longest_prefix),
            nats_from_uncached=max(self.nats_from_uncached, other.nats_from_uncached),
            mean=max(self.mean, other.mean),
            most=self.most,
        )


def tried(positions: Sequence[Position], *, longest: int = 0) -> list[int]:
    """Which positions are tried: of those that read much out of the cache, the shortest prompts.

    Args:
        positions: some that were asked.
        longest: tokens out of the cache that were tried before; nothing is tried again unless a
            prompt has much more of them.

    Example:
        >>> tried([])
        []
    """
    cached = [position.cached for position in positions]
    most = max(cached, default=0)
    if most <= LONGER * longest:
        return []
    count = min(max(sum(size > 0 for size in cached) // SHARE, 1), MOST)
    much = [place for place, size in enumerate(cached) if size * LONGER >= most]
    return sorted(much, key=lambda place: len(positions[place].prompt))[:count]


def checked(
    positions: Sequence[Position],
    cached: Sequence[Known],
    uncached: Sequence[Known],
    *,
    dtype: str,
) -> CacheCheck:
    """Hold what was found with the cache against what was found without.

    Args:
        positions: where.
        cached: what was found there with the cache.
        uncached: and without.
        dtype: what the model computes in.
    """
    off = [
        abs(ours.logprobs[token] - theirs.logprobs[token])
        for position, ours, theirs in zip(positions, cached, uncached, strict=True)
        for token in position.tokens
        if ours.logprobs[token] != theirs.logprobs[token]
    ]
    count = sum(len(position.tokens) for position in positions)
    return CacheCheck(
        positions=len(positions),
        longest_prefix=max((position.cached for position in positions), default=0),
        nats_from_uncached=max(off, default=0.0),
        mean=mean(off) * len(off) / count if off else 0.0,
        most=ROUNDING.get(dtype, COARSE_ROUNDING),
    )
