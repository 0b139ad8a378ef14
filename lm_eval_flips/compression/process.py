"""A step in a process of its own, which frees a model's memory whole and ends with this one.

The interpreter need not have this package: it is lent this copy, and nothing beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import deque
from errno import ENOSPC
from pathlib import Path
from typing import Any

from lm_eval_flips.compression.maker import Step, done_file
from lm_eval_flips.errors import FlipsError

LENT = """
import importlib.util, sys, threading
package, descriptor, step = sys.argv[1:]
spec = importlib.util.spec_from_file_location("lm_eval_flips", package)
sys.modules["lm_eval_flips"] = lent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lent)
from lm_eval_flips.compression.maker import main
from lm_eval_flips.evaluation.watched import end_with
if int(descriptor) >= 0:
    threading.Thread(target=end_with, args=(int(descriptor),), daemon=True).start()
main(step)
"""
PACKAGE = Path(__file__).parents[1] / "__init__.py"
FULL = os.strerror(ENOSPC)  # as every library ends with it
SHOWN = 4  # last lines of what a process printed, in an error


def done(
    interpreter: str, step: Step, *, name: str, scratch: Path, kept_log: Path | None = None
) -> dict[str, Any]:
    """Run a step; what came of it: seconds, versions.

    Args:
        interpreter: a Python with torch, transformers and the scheme's library.
        step: what to do.
        name: of its files.
        scratch: folder for them.
        kept_log: where all that it printed is kept if it ends without a result.

    Raises:
        FlipsError: it ended without a result; with the last lines that it printed.
    """
    file, log = scratch / f"{name}.json", scratch / f"{name}.log"
    step.write(file)
    code = _finished([interpreter, "-c", LENT, str(PACKAGE)], str(file), log)
    try:
        found: dict[str, Any] = json.loads(done_file(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if FULL in log.read_text(encoding="utf-8", errors="replace"):
            raise FlipsError("the disk is full: free some, or choose another --output") from None
        more = ""
        if kept_log is not None:
            shutil.copyfile(log, kept_log)
            more = f" (all of it: '{kept_log}')"
        raise FlipsError(
            f"its process ended with exit code {code}: {_last_lines(log)}{more}"
        ) from None
    if "error" in found:
        raise FlipsError(found["error"])
    return found


def _finished(command: list[str], step: str, log: Path) -> int:
    with log.open("wb") as printed:
        if sys.platform == "win32":  # no descriptor can be handed on
            return subprocess.run(  # noqa: S603  (our own command)
                [*command, "-1", step], stdout=printed, stderr=printed, check=False
            ).returncode
        read, write = os.pipe()
        try:
            return subprocess.run(  # noqa: S603  (our own command)
                [*command, str(read), step],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                pass_fds=(read,),
                check=False,
            ).returncode
        finally:
            os.close(read)
            os.close(write)


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    said = deque((line.strip() for line in lines if line.strip()), maxlen=SHOWN)
    return " / ".join(said) or "it printed nothing"
