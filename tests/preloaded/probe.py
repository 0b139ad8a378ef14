"""Says what a process of a test sees, then ends as it is told.

python tests/preloaded/probe.py FILE [exit CODE | signal NUMBER | fail | sleep]
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Write it to the file, whole."""
    file, how = Path(sys.argv[1]), sys.argv[2:]
    seen = {
        "torch": "torch" in sys.modules,
        "name": Path(sys.argv[0]).name,
        "path": sys.path[0],
        "folder": os.getcwd(),
        "told": os.environ.get("TOLD"),
        "given": sys.stdin.read(),
        "process": os.getpid(),
    }
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(seen))
    beside.rename(file)
    print("out")  # noqa: T201
    print("err", file=sys.stderr)  # noqa: T201
    match how:
        case ["exit", code]:
            sys.exit(int(code))
        case ["signal", number]:
            os.kill(os.getpid(), int(number))
        case ["sleep"]:
            time.sleep(600)
        case ["fail"]:
            raise ValueError("as told")


if __name__ == "__main__":
    main()
