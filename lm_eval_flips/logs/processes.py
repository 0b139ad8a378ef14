"""Processes that read or compute beside this one end with it, however it ends; which ones run."""

from __future__ import annotations

import multiprocessing
import os
import threading


def runs(process: int) -> bool:
    """Whether a process of this machine is there.

    Example:
        >>> runs(os.getpid())
        True
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def end_with_parent() -> None:
    """In a process that ``multiprocessing`` started: end it when the one that started it is gone.

    A worker waits for its next task on a pipe whose other end its siblings hold too, so that after
    SIGKILL of the parent it would wait for ever. Nothing happens in a process of its own.

    Example:
        >>> end_with_parent()
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
