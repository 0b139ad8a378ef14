"""Letters against their definition: a letter is shared where, and only where, two are not apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lm_eval_flips.measures.letters import letters


def _shared(found: dict[int, str], first: int, second: int) -> bool:
    return bool(set(found[first]) & set(found[second]))


def test_letters_by_hand() -> None:
    """A above C alone: B is like both. All alike: one letter. All apart: one each."""
    assert letters([2, 0, 1], {(1, 2)}) == {2: "a", 0: "ab", 1: "b"}
    assert letters([0, 1, 2], set()) == {0: "a", 1: "a", 2: "a"}
    assert letters([0, 1, 2], {(0, 1), (0, 2), (1, 2)}) == {0: "a", 1: "b", 2: "c"}
    assert letters([], set()) == {}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_a_letter_is_shared_where_two_are_not_told_apart(share: float) -> None:
    """For 200 random answers about each two of up to eight things, in whatever order."""
    rng = np.random.default_rng(int(10 * share))
    for _ in range(200):
        count = int(rng.integers(2, 9))
        order = [int(i) for i in rng.permutation(count)]
        every = list(itertools.combinations(range(count), 2))
        different = {pair for pair in every if rng.random() < share}
        found = letters(order, different)
        for pair in every:
            assert _shared(found, *pair) != (pair in different)
        assert found[order[0]][0] == "a"
