"""Which settings make one pass tell what is written."""

from __future__ import annotations

from typing import Any

import pytest

from lm_eval_flips.generation.greedy import why_not_greedy


@pytest.mark.parametrize(
    ("settings", "defaults"),
    [
        ({"until": ["\n"]}, {}),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.9}, {}),  # nothing is drawn
        ({"temperature": 0.0, "max_gen_toks": 8}, {"do_sample": True, "temperature": 0.6}),
        ({"num_beams": 1, "repetition_penalty": 1.0}, {"repetition_penalty": 1.1}),
    ],
)
def test_the_likeliest_token_is_written(settings: Any, defaults: Any) -> None:
    """The harness draws nothing unless it is told to."""
    assert why_not_greedy(settings, defaults) is None


@pytest.mark.parametrize(
    ("settings", "defaults", "why"),
    [
        ({"do_sample": True, "temperature": 0.5}, {}, "drawn at random"),
        ({"temperature": 0.5}, {}, "temperature=0.5"),
        ({"num_beams": 4}, {}, "num_beams=4"),
        ({}, {"repetition_penalty": 1.05}, "repetition_penalty=1.05"),
        ({}, {"no_repeat_ngram_size": 3}, "no_repeat_ngram_size=3"),
        ({"logits_processor": "x"}, {}, "nothing is known of logits_processor"),
    ],
)
def test_anything_else_is_said(settings: Any, defaults: Any, why: str) -> None:
    """With the setting."""
    assert why in str(why_not_greedy(settings, defaults))
