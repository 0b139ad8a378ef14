"""How a board's runs rank, which takes longest where they are many: kept like their entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from lm_eval_flips.comparison.ranking import TaskScores, rank_runs
from lm_eval_flips.comparison.result import Ranking
from lm_eval_flips.leaderboard.cache import Cache


class Ranked:
    """Ranks runs as ``rank_runs`` does, or knows it from the last time.

    Args:
        cache: where it is kept.
        key: of the runs' files, as ``Cache.key_of_all`` gave it before they were compared.
        runs: how many they are; of fewer, as some cannot be compared, nothing is kept.
    """

    def __init__(self, cache: Cache, key: bytes, runs: int) -> None:
        self._cache, self._key, self._runs = cache, key, runs

    def __call__(self, scores: Sequence[Sequence[TaskScores]]) -> Ranking | None:
        """The ranking, without its p-values: a board shows none, and there may be millions."""
        whole = len(scores) == self._runs
        content = self._cache.load_ranking(self._key) if whole else None
        if content is not None:
            try:
                return msgspec.msgpack.decode(content, type=Ranking)
            except msgspec.MsgspecError:
                pass
        made = rank_runs(scores)
        if made is None:
            return None
        made = replace(made, p_values={})
        if whole:
            self._cache.store_ranking(msgspec.msgpack.encode(made), key=self._key)
        return made
