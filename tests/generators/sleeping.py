"""A child that does nothing for a minute: `python -m tests.generators.sleeping FILE`.

It writes its process's number into the file, once it can be ended.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(f"{os.getpid()}\n")
    time.sleep(60)
