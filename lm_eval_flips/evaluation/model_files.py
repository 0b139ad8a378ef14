"""Which files a model is loaded from: one that was made anew is not taken for the old one."""

from __future__ import annotations

import hashlib
from pathlib import Path


def files_fingerprint(folder: str | Path) -> str:
    """A short hash of the names, sizes and times of a local model's files; "" for any other name.

    The contents are not read: they may be hundreds of gigabytes.

    Example:
        >>> files_fingerprint("no-such-organisation/model")
        ''
    """
    path = Path(folder)
    if not path.is_dir():
        return ""
    hashed = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.is_file():
            status = file.stat()
            hashed.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return hashed.hexdigest()[:16]
