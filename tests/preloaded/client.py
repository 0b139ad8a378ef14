"""``sitecustomize`` of a command that a test starts: a fork of the preloaded server does its work.

It does nothing in any other Python: one whose environment says otherwise what is read at import, one
that runs other things than the harness and this package, and one while the server does not listen.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from typing import Any

MODULES = ("lm_eval", "lm_eval_flips", "torch", "accelerate", "tests")
SCRIPTS = ("lm_eval", "lm-eval", "lm-eval-flips", "accelerate", "torchrun", "probe.py")
FOLDERS = ("lm_eval_flips", "examples")  # whose files are run as scripts
LENT = (
    "from lm_eval_flips.compression.maker import main"  # in the code of a process that makes models
)
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _served() -> bool:
    given = [part for part in sys.orig_argv[1:3] if part != "-u"]
    if given[:1] == ["-m"]:
        named = [part for part in sys.orig_argv[1:4] if part != "-u"][1]
        return named.split(".")[0] in MODULES
    if given[:1] == ["-c"]:
        return LENT in given[1]
    if not given or given[0].startswith("-"):
        return False
    *folders, name = given[0].split(os.sep)
    return name in SCRIPTS or any(folder in FOLDERS for folder in folders)


def _end(status: int) -> None:
    """As the fork ended: with its exit status, or by its signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def _hand_over(server: socket.socket) -> None:
    opened = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number != server.fileno():
            try:
                os.fstat(number)
            except OSError:  # the folder's own
                continue
            opened.append(number)
    umask = os.umask(0)
    os.umask(umask)
    asked = {
        "arguments": sys.orig_argv,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "files": opened,
        "umask": umask,
    }
    told = json.dumps(asked).encode()
    socket.send_fds(server, [struct.pack("!I", len(told))], opened)
    server.sendall(told)


def _main() -> None:
    place = os.environ.get("LM_EVAL_FLIPS_TESTS_PRELOADED")
    if place is None or not _served():
        return
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(place)
    except OSError:  # not yet, or no more
        return
    _hand_over(server)
    if server.recv(1) != b"y":  # another environment than the server's
        server.close()
        return

    def forward(number: int, frame: Any) -> None:
        server.sendall(bytes([number]))

    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
    ended = b""
    while len(ended) < 4:
        more = server.recv(4 - len(ended))
        if not more:
            os._exit(70)
        ended += more
    _end(struct.unpack("!i", ended)[0])


_main()
