"""Runs at addresses that fsspec knows (s3://, hf://, gs:// …): what is read of them is mirrored.

Nothing is ever written there. A file that has not changed since it was mirrored, as its size and
the store's own stamp of it tell, is not fetched again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.addresses import MirroredPath, address_of, mirror_of
from lm_eval_flips.logs.files import unreadable
from lm_eval_flips.logs.names import RESULTS_NAME, SAMPLES_NAME
from lm_eval_flips.logs.remote_errors import is_closed, not_reached, raised_by_stores
from lm_eval_flips.logs.remote_files import Progress, Wanted
from lm_eval_flips.logs.secrets import masked_text

LOGS = (".json", ".jsonl", ".gz", ".zst")


def here(path: str | Path, *, tree: bool = False, progress: Progress | None = None) -> Path:
    """A path itself; of an address the folder or file that mirrors it, brought up to date.

    Args:
        path: a path, or an address that fsspec knows.
        tree: whether it is a folder of runs at any depth, not one run.
        progress: called with the bytes fetched since the last call, and with those of all files.

    Raises:
        FlipsError: nothing there, not to be reached or not allowed; its library is not installed;
            files that change while they are fetched, twice.
    """
    address = address_of(path)
    if address is None:
        return path if isinstance(path, Path) else Path(path)
    shown = masked_text(address)
    system, root = _opened(address, shown)
    if isinstance(root, Path):
        return root
    try:
        return _mirrored(system, address, root, tree=tree, progress=progress)
    except FlipsError:
        raise
    except OSError as error:
        if _is_local(error):
            raise unreadable(Path(str(error.filename)), error) from None
        raise not_reached(shown, error) from None
    except raised_by_stores() as error:
        raise not_reached(shown, error) from None


def _is_local(error: OSError) -> bool:
    """Whether it was raised by the mirror on this machine, not by the store."""
    return str(mirror_of("")) in str(error.filename or "")


def _opened(address: str, shown: str) -> tuple[Any, str | Path]:
    """The file system of an address, and the place in it; a ``Path`` where it is this machine's."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.registry import known_implementations

    protocol = address.partition("://")[0]
    if "::" in address:
        raise FlipsError(f"'{shown}' is a chain of addresses; unpack it, and give one")
    try:
        system, place = url_to_fs(address, skip_instance_cache=True)
    except ImportError as error:
        package = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
        way = f"`pip install {package}`" if package not in ("", "fsspec") else f"{error}"
        raise FlipsError(f"'{shown}' cannot be read without another library: {way}") from None
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise not_reached(shown, error) from None
        raise FlipsError(
            f"'{shown}' begins with '{protocol}://', which fsspec does not know; it knows s3, gs, "
            "hf, az, https, sftp and more: copy the run to one of them, or here"
        ) from None
    except raised_by_stores() as error:
        raise not_reached(shown, error) from None
    if isinstance(system, LocalFileSystem):
        return system, Path(place)
    return system, place


def _mirrored(
    system: Any, address: str, place: str, *, tree: bool, progress: Progress | None
) -> Path:
    from lm_eval_flips.logs.mirror import Mirror  # only now: it imports fsspec

    def renew(root: str, at: MirroredPath, wanted: Wanted | None) -> None:
        Mirror(system, root, at, wanted, progress).renew()

    system.invalidate_cache()
    query = "?" in address and address.startswith("http")
    at = mirror_of(address.partition("?")[0] if query else address)
    found = system.info(place)
    root = str(found["name"]).rstrip("/")
    # a web server calls its folders files too
    one = found["type"] == "file" and (query or at.suffix in LOGS)
    if one and (query or not (RESULTS_NAME.fullmatch(at.name) or SAMPLES_NAME.fullmatch(at.name))):
        renew(root, at, None)
        return at
    wanted = Wanted(beside=at.name) if one else Wanted(tree=tree)
    folder, above = (root.rpartition("/")[0], at.parent) if one else (root, at)
    renew(folder, above, wanted)
    # distances, judgements and records may lie beside a model's folder
    has_results = any(RESULTS_NAME.fullmatch(file.name) for file in above.iterdir())
    outer = folder.rpartition("/")[0]
    if has_results and outer.rpartition("/")[0]:  # the first segment is a bucket or an account
        try:
            renew(outer, above.parent, Wanted(own=True))
        except raised_by_stores() as error:
            if not is_closed(error):  # what may not be listed there is not this run's
                raise
    return at
