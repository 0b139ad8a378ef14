"""One line of a samples file: one document under one filter, with its requests.

This room is all that knows the harness's log format;
``harness/task.py`` makes the same records before they are written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import numpy as np

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


def arguments_digests(requests: Iterable[Sequence[Request]]) -> bytes:
    """``arguments_digest`` of many samples, one after the other."""
    return b"".join(map(arguments_digest, requests))


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


def hash_digests(hashes: list[str]) -> bytes:
    """The first ``DIGEST`` bytes of logged hashes, one after the other.

    A hash that is not 64 hexadecimal digits is hashed itself.
    """
    try:
        whole = bytes.fromhex("".join(hashes))
    except ValueError:
        whole = b""
    if len(whole) != len(hashes) * 32 or set(map(len, hashes)) != {64}:
        whole = b"".join(_hash_bytes(text) for text in hashes)
    return np.frombuffer(whole, np.uint8).reshape(-1, 32)[:, :DIGEST].tobytes()


def _hash_bytes(text: str) -> bytes:
    if re.fullmatch("[0-9a-f]{64}", text):
        return bytes.fromhex(text)
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class EvenRequests:
    """The requests of some records that have equally many, sharing each record's context."""

    count: int
    contexts: list[Any]
    texts: list[Any]

    def digests(self) -> bytes:
        """``arguments_digest`` of each record."""
        k, texts, encode, sha256 = self.count, self.texts, _encoder.encode, hashlib.sha256
        contents = [[context, texts[i * k : i * k + k]] for i, context in enumerate(self.contexts)]
        try:
            return b"".join([sha256(encode(content)).digest()[:DIGEST] for content in contents])
        except UnicodeEncodeError:
            return b"".join(map(content_digest, contents))


def even_requests(requests: list[list[Request]]) -> EvenRequests | None:
    """What lets most records be treated at once instead of one by one, which takes longer."""
    count = len(requests[0])
    if not count or set(map(len, requests)) != {count}:
        return None
    flat = [request for asked in requests for request in asked]
    if [request.arg_2 for request in flat].count(None) < len(flat):
        return None
    of_each = [request.arg_0 for request in flat]
    contexts = of_each[::count]
    if any(of_each[place::count] != contexts for place in range(1, count)):
        return None
    return EvenRequests(count, contexts, [request.arg_1 for request in flat])
