"""Whether scores that read the prefix cache are those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_flips.scoring.vllm.cache_check import MOST, checked, tried
from lm_eval_flips.scoring.vllm.known import Known
from lm_eval_flips.scoring.vllm.planning import Position


def position(length: int, cached: int | None = None) -> Position:
    """A prompt of that many tokens, of which all but two were cached; two tokens are wanted."""
    own = length - 2 if cached is None else cached
    return Position(prompt=np.arange(length), cached=own, tokens=(1, 2), owner=(0, 0))


def known(first: float, second: float) -> Known:
    """What is known behind a prompt."""
    return Known(logprobs={1: first, 2: second}, top=1)


def test_equal_scores_pass() -> None:
    """What was tried is told."""
    check = checked([position(5)], [known(-1.0, -2.0)], [known(-1.0, -2.0)], dtype="float32")
    assert check.refusal is None
    assert check.verdict == {"positions": 1, "longest_prefix": 3, "nats_from_uncached": 0.0}


@pytest.mark.parametrize(
    ("dtype", "off", "passes"),
    [
        ("float32", 1e-4, True),
        ("float32", 1e-2, False),
        ("bfloat16", 0.5, True),
        ("bfloat16", 4.0, False),
        ("float16", 0.5, False),
    ],
)
def test_what_rounding_explains_follows_the_dtype(dtype: str, off: float, passes: bool) -> None:
    """In bfloat16 an engine's own noise is half a nat; another prefix costs nats."""
    some = [position(5), position(9)]
    right = [known(-1.0, -2.0)] * 2
    check = checked(some, [known(-1.0 - off, -2.0 + off)] * 2, right, dtype=dtype)
    assert (check.refusal is None) == passes
    assert check.nats_from_uncached == pytest.approx(off)


def test_infinite_scores_agree_with_themselves() -> None:
    """A token that both rule out is no difference."""
    same = [known(-1.0, -np.inf)]
    assert checked([position(5)], same, same, dtype="float32").refusal is None


def test_what_reads_much_of_the_cache_is_tried() -> None:
    """One of 64, but one at least, and no more than a few; where they cost the least."""
    for count, expected in ((5, 1), (64 * 5, 5), (64 * 50, MOST)):
        positions = [position(20 + length % 300) for length in range(count)]
        places = tried(positions)
        most = max(one.cached for one in positions)
        assert len(places) == expected
        assert all(positions[place].cached >= most / 2 for place in places)
    assert tried([position(90, 80), position(70, 60), position(60, 30)]) == [1]


def test_what_does_not_read_the_cache_is_not_tried() -> None:
    """It would be held against itself."""
    assert tried([position(160, 0), position(3, 0)]) == []
    assert tried([position(160, 0), position(17, 16)]) == [1]


def test_much_longer_prefixes_are_tried_again() -> None:
    """What only long prompts show is not missed by short ones that come first."""
    assert tried([position(122)], longest=60) == []
    assert tried([position(123)], longest=60) == [0]


def test_of_two_trials_the_worse_counts() -> None:
    """Whichever came first."""
    right, off = [known(-1.0, -2.0)], [known(-1.5, -2.0)]
    good = checked([position(5)], right, right, dtype="float32")
    bad = checked([position(9)], off, right, dtype="float32")
    for joined in (good.joined(bad), bad.joined(good)):
        assert joined.refusal is not None
        assert joined.verdict == {
            "positions": 2,
            "longest_prefix": 7,
            "nats_from_uncached": pytest.approx(0.5),
        }
