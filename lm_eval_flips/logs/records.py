"""One line of a samples file: one document under one filter, with its requests.

This room is all that knows the harness's log format;
``harness/task.py`` makes the same records before they are written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import msgspec

DIGEST = 16  # bytes kept of each hash

_encoder = msgspec.json.Encoder(order="sorted", enc_hook=str)


class Request(msgspec.Struct, gc=False):
    """The arguments of one request: context and continuation or settings; a rolling text alone."""

    arg_0: Any
    arg_1: Any = None
    arg_2: Any = None


class Continuation(Request, gc=False):
    """A request whose continuation is scored: it has one, and it is text."""

    arg_1: str = ""


class Record(msgspec.Struct, gc=False, kw_only=True):
    """One line of a samples file; the task's metrics are added as further fields."""

    doc_id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    filter: str
    metrics: list[str]
    doc_hash: str
    prompt_hash: str
    target_hash: str
    target: Any
    arguments: dict[str, Request]
    filtered_resps: list[Any]


# A metric of such a name was written over the sample's own field, and cannot be told from it.
RESERVED = frozenset(Record.__struct_encode_fields__) | {"doc", "resps"}


@lru_cache
def record_type(
    metrics: tuple[str, ...], response: Any = Any, request: type[Request] = Request
) -> type[Record]:
    """``Record`` with the metrics of a task as further fields, `metric_0`, `metric_1` and so on.

    Args:
        metrics: names of the metrics; one that a line lacks is UNSET there.
        response: type of what a model answers to one request.
        request: type of a request.
    """
    fields: list[Any] = [
        ("arguments", dict[str, request]),  # type: ignore[valid-type]
        ("filtered_resps", list[response]),
        ("resps", list[list[response]] | None, None),
    ]
    fields += [
        (f"metric_{i}", Any, msgspec.field(name=name, default=msgspec.UNSET))
        for i, name in enumerate(metrics)
        if name not in RESERVED
    ]
    made: Any = msgspec.defstruct("TaskRecord", fields, bases=(Record,), gc=False, kw_only=True)
    kind: type[Record] = made
    return kind


@lru_cache
def attributes(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The name of each field in Python, by its name in the log."""
    return dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))


def arguments_digest(requests: Sequence[Request]) -> bytes:
    """Digest of all arguments of a sample's requests, the same from the log and from memory.

    A context that all requests share, as the choices of a question do, is hashed once.

    Example:
        >>> asked = [Request(arg_0="Q?", arg_1=" A"), Request(arg_0="Q?", arg_1=" B")]
        >>> arguments_digest(asked).hex()[:8]
        '95972ecf'
    """
    contexts = [request.arg_0 for request in requests]
    shared = contexts.count(contexts[0]) == len(contexts) if contexts else False
    content = [
        contexts[0] if shared else contexts,
        [request.arg_1 for request in requests],
    ]
    more = [request.arg_2 for request in requests if request.arg_2 is not None]
    if more:
        content.append(more)
    return content_digest(content)


def request_digest(request: Request) -> bytes:
    """Digest of one request's arguments, under which its distances from the baseline are stored.

    Example:
        >>> request_digest(Request(arg_0="Q?", arg_1=" A")).hex()[:8]
        'ca86a8b2'
    """
    return content_digest([request.arg_0, request.arg_1])


def content_digest(content: Any) -> bytes:
    """Digest of anything that JSON can hold, with the keys of its objects in order."""
    try:
        encoded = _encoder.encode(content)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold and UTF-8 cannot
        encoded = json.dumps(content, sort_keys=True, default=str).encode()
    return hashlib.sha256(encoded).digest()[:DIGEST]


@dataclass(frozen=True, slots=True)
class EvenRequests:
    """The requests of some records that have equally many, sharing each record's context."""

    count: int
    contexts: list[Any]
    texts: list[Any]

    def digests(self) -> bytes:
        """``arguments_digest`` of each record."""
        k, texts = self.count, self.texts
        return b"".join(
            [
                content_digest([context, texts[i * k : i * k + k]])
                for i, context in enumerate(self.contexts)
            ]
        )


def even_requests(requests: list[list[Request]]) -> EvenRequests | None:
    """What lets most records be treated at once instead of one by one, which takes longer."""
    count = len(requests[0])
    if not count or set(map(len, requests)) != {count}:
        return None
    flat = [request for asked in requests for request in asked]
    if [request.arg_2 for request in flat].count(None) < len(flat):
        return None
    every = [request.arg_0 for request in flat]
    contexts = every[::count]
    if any(every[place::count] != contexts for place in range(1, count)):
        return None
    return EvenRequests(count, contexts, [request.arg_1 for request in flat])
