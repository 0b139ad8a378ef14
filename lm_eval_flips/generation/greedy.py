"""Whether an answer is written greedily: each token the likeliest one, as one pass tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What says when to stop, or is of no effect while nothing is drawn.
HARMLESS = frozenset(
    {
        *("until", "do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "seed"),
        *("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens", "max_length"),
        *("use_cache", "pad_token_id", "bos_token_id"),
    }
)
# What makes another token than the likeliest one the next, with the value that does nothing.
CHANGES_CHOICES: Mapping[str, Any] = {
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "bad_words_ids": None,
    "sequence_bias": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": 1.0,
    "penalty_alpha": 0.0,
}


def why_not_greedy(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> str | None:
    """Why one pass does not tell what is written; None if it does.

    Args:
        settings: of the request, as the task gives them.
        defaults: the model's own settings of generation.

    Example:
        >>> why_not_greedy({"until": ["."], "do_sample": False}, {"temperature": 0.6})
        >>> why_not_greedy({"do_sample": True, "temperature": 0.7}, {})
        'answers are drawn at random (do_sample=True)'
        >>> why_not_greedy({"until": ["."]}, {"repetition_penalty": 1.1})
        'the likeliest token is not always written (repetition_penalty=1.1)'
    """
    drawn, heat = settings.get("do_sample"), float(settings.get("temperature") or 0.0)
    if drawn or (drawn is None and heat > 0):
        given = f"do_sample={drawn}" if drawn else f"temperature={heat:g}"
        return f"answers are drawn at random ({given})"
    for name, harmless in CHANGES_CHOICES.items():
        value = settings.get(name, defaults.get(name))
        if value is not None and value != harmless:
            return f"the likeliest token is not always written ({name}={value})"
    known = HARMLESS | CHANGES_CHOICES.keys()
    if unknown := sorted(set(settings) - known):
        return f"nothing is known of {', '.join(unknown)}"
    return None
