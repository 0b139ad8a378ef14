"""Which files a model is loaded from: one that was made anew is not taken for the old one."""

from __future__ import annotations

import hashlib
from pathlib import Path


def files_fingerprint(model: str | Path) -> str:
    """A short hash of the names, sizes and times of a local model's files; "" for any other name.

    Args:
        model: its folder, or its only file.

    The contents are not read: they may be hundreds of gigabytes.

    Example:
        >>> files_fingerprint("no-such-organisation/model")
        ''
    """
    path = Path(model)
    if not path.exists():
        return ""
    hashed = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            status = file.stat()
            hashed.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return hashed.hexdigest()[:16]
