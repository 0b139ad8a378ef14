"""Addresses such as s3://bucket/run: what one is, and where its mirror lies on this machine.

A mirrored file lies below the user's cache folder, its place there being its address: nothing else
needs to be kept to tell the one from the other, in this process or another.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.secrets import masked_text

# A single letter is a drive; pathlib makes one slash of two.
_ADDRESS = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>//?)(?P<rest>.*)", re.S)
HOSTLESS = ("file", "local")  # what follows is a whole path of this machine
_MIRROR = ("lm-eval-flips", "mirror")

if TYPE_CHECKING:
    _LocalPath = Path
else:
    _LocalPath = type(Path())  # a Path of this system, of which classes can be made


class MirroredPath(_LocalPath):
    """A file or folder of the mirror: read as any other, and named in texts by its address.

    Example:
        >>> path = mirror_of("s3://bucket/runs/int4")
        >>> f"'{path / 'results.json'}' is damaged"
        "'s3://bucket/runs/int4/results.json' is damaged"
    """

    def __format__(self, spec: str) -> str:
        parts = self.parts
        for place in range(len(parts) - len(_MIRROR)):
            if parts[place : place + len(_MIRROR)] == _MIRROR:
                protocol, *rest = parts[place + len(_MIRROR) :]
                return format(f"{protocol}://{'/'.join(rest)}", spec)
        return format(str(self), spec)


def address_of(path: str | Path) -> str | None:
    """The address that was given in place of a path; None where it is a path.

    Example:
        >>> address_of(Path("s3://bucket/run")), address_of("runs/int4"), address_of(r"C:/runs")
        ('s3://bucket/run', None, None)
    """
    match = _ADDRESS.fullmatch(str(path))
    if match is None or isinstance(path, MirroredPath):
        return None
    if match["slashes"] == "/" and Path(path).exists():
        return None  # a folder whose name ends in a colon
    protocol, rest = match["protocol"].lower(), match["rest"]
    if protocol in HOSTLESS:  # of three slashes pathlib leaves one
        rest = f"/{rest.lstrip('/')}"
    return f"{protocol}://{rest}"


def refuse_address(path: str | Path, *, what: str = "") -> None:
    """Refuse an address where something is to be written.

    Args:
        path: what was given.
        what: the option that it was given to, for the error.

    Raises:
        FlipsError: it is an address, or lies in a mirror of one.
    """
    address = f"{path}" if isinstance(path, MirroredPath) else address_of(path)
    if address is not None:
        raise FlipsError(
            f"{what} '{masked_text(address)}' cannot be written: addresses are only read; name "
            "a local file or folder, and copy it there".lstrip()
        )


def mirror_of(address: str) -> MirroredPath:
    """Where the mirror of an address lies, whether or not anything is there yet."""
    protocol, _, rest = masked_text(address).partition("://")
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    # of segments that lead upwards nothing is left, nor of empty ones
    kept = [part for part in rest.split("/") if part not in ("", ".", "..")]
    return MirroredPath(Path(home).expanduser(), *_MIRROR, protocol, *kept)
