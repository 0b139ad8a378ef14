"""What is put into a page so that it can do no harm: JSON, scripts, and the page's own rules."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from math import isinf, isnan
from typing import Any

from markupsafe import Markup

# What would end a script element, or the text that an old browser takes for one.
UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"} | {
    code: f"\\u{code:04x}" for code in (0x2028, 0x2029)
}


def json_text(value: Any) -> Markup:
    r"""JSON that can stand in a script element, whatever texts it holds.

    Raises:
        ValueError: a number is nan or infinite; see ``plain_number``.

    Example:
        >>> print(json_text({"said": "</script>"}))
        {"said":"\u003c/script\u003e"}
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(UNSAFE))  # noqa: S704  (nothing left in it ends the element)


def plain_number(value: float, *, digits: int = 6) -> float | str | None:
    """A number as JSON holds it: so many digits, None for nan, "inf" and "-inf" in words.

    Example:
        >>> plain_number(0.123456789), plain_number(float("nan")), plain_number(float("inf"))
        (0.123457, None, 'inf')
    """
    if isnan(value):
        return None
    if isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(f"{value:.{digits}g}")


def script_text(script: str) -> Markup:
    r"""JavaScript that can stand in a script element.

    Raises:
        ValueError: it holds the end of one, which none of the libraries does.

    Example:
        >>> print(script_text('x = "<!--"'))
        x = "<\!--"
    """
    if "</script" in script.lower():
        raise ValueError("the script holds the end of a script element")
    # a browser reads every end of a line as one character
    lines = script.replace("\r\n", "\n").replace("\r", "\n")
    # else "<!--" and "<script" later in the text would swallow the element's end
    return Markup(lines.replace("<!--", "<\\!--"))  # noqa: S704


def security_policy(scripts: Sequence[str]) -> str:
    """The page's Content-Security-Policy: these scripts, nothing from anywhere else.

    Vega compiles its expressions, which is what 'unsafe-eval' is for.
    """
    hashes = [hashlib.sha256(script.encode("utf-8", "replace")).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(found).decode()}'" for found in hashes)
    return (
        f"default-src 'none'; script-src 'unsafe-eval' {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
