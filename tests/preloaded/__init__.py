"""A Python that has torch, transformers and the harness imported already, for commands of tests.

Of the ten seconds that a command of the harness takes on a tiny model, eight are imports. A server
imports them once; a command that a test starts with ``preloaded_environment`` finds ``sitecustomize``
on its path, which hands its arguments, environment, folder and open files to the server, waits, and
ends as the server's fork does. Modules, arguments, output, exit statuses, signals and whatever such a
command starts in its turn stay what they are. Whatever must be a process of its own from the first
instruction (kills, what is imported) is started without.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SOCKET = "LM_EVAL_FLIPS_TESTS_PRELOADED"  # the variable that names the server's socket


@cache
def preloaded_environment(python_path: str, **environment: str) -> dict[str, str]:
    """What makes a command run in a fork of a server with this path and environment.

    The server is started by the first call, and ends with this process, however that ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="preloaded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    client = folder / "path"
    client.mkdir()
    (client / "sitecustomize.py").symlink_to(HERE / "client.py")
    path = os.pathsep.join((str(client), python_path))
    own = {**environment, "PYTHONPATH": path, SOCKET: str(folder / "socket")}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")],
            env={**os.environ, **own, "HF_DATASETS_CACHE": str(folder / "datasets")},
            cwd=folder,
            stdin=subprocess.PIPE,  # closed when this process ends: then the server does
            stdout=log,
            stderr=log,
        )
    atexit.register(server.kill)
    while not (folder / "socket").exists() and server.poll() is None:
        time.sleep(0.01)
    return own
