"""Letters against their definition: a letter is shared where, and only where, two are not apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lm_eval_flips.measures.letters import alike, letters


def _shared(found: dict[int, str], first: int, second: int) -> bool:
    return bool(set(found[first]) & set(found[second]))


def test_letters_by_hand() -> None:
    """A above C alone: B is like both. All alike: one letter. All apart: one each."""
    assert letters(alike([2, 0, 1], {(1, 2)})) == {2: "a", 0: "ab", 1: "b"}
    assert letters(alike([0, 1, 2], set())) == {0: "a", 1: "a", 2: "a"}
    assert letters(alike([0, 1, 2], {(0, 1), (0, 2), (1, 2)})) == {0: "a", 1: "b", 2: "c"}
    assert letters(alike([], set())) == {}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_a_letter_is_shared_where_two_are_not_told_apart(share: float) -> None:
    """For 200 random answers about each two of up to eight things, in whatever order."""
    rng = np.random.default_rng(int(10 * share))
    for _ in range(200):
        count = int(rng.integers(2, 9))
        order = [int(i) for i in rng.permutation(count)]
        every = list(itertools.combinations(range(count), 2))
        different = {pair for pair in every if rng.random() < share}
        found = letters(alike(order, different))
        for pair in every:
            assert _shared(found, *pair) != (pair in different)
        assert found[order[0]][0] == "a"


def test_no_group_holds_another_and_each_is_as_large_as_can_be() -> None:
    """Held against all subsets of six things: nothing that is alike can be added to a group."""
    rng = np.random.default_rng(7)
    for _ in range(50):
        every = list(itertools.combinations(range(6), 2))
        different = {pair for pair in every if rng.random() < 0.4}
        subsets = [
            set(own) for size in range(1, 7) for own in itertools.combinations(range(6), size)
        ]
        fitting = [own for own in subsets if not any({*pair} <= own for pair in different)]
        largest = [own for own in fitting if not any(own < other for other in fitting)]
        found = alike(range(6), different)
        assert sorted(map(sorted, found)) == sorted(map(sorted, largest))
        assert found == sorted(found)
