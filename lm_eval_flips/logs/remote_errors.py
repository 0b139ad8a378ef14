"""What object stores raise -> one line that says what, which and the way out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.secrets import masked_text

# Exceptions of the libraries that fsspec reaches stores by, which are no OSError. They are looked
# up among what is imported: a library that is not has raised nothing.
_RAISED = {
    "aiohttp": ("ClientError",),
    "azure.core.exceptions": ("AzureError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "httpx": ("HTTPError",),
    "httpx2": ("HTTPError",),  # huggingface_hub's
    "paramiko.ssh_exception": ("SSHException",),
    "requests.exceptions": ("RequestException",),
}
_FORBIDDEN = (401, 403)
ENVIRONMENT = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_PROFILE …; FSSPEC_S3_ANON=true for a public bucket",
    "hf": "HF_TOKEN",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
}


def raised_by_stores() -> tuple[type[Exception], ...]:
    """Everything that reading from a store is known to raise."""
    known = [
        getattr(sys.modules[module], name, None)
        for module, names in _RAISED.items()
        if module in sys.modules
        for name in names
    ]
    found = (kind for kind in known if isinstance(kind, type) and issubclass(kind, Exception))
    return (OSError, ValueError, NotImplementedError, asyncio.TimeoutError, *found)


def is_closed(error: Exception) -> bool:
    """Whether a store says that something is not there, or is not to be read."""
    return isinstance(error, FileNotFoundError) or any(map(_is_forbidden, _causes(error)))


def not_reached(address: str, error: Exception) -> FlipsError:
    """What to raise where an address cannot be read.

    Args:
        address: the address, its secrets masked.
        error: what was raised.
    """
    protocol = address.partition("://")[0]
    causes = list(_causes(error))
    if any(map(_is_forbidden, causes)):
        where = ENVIRONMENT.get(protocol)
        return FlipsError(
            f"'{address}' may not be read ({_said(causes[-1])}): credentials come from the "
            f"environment{f' ({where})' if where else ''}; check them and what they allow"
        )
    if isinstance(error, FileNotFoundError) and (
        len(causes) == 1 or isinstance(causes[-1], FileNotFoundError) or _status(causes[-1])
    ):
        return FlipsError(
            f"'{address}' does not exist; give an lm_eval output folder, or a results_*.json or "
            "samples_*.jsonl in it"
        )
    return FlipsError(
        f"'{address}' cannot be reached ({_said(causes[-1])}); check the address, the network and "
        "the credentials in the environment"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, of which libraries hide the one that tells."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _is_forbidden(error: BaseException) -> bool:
    kind = type(error).__name__
    return (
        isinstance(error, PermissionError)
        or _status(error) in _FORBIDDEN
        or kind.endswith(("CredentialsError", "TokenRetrievalError"))
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status of an error, wherever its library puts it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        response = response.get("ResponseMetadata", {})
        return _number(response.get("HTTPStatusCode"))
    places = (getattr(error, "status", None), getattr(error, "code", None))
    return next(filter(None, map(_number, (*places, getattr(response, "status_code", None)))), None)


def _number(status: object) -> int | None:
    return int(status) if isinstance(status, (int, str)) and str(status).isdigit() else None


def _said(error: BaseException) -> str:
    """The first line of an error and its kind, without secrets."""
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return f"{masked_text(lines[0]):.200}, {kind}" if lines else kind
