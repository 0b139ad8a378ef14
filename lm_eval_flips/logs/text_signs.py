"""What a written answer shows of itself: how long it is, and that it is empty, loops or was cut.

Of several responses to one request the first is looked at, of a conversation all turns. What a log
does not tell is nan: no log of the harness says how many tokens an answer has, nor why it ended.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import nan
from typing import Any
from zlib import crc32

from lm_eval_flips.logs.turns import answers_of, first_text

COPIES, LOOP, PROBE = 3, 60, 20
LETTERS = 20  # of a text whose script can be told
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Filters of the harness that extract an answer, and what they say where there is none
# (lm_eval 0.4.13, filters/extraction.py).
EXTRACTING, NOT_FOUND = frozenset(("regex", "multi_choice_regex")), "[invalid]"
EAST_ASIAN = frozenset(("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO"))  # of which texts are mixed


def signs_of(record: Any, fallbacks: Sequence[str] | None) -> dict[str, float]:
    """The signs of one sample of generated text.

    Args:
        record: its line.
        fallbacks: what its filter says where it finds no answer; None where it extracts nothing.

    Returns:
        ``length`` in characters; ``empty`` and ``looped``, 1 or 0, of a conversation if any turn
        is; ``turns``, how many answers there are; ``script``, a number for each script, nan where
        the text has too few letters; and where an answer is extracted
        ``invalid``, 1 or 0, and ``truncated``: 1, 0 or nan.
    """
    responses = record.filtered_resps if record.resps is None else record.resps
    every = answers_of(responses, len(record.arguments))
    said = every[0] if len(every) == 1 else "\n".join(every)
    looped = any(map(is_looped, every))
    signs = {
        "length": float(sum(map(len, every))),
        "empty": float(not all(map(str.strip, every))),
        "looped": float(looped),
        "script": script_of(said),
        "turns": float(len(every)),
    }
    if fallbacks is None:
        return signs
    answer = first_text(record.filtered_resps).strip().casefold()
    invalid = any(answer == fallback.strip().casefold() for fallback in fallbacks)
    limit = _limit(next(iter(record.arguments.values())).arg_1)
    cut = truncated(said, limit, looped=looped) if invalid else 0.0
    return {**signs, "invalid": float(invalid), "truncated": cut}


def is_looped(text: str) -> bool:
    """Whether a text ends in a loop: one unit at least three times in a row, up to its end.

    The last copy may be cut, and all of them together have at least 60 characters. Three copies at
    the end are what Holtzman et al. (2020, arXiv 1904.09751) count as repetition; a log has texts
    and no tokens, so that a unit is one of characters, and the least length keeps "ha ha ha" out.

    Example:
        >>> is_looped("So it is 4. " + "The answer is 4. " * 4), is_looped("0" * 60)
        (True, True)
        >>> is_looped("The answer is 4. " * 2), is_looped("ha ha ha")
        (False, False)
    """
    n = len(text)
    probe = text[-PROBE:]
    end = n - 1
    # a loop of 60 characters holds its last 20 once more, one unit before
    while n >= LOOP and (place := text.rfind(probe, 0, end)) >= 0:
        unit = n - PROBE - place
        size = max(COPIES * unit, LOOP)
        if size > n:
            return False
        if text[n - size : n - unit] == text[n - size + unit :]:
            return True
        end = place + PROBE - 1
    return False


def script_of(text: str) -> float:
    """A number for the script that most letters of a text are of; nan for fewer than 20 letters.

    Chinese and Japanese scripts count as one.

    Example:
        >>> script_of("a text of several Latin letters") == script_of("une phrase bien différente")
        True
        >>> script_of("a text of several Latin letters") == script_of("текст из русских букв, да")
        False
        >>> script_of("42")
        nan
    """
    letters = Counter(filter(str.isalpha, text))
    if letters.total() < LETTERS:
        return nan
    scripts: Counter[float] = Counter()
    for letter, count in letters.items():
        scripts[_script(letter)] += count
    return max(scripts, key=lambda script: (scripts[script], script))


@lru_cache(maxsize=1 << 16)
def _script(letter: str) -> float:
    """By the first word of the character's name in Unicode, which is its script's."""
    if letter.isascii():
        return 0.0
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    if name == "LATIN":
        return 0.0
    return 1.0 + crc32(("CJK" if name in EAST_ASIAN else name).encode())


def truncated(text: str, limit: int | None, *, looped: bool) -> float:
    """Whether an answer ran into its limit before it came to an end: 1, 0, or nan if unknown.

    A text of fewer bytes than the limit has tokens did not, as a token has a byte at least. One of
    as many words did, and so did one that loops up to its end. Of others the log does not tell.

    Example:
        >>> truncated("I do not know.", 256, looped=False), truncated("so " * 256, 256, looped=True)
        (0.0, 1.0)
        >>> truncated("a text of some letters", 8, looped=False)
        nan
    """
    if limit is None:
        return nan
    if len(text.encode(errors="surrogatepass")) < limit:
        return 0.0
    return 1.0 if looped or len(text.split()) >= limit else nan


def _limit(settings: Any) -> int | None:
    """The most tokens that were generated; None where that was not logged."""
    if not isinstance(settings, Mapping):
        return None
    given = next((settings[name] for name in LIMITS if settings.get(name) is not None), None)
    return given if isinstance(given, int) and given > 0 else None


def fallbacks_of(filter_list: Any) -> dict[str, tuple[str, ...]]:
    """What each filter that extracts an answer says where it finds none, by the filter's name.

    Args:
        filter_list: of the task's configuration.

    Example:
        >>> regex = {"function": "regex", "regex_pattern": "([0-9]+)"}
        >>> fallbacks_of([{"name": "strict", "filter": [regex, {"function": "take_first"}]}])
        {'strict': ('[invalid]',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for own in filter_list if isinstance(filter_list, list) else ():
        if not isinstance(own, Mapping) or not isinstance(own.get("filter"), list):
            continue
        steps = [step for step in own["filter"] if isinstance(step, Mapping)]
        said = tuple(
            str(step.get("fallback", NOT_FOUND))
            for step in steps
            if step.get("function") in EXTRACTING
        )
        if said:
            found[str(own.get("name"))] = said
    return found
