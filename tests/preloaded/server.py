"""Imports what the harness's commands import, then forks once a command; see the package's text.

Started by ``preloaded_environment``; ends when its standard input is closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
from typing import Any, NamedTuple

IMPORTED = (
    *("torch", "numpy", "scipy.stats", "pandas", "pyarrow.parquet", "datasets", "evaluate"),
    *("transformers", "transformers.models.llama.modeling_llama", "transformers.generation.utils"),
    *("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto"),
    *("lm_eval.evaluator", "lm_eval.tasks", "lm_eval.loggers", "lm_eval.models.huggingface"),
    *("lm_eval._cli.harness", "msgspec", "typer", "rich.table", "rich.progress", "yaml", "gguf"),
)
# read when something is imported: a command that has others is not forked
READ_AT_IMPORT = (
    *("PYTHON", "LC_", "LANG", "HF_", "TRANSFORMERS_", "TQDM_", "TOKENIZERS_", "LM_EVAL_LOG"),
    *("OMP_", "MKL_", "OPENBLAS_", "DNNL_", "ONEDNN_", "ATEN_", "CUDA_"),
)
# the caches are the server's; the other is set by the harness itself when it starts
NOT_COMPARED = ("HF_DATASETS_CACHE", "HF_XET_HIGH_PERFORMANCE")
HIGH = 200  # descriptors from here on are nobody's


class Request(NamedTuple):
    """One command, as its client tells it."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    files: list[int]
    umask: int


def _read_at_import(environment: Any) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_IMPORT) and name not in NOT_COMPARED
    }


def _received(client: socket.socket) -> tuple[Request, list[int]]:
    head, files, _, _ = socket.recv_fds(client, 4, 250)
    (length,) = struct.unpack("!I", head)
    told = b""
    while len(told) < length:
        told += client.recv(length - len(told))
    return Request(**json.loads(told)), files


class Server:
    """Forks for each command; its clients are told how that ended."""

    def __init__(self, listener: socket.socket) -> None:
        self._own = _read_at_import(os.environ)
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, socket.socket] = {}
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._listener = listener
        for source in (self._listener, self._woken, sys.stdin.fileno()):
            self._selector.register(source, selectors.EVENT_READ)

    def request(self) -> Request | None:
        """In each fork, its command; in the server, nothing, when it is to end."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == sys.stdin.fileno():
                    for pid in self._workers:
                        os.kill(pid, signal.SIGKILL)
                    return None
                if key.fileobj == self._woken:
                    os.read(self._woken, 4096)
                    self._reap()
                elif key.fileobj is self._listener:
                    forked = self._accept()
                    if forked is not None:
                        return forked
                else:
                    self._told(key.data, key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> Request | None:
        client, _ = self._listener.accept()
        request, files = _received(client)
        own = _read_at_import(request.environment)
        if own != self._own:
            sys.stderr.write(
                f"not forked: {request.arguments}: {own.items() ^ self._own.items()}\n"
            )
            client.sendall(b"n")
            client.close()
            pid = 0
        else:
            pid = os.fork()
            if pid == 0:
                self._leave(client)
                _take(request, files)
                return request
            client.sendall(b"y")
            self._workers[pid] = client
            self._selector.register(client, selectors.EVENT_READ, pid)
        for number in files:
            os.close(number)
        return None

    def _told(self, pid: int, client: socket.socket) -> None:
        """A signal for the fork; or the client is gone, and the fork goes too."""
        told = client.recv(1)
        number = told[0] if told else signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if not told:
            self._selector.unregister(client)

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            client = self._workers.pop(pid)
            with contextlib.suppress(OSError):  # gone before
                client.sendall(struct.pack("!i", status))
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(client)
            client.close()

    def _leave(self, client: socket.socket) -> None:
        """In a fork: nothing of the server stays open."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for other in (client, self._listener, *self._workers.values()):
            other.close()
        os.close(self._woken)
        os.close(self._wake)


def _take(request: Request, files: list[int]) -> None:
    """In a fork: the command's own open files, environment and folder."""
    high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, HIGH) for number in files]
    for number in files:
        os.close(number)
    for number in (0, 1, 2):
        os.close(number)
    for number, wanted in zip(high, request.files, strict=True):
        os.dup2(number, wanted, inheritable=True)
        os.close(number)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(request.environment)
    os.umask(request.umask)
    os.chdir(request.folder)
    sys.modules["numpy"].random.seed()


def _run(arguments: list[str]) -> None:
    """As the interpreter would."""
    sys.orig_argv = arguments
    given = arguments[1:]
    if given[0] == "-u":
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
        given = given[1:]
    if given[0] == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = given[1:]
        runpy.run_module(given[1], run_name="__main__", alter_sys=True)
    elif given[0] == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *given[2:]]
        exec(given[1], {"__name__": "__main__"})  # as the interpreter does
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(given[0])))
        sys.argv = given
        runpy.run_path(given[0], run_name="__main__")


def main() -> None:
    """Import, listen, fork."""
    sys.path.pop(0)  # this file's folder
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ["LM_EVAL_FLIPS_TESTS_PRELOADED"])
    listener.listen(64)  # who comes now waits until all is imported
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    request = Server(listener).request()
    if request is not None:
        _run(request.arguments)


if __name__ == "__main__":
    main()
