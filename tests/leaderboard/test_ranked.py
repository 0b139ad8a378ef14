"""A board's ranking, kept: known the second time, made anew where anything is another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.comparison.ranking import TaskScores, rank_runs
from lm_eval_flips.comparison.result import Ranking
from lm_eval_flips.leaderboard.cache import Cache
from lm_eval_flips.leaderboard.ranked import Ranked
from lm_eval_flips.logs.runs import Run, load_run
from tests.generators.folders import touch_later, write_folder


def scores(*shares: float) -> list[list[TaskScores]]:
    """Runs of one task of 200 samples, of which these shares are right."""
    documents = np.arange(200)
    return [
        [
            TaskScores(
                task="arc",
                filter="none",
                metric="acc",
                doc_ids=documents,
                scores=torch.from_numpy((documents < 200 * share).astype(float)),
                units=None,
                changed=None,
                clusters=torch.from_numpy(documents),
                cluster_field=None,
                binary=True,
                higher_is_better=True,
            )
        ]
        for share in shares
    ]


def shown(ranking: Ranking | None) -> Ranking:
    """What a board shows of it: no p-values."""
    assert ranking is not None
    return replace(ranking, p_values={})


def kept(folder: Path) -> tuple[Cache, list[Run]]:
    """A cache in FOLDER, and three runs."""
    runs = [load_run(folder / name) for name in ("int8", "gptq-w4a16", "int4")]
    return Cache(folder / "cache", load_run(folder / "baseline"), Options()), runs


def test_a_ranking_is_known_the_second_time_and_not_of_other_files(tmp_path: Path) -> None:
    """That it was not computed again shows in other scores, which are not looked at."""
    write_folder(tmp_path)
    cache, runs = kept(tmp_path)
    key = cache.key_of_all(runs)
    first, other = scores(0.9, 0.5, 0.1), scores(0.1, 0.5, 0.9)
    assert Ranked(cache, key, 3)(first) == shown(rank_runs(first))
    assert Ranked(cache, key, 3)(other) == shown(rank_runs(first)) != shown(rank_runs(other))
    touch_later(runs[1].path)
    cache, runs = kept(tmp_path)
    assert Ranked(cache, cache.key_of_all(runs), 3)(other) == shown(rank_runs(other))


def test_a_ranking_of_some_runs_only_is_neither_kept_nor_taken(tmp_path: Path) -> None:
    """A run that cannot be compared today may be tomorrow, and its files stay what they are."""
    write_folder(tmp_path)
    cache, runs = kept(tmp_path)
    key = cache.key_of_all(runs)
    two, three = scores(0.9, 0.5), scores(0.9, 0.5, 0.1)
    assert Ranked(cache, key, 3)(two) == shown(rank_runs(two))
    assert not (tmp_path / "cache").exists()
    assert Ranked(cache, key, 3)(three) == shown(rank_runs(three))
    assert Ranked(cache, key, 3)(two) == shown(rank_runs(two))
    assert Ranked(cache, key, 3)(scores(0.5)) is None


def test_a_damaged_ranking_is_made_anew(tmp_path: Path) -> None:
    """Cut anywhere, or of another content."""
    write_folder(tmp_path)
    cache, runs = kept(tmp_path)
    key = cache.key_of_all(runs)
    first, other = scores(0.9, 0.5, 0.1), scores(0.1, 0.5, 0.9)
    Ranked(cache, key, 3)(first)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert Ranked(cache, key, 3)(other) == shown(rank_runs(other))
    cache.store_ranking(b"no ranking", key=key)
    assert Ranked(cache, key, 3)(first) == shown(rank_runs(first))
