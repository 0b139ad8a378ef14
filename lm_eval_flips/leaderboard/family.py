"""Is a run a compression of the baseline, or a model of another family in the same folder?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lm_eval_flips.logs.runs import Run

MOST_PARAMETERS = 1.2  # of a compressed model, as a multiple of the baseline's
FEWER = 0.8  # packed or pruned weights; by itself no sign of another model
ENOUGH = 2  # signs of another family, one of them in the tokenizer
_WORD = re.compile(r"[a-z]{2,}")


def other_family(run: Run, baseline: Run) -> str | None:
    """Why a run cannot be a compression of the baseline; None where it can.

    Compression adds hardly a parameter; packed weights count for fewer. Another tokenizer alone
    may be a compressed model's own copy: that is told as a setting that differs. With another size
    or name beside it, it is another model.
    """
    here, there = run.parameters, baseline.parameters
    sizes = "" if None in (here, there) else f"it has {here:,} parameters, the baseline {there:,}"
    tokenizers = list(_tokenizers(run, baseline))
    larger = here is not None and there is not None and here > MOST_PARAMETERS * there
    fewer = here is not None and there is not None and here < FEWER * there
    signs = len(tokenizers) + fewer + _unlike(run.model, baseline.model)
    if not larger and (not tokenizers or signs < ENOUGH):
        return None
    names = f"it is called {run.model}" if _unlike(run.model, baseline.model) else ""
    evidence = [sizes if larger or fewer else names, *tokenizers]
    return (
        f"it is no compression of {baseline.model}: {' and '.join(filter(None, evidence))}; give "
        "its family a board of its own, with its own --baseline"
    )


def _tokenizers(run: Run, baseline: Run) -> Iterator[str]:
    """In what the tokenizers differ: the names given, and the token that ends texts."""
    ours, theirs = run.tokenizer, baseline.tokenizer
    if ours is not None and theirs is not None:
        a, b = ours.lower(), theirs.lower()
        if a not in b and b not in a:
            yield f"its tokenizer is {ours}, not {theirs}"
    here, there = run.end_of_text, baseline.end_of_text
    if here is not None and there is not None and here != there:
        yield f"its texts end with token {here}, not {there}"


def _unlike(run: str, baseline: str) -> bool:
    """Whether two models' names share no word.

    Example:
        >>> _unlike("org/Llama-3.1-8B-w4a16", "meta/Meta-Llama-3.1-8B"), _unlike("beta-8b", "alpha")
        (False, True)
    """
    words = [
        set(_WORD.findall(name.rstrip("/").rsplit("/", 1)[-1].lower())) for name in (run, baseline)
    ]
    return all(words) and not words[0] & words[1]
