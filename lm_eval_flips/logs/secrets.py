"""Secrets in what a run logs of itself, such as an API's key: masked where it is read.

The harness logs model arguments as they were given. What is masked here reaches no table, no file
and no message. A secret is known by its name (`api_key`, `token`, `Authorization`), by its place (a
password in an address) or by its form (`sk-…`, `hf_…`, a JSON web token).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

MASK = "***"

# Names with these in them, written as one word, are of secrets.
PARTS = (
    *("apikey", "accesskey", "secretkey", "privatekey", "subscriptionkey", "authkey", "signingkey"),
    *("secret", "passw", "passphrase", "credential", "authorization", "bearer", "cookie"),
)
WORDS = frozenset({"auth", "header", "headers", "pwd", "signature", "sig"})
# Before "token" these say that it is one of the vocabulary.
VOCABULARY = frozenset(
    {
        *("bos", "eos", "eot", "eom", "pad", "unk", "sep", "cls", "mask", "prefix", "special"),
        *("stop", "start", "end", "begin", "think", "image", "audio", "video", "next", "first"),
        *("last", "new", "max", "min", "per", "add", "scored", "draft"),
    }
)
# With these a "key" says where something is found.
NO_SECRETS = frozenset(
    {
        *("cache", "sort", "doc", "document", "question", "answer", "context", "target", "label"),
        *("gold", "prompt", "text", "image", "audio", "video", "input", "inputs", "output"),
        *("metric", "choice", "group", "primary", "foreign", "column", "data", "dict", "state"),
    }
)
PLAIN = frozenset({"", "true", "false", "none", "null"})

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ADDRESS = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_NAMED = re.compile(
    r"""(?P<name>[A-Za-z_][\w.-]*)(?P<sign>["']?\s*[=:]\s*)
    (?P<value>"[^"]*"|'[^']*'|\{[^}]*\}|(?:(?:Bearer|Basic|Digest|Token)\s+)?[^\s,;&'")\]}]+)""",
    re.VERBOSE | re.IGNORECASE,
)
_FORMS = re.compile(
    r"""\b(?:sk-[\w-]{8,}|hf_[A-Za-z0-9]{8,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}
    |xox[abprs]-[\w-]{8,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{4,})
    |(?<=Bearer\ )[^\s'",]+|(?<=Basic\ )[A-Za-z0-9+/]{8,}=*""",
    re.VERBOSE,
)


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret.

    Example:
        >>> [is_secret(name) for name in ("OPENAI_API_KEY", "hf_token", "eos_token", "max_tokens")]
        [True, True, False, False]
    """
    words = [word.lower() for word in _WORD.findall(name)]
    whole = "".join(words)
    if words[-1:] == ["key"] and not NO_SECRETS & set(words):
        return True
    if any(part in whole for part in PARTS) or WORDS & set(words):
        return True
    return bool(words) and words[-1] == "token" and not VOCABULARY & set(words)


def masked(value: Any, *, name: str = "") -> Any:
    """A setting as JSON holds it, every secret in it replaced; what is no secret stays as it is.

    Args:
        value: of any kind, nested to any depth.
        name: what it is called.

    Example:
        >>> masked({"model": "gpt", "api_key": "sk-1", "header": {"x-team": "blue"}})
        {'model': 'gpt', 'api_key': '***', 'header': '***'}
    """
    if is_secret(name) and not _plain(value):
        return MASK
    if isinstance(value, dict):
        return {key: masked(inner, name=str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    return masked_text(value) if isinstance(value, str) else value


def masked_text(text: str) -> str:
    """A text, such as arguments in one string, an address, or a message that quotes them.

    Example:
        >>> masked_text("model=gpt,api_key=sk-1,base_url=http://ann:pw@host/v1?token=t1")
        'model=gpt,api_key=***,base_url=http://***@host/v1?token=***'
    """
    text = _ADDRESS.sub(MASK, text)
    parts, place = [], 0
    while match := _NAMED.search(text, place):
        if is_secret(match["name"]) and not _plain(match["value"].strip("\"'")):
            quote = match["value"][0] if match["value"][0] in "\"'" else ""
            parts += [text[place : match.start("value")], quote, MASK, quote]
            place = match.end()
        else:
            parts.append(text[place : match.start("value")])
            place = match.start("value")
    return _FORMS.sub(MASK, "".join([*parts, text[place:]]))


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line's arguments: what follows a flag that is named as a secret is one.

    Example:
        >>> masked_arguments(["--api_key", "k1", "--gen_kwargs", "token=t1,top_k=5"])
        ['--api_key', '***', '--gen_kwargs', 'token=***,top_k=5']
    """
    flags = ["", *arguments]
    return [
        MASK if flag.startswith("-") and "=" not in flag and is_secret(flag) else masked_text(given)
        for flag, given in zip(flags, arguments, strict=False)
    ]


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool) or str(value).strip().lower() in PLAIN
