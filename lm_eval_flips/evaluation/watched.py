"""Run a module as `python -m` does, and end with the process that started it.

    python -m lm_eval_flips.evaluation.watched DESCRIPTOR|parent MODULE [ARGUMENTS]

The parent keeps the other end of a pipe open and writes nothing. However the parent ends, also by
SIGKILL, its end is closed, and this process, which waits for that in a thread, ends too. A launcher
hands no pipe on to what it starts: with "parent" its process is looked after instead.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE = 5.0  # seconds between asking to end and ending
POLL = 0.5  # seconds between two looks at the parent


def end_with(descriptor: int) -> None:
    """Wait until a pipe is closed at its other end; then end this process."""
    while os.read(descriptor, 1):
        pass
    _end()


def end_with_parent(parent: int) -> None:
    """Wait until this process is another one's child; then end it."""
    while os.getppid() == parent:
        time.sleep(POLL)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)  # something may have been made to outlive SIGTERM
    os._exit(128 + signal.SIGTERM)


def main() -> None:
    """Watch the descriptor, run the module."""
    watched, module, *arguments = sys.argv[1:]
    if watched == "parent":
        threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    else:
        threading.Thread(target=end_with, args=(int(watched),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
