"""Stored answers: what was written is read, twice the same is kept once, the noise by hand."""

from __future__ import annotations

from dataclasses import fields
from math import isnan
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.answer_distances import (
    NEVER,
    AnswerDistance,
    AnswerDistancesHeader,
    AnswerDistanceWriter,
    load_answer_distances,
)
from lm_eval_flips.scoring.answers import (
    AnswersHeader,
    AnswerWriter,
    End,
    GreedyAnswer,
    GreedyAnswers,
    Noise,
)
from lm_eval_flips.scoring.token_distances import NOTHING, TokenDistances

HEADER = AnswersHeader(
    model="tiny", revision="main", dtype="float32", tokenizer="abc", max_length=512
)
MEASURED = AnswerDistancesHeader(
    model="small",
    revision="main",
    dtype="float32",
    baseline="tiny",
    baseline_dtype="float32",
    tokens=9,
    max_length=512,
    top=None,
    noise=0.0,
    near_ties=0.0,
)


def answer(number: int, *, size: int = 3, text: str = "ü東\ud83d") -> GreedyAnswer:
    """An answer of some tokens; half a surrogate pair is text too."""
    return GreedyAnswer(
        key=bytes([number] * 16),
        prompt=np.arange(number + 1),
        ids=np.arange(size) + 10,
        end=End(number % 3),
        limit=size + number,
        text=text,
        hits=torch.tensor([True, False, True][:size]),
        gaps=torch.tensor([1.0, 0.25, 0.5][:size]),
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Over two shards and two processes, an empty prompt's and an empty text's too."""
    own = [answer(0), answer(1, size=1, text=""), answer(2), answer(3)]
    for folder, shards in ((tmp_path, (own[:1], own[1:3])), (tmp_path / "rank-1", (own[3:],))):
        for shard in shards:
            writer = AnswerWriter(folder, HEADER)
            for one in (*shard, *shard):
                writer.add(one)
            writer.flush()
    found = GreedyAnswers(tmp_path)
    assert len(found) == 4
    for one in own:
        read = found.get(one.key)
        assert read is not None
        for field in fields(GreedyAnswer):
            ours, theirs = getattr(one, field.name), getattr(read, field.name)
            same = ours == theirs
            assert same if isinstance(same, bool) else bool(same.all())
    assert found.get(bytes(16 * [9])) is None


def test_another_model_s_folder_is_refused(tmp_path: Path) -> None:
    """Its name says which."""
    AnswerWriter(tmp_path, HEADER)
    other = AnswersHeader(
        model="other", revision="main", dtype="float32", tokenizer="abc", max_length=512
    )
    with pytest.raises(FlipsError, match="begun with model tiny, not other"):
        AnswerWriter(tmp_path, other)


def test_near_ties_are_counted_by_hand() -> None:
    """Up to the widest gap at which the model chose otherwise; nothing of no position."""
    hits = torch.tensor([True, False, True, False, True])
    gaps = torch.tensor([0.1, 0.05, 0.3, 0.25, 0.25])
    noise = Noise.of(hits, gaps)
    assert noise.gap == pytest.approx(0.25)
    assert noise.near_ties == pytest.approx(4 / 5)
    assert Noise.of(torch.ones(5).bool(), gaps) == Noise(gap=0.0, near_ties=0.0)
    assert isnan(Noise.of(torch.ones(0).bool(), torch.ones(0)).near_ties)


def test_distances_are_found_by_their_keys(tmp_path: Path) -> None:
    """With where the answers part; twice the same is kept once, and what was written continues."""

    def distance(number: int, kl: list[float], parting: int | None) -> AnswerDistance:
        values = torch.tensor(kl)
        of = TokenDistances(
            kl=values,
            reverse_kl=values,
            jensen_shannon=values,
            total_variation=values,
            same_top=values > 1,
            logprob_change=values,
        )
        return AnswerDistance(
            key=bytes([number] * 16),
            baseline_response=bytes([40 + number] * 16),
            response=bytes([80 + number] * 16),
            parting=parting,
            gap=0.5,
            distances=of if kl else NOTHING,
        )

    for own in ([distance(1, [0.5, 1.5], 1), distance(2, [2.0], None)], [distance(3, [], 0)]):
        writer = AnswerDistanceWriter(tmp_path, MEASURED)
        for one in (distance(1, [9.0], None), *own) if own[0].key[0] == 3 else own:
            writer.add(one)
        writer.flush()
    stored = load_answer_distances(tmp_path)
    assert stored is not None
    asked = np.frombuffer(bytes([2] * 16 + [7] * 16 + [1] * 16), np.uint64).reshape(-1, 2)
    assert stored.find(asked).tolist() == [1, -1, 0]
    assert stored.partings.tolist() == [1, NEVER, 0]
    assert stored.starts.tolist() == [0, 2, 3, 3]
    assert stored.values["kl"].tolist() == [0.5, 1.5, 2.0]


def test_a_folder_without_answers_holds_nothing(tmp_path: Path) -> None:
    """None, not an error: nothing was written yet."""
    AnswerDistanceWriter(tmp_path, MEASURED).flush()
    assert load_answer_distances(tmp_path) is None
