"""The same question with its options in another order: which option stands where.

Options are found in the document (a list of as many texts as the question has choices, in both runs
the same texts) or, where the document says nothing of them, in the requests. Everything else of the
document must agree; a field that names an option, such as the answer's number or letter, must name
the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.logs.samples import Samples

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def option_order(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[int] | None:
    """For each of the baseline's options, its place in the compressed run.

    Args:
        ours: the baseline's logged record.
        theirs: the compressed run's.

    Returns:
        None where the records do not prove that they ask the same of the same options.

    Example:
        >>> ours = {"doc": {"q": "?", "choices": ["oak", "elm"], "answer": 0}, "target": "0"}
        >>> theirs = {"doc": {"q": "?", "choices": ["elm", "oak"], "answer": 1}, "target": "1"}
        >>> option_order(ours, theirs)
        [1, 0]
    """
    before, after = ours.get("doc"), theirs.get("doc")
    for options, moved in zip(_lists(before), _lists(after), strict=False):
        order = _order(options, moved)
        if order is None or order == sorted(order):
            continue
        same = _agree(before, after, options, moved)
        same = same and _same_target(ours.get("target"), theirs.get("target"), options, moved)
        return order if same else None
    requests = [_continuations(record) for record in (ours, theirs)]
    order = _order(*requests)
    same = before == after and _contexts(ours) == _contexts(theirs)
    same = same and _same_target(ours.get("target"), theirs.get("target"), *requests)
    return order if same else None


def reorder(samples: Samples, orders: Mapping[int, Sequence[int]]) -> Samples:
    """The samples with the choices of some rows in another order."""
    if not orders or not samples.loglikelihoods.shape[1]:
        return samples
    places = np.tile(np.arange(samples.loglikelihoods.shape[1]), (len(samples), 1))
    for row, order in orders.items():
        if len(order) == samples.choices[row]:
            places[row, : len(order)] = order

    def moved(values: NDArray[Any]) -> NDArray[Any]:
        return np.take_along_axis(values, places, axis=1)

    keys = samples.request_keys
    return replace(
        samples,
        loglikelihoods=moved(samples.loglikelihoods),
        unconditional=None if samples.unconditional is None else moved(samples.unconditional),
        chars=moved(samples.chars),
        bytes=moved(samples.bytes),
        gold=moved(samples.gold),
        greedy=moved(samples.greedy),
        request_keys=None if keys is None else np.take_along_axis(keys, places[..., None], axis=1),
    )


def _lists(content: Any) -> list[list[Any]]:
    """All lists of several texts or numbers inside a document, in the order of its fields."""
    if isinstance(content, list):
        plain = len(content) > 1 and all(isinstance(own, (str, int, float)) for own in content)
        return [content] if plain else [found for own in content for found in _lists(own)]
    if isinstance(content, Mapping):
        return [found for name in sorted(content) for found in _lists(content[name])]
    return []


def _order(options: Sequence[Any], moved: Sequence[Any]) -> list[int] | None:
    """Where each option stands in the other list; None unless they are the same, each once."""
    if len(options) < 2 or len(options) != len(moved):
        return None
    texts, others = [str(own) for own in options], [str(own) for own in moved]
    if len(set(texts)) < len(texts) or set(texts) != set(others):
        return None
    return [others.index(text) for text in texts]


def _agree(ours: Any, theirs: Any, options: Sequence[Any], moved: Sequence[Any]) -> bool:
    """Whether two documents say the same, given the order of their options."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(
            _agree(ours[name], theirs[name], options, moved) for name in ours
        )
    if ours == options and theirs == moved:
        return True
    # the same letter names another option where the order is another; a number may be anything's
    letter = isinstance(ours, str) and len(ours) == 1 and bool(_named(ours, options))
    if ours == theirs and not letter:
        return True
    return bool(_named(ours, options) & _named(theirs, moved))


def _same_target(ours: Any, theirs: Any, options: Sequence[Any], moved: Sequence[Any]) -> bool:
    """Whether two targets mean the same option; those that name none must be the same."""
    before, after = _named(ours, options), _named(theirs, moved)
    return bool(before & after) if before and after else bool(ours == theirs)


def _named(value: Any, options: Sequence[Any]) -> set[str]:
    """The texts of the options that a value may name: by text, by letter, or by number from 0."""
    if isinstance(value, (list, Mapping)):
        return set()
    texts, said = [str(own) for own in options], str(value).strip("(). ")
    places = {texts.index(said)} if said in texts else set()
    if len(said) == 1 and said.upper() in LETTERS:
        places.add(LETTERS.index(said.upper()))
    if said.isdecimal() and len(said) < 4:
        places.add(int(said))
    return {texts[place] for place in places if place < len(texts)}


def _continuations(record: Mapping[str, Any]) -> list[Any]:
    return [own.get("arg_1") for own in _requests(record) if isinstance(own.get("arg_1"), str)]


def _contexts(record: Mapping[str, Any]) -> list[Any]:
    return [own.get("arg_0") for own in _requests(record)]


def _requests(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    arguments = record.get("arguments")
    found = arguments.values() if isinstance(arguments, Mapping) else ()
    return [own for own in found if isinstance(own, Mapping)]
