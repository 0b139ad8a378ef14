"""Judges for tests, which really speak over a socket: one that does as it is told, and llama.cpp's.

The first answers each request by the next of its turns, a function of what was asked; it counts how
many it answers at once. The second is a real server with a tiny model, whose every reply is forced
by a grammar to hold a score.
"""

from __future__ import annotations

import importlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Turn = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


@dataclass
class Judge:
    """A running judge: its address, what it was asked, and the most that it answered at once."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def send(handler: BaseHTTPRequestHandler, status: int, body: str, **headers: str) -> None:
    """Reply with any text."""
    content = body.encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def says(words: str, *, seconds: float = 0.0) -> Turn:
    """A turn that replies with these words, after some time."""

    def turn(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        time.sleep(seconds)
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        message = {"role": "assistant", "content": words}
        send(handler, 200, json.dumps({"choices": [{"message": message}], "usage": usage}))

    return turn


def fails(status: int, body: str = "{}", **headers: str) -> Turn:
    """A turn that replies with a status, or with something else than the protocol says."""
    return lambda handler, _: send(handler, status, body, **headers)


def hangs_up(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    """A turn that closes the connection without a word."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def by_letters(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
    """A turn that grades by the prompt's letters: alike whenever it is asked."""
    score = 1 + sum(asked["messages"][-1]["content"].encode()) % 10
    says(f"Well.\n[[{score}]]")(handler, asked)


@contextmanager
def judge(turns: Sequence[Turn], always: Turn) -> Iterator[Judge]:
    """A judge that answers the first requests by ``turns``, all others as ``always``."""
    left = list(turns)
    running = Judge(url="")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with running.lock:
                running.now += 1
                running.most = max(running.most, running.now)
                running.asked.append(asked)
                running.headers.append({k.lower(): v for k, v in self.headers.items()})
                running.times.append(time.monotonic())
                turn = left.pop(0) if left else always
            try:
                turn(self, asked)
            except OSError:
                pass
            finally:
                with running.lock:
                    running.now -= 1

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    running.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


GRAMMAR = 'root ::= "It is so. [[" [1-9] "]]"'


@contextmanager
def llama_server(model: Path, *, parallel: int = 2, grammar: str = GRAMMAR) -> Iterator[str]:
    """llama.cpp's own server with a model; gives its address."""
    xllamacpp: Any = importlib.import_module("xllamacpp")  # it ships no types

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.hostnames = ["127.0.0.1"]
    params.port = free_port()
    params.n_parallel = parallel
    params.n_ctx = 4096
    params.cpuparams.n_threads = 1
    kind = xllamacpp.common_grammar_type.COMMON_GRAMMAR_TYPE_USER
    params.sampling.grammar = xllamacpp.CommonGrammar(kind, grammar)
    server = xllamacpp.Server(params)
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server


def free_port() -> int:
    """A port that nothing listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
