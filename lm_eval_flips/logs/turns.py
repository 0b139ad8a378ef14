"""A record of several turns: what was said in each, and what was answered.

One request a turn, each with the answers before it in its context: two models that answer alike up
to there only were asked alike. So the first request's arguments are those that are compared; what
a user says later stands in the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANSWERED = "turns_answered"  # the only metric of such a task: how many turns have a text


def answers_of(responses: Any, count: int) -> tuple[str, ...]:
    """The first response to each of so many requests, empty where there is none.

    Example:
        >>> answers_of([["Four.", "4"], ["Five."]], 2), answers_of(["Four."], 1)
        (('Four.', 'Five.'), ('Four.',))
    """
    if count == 1:
        return (first_text(responses),)
    listed = responses if isinstance(responses, (list, tuple)) else []
    return tuple(first_text(own) for own in listed[:count])


def first_text(responses: Any) -> str:
    """The first text of nested lists of responses; empty where there is none."""
    while isinstance(responses, (list, tuple)) and responses:
        responses = responses[0]
    return responses if isinstance(responses, str) else ""


def said_turns(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What a user says turn by turn in the record of a conversation; nothing of other records.

    Example:
        >>> said_turns({"doc": {"turns": ["Why?", "And then?"]}, "metrics": ["turns_answered"]})
        ('Why?', 'And then?')
        >>> said_turns({"doc": {"turns": ["Why?"]}, "metrics": ["exact_match"]})
        ()
    """
    return _texts(record, "turns") if ANSWERED in record.get("metrics", ()) else ()


def references_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """A right answer to each turn of a conversation; none where its document names none."""
    return _texts(record, "reference")


def _texts(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    doc = record.get("doc")
    listed = doc.get(name) if isinstance(doc, Mapping) else None
    return tuple(map(str, listed)) if isinstance(listed, list) else ()
