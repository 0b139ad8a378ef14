"""How a notebook shows a comparison: whoever can show one says so here; nothing heavy is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Formatter = Callable[[Any], dict[str, str]]

_formatters: list[Formatter] = []


def show_with(formatter: Formatter) -> None:
    """Show comparisons with this: a text for each media type."""
    _formatters[:] = [formatter]


def mimebundle(comparison: object) -> dict[str, str]:
    """What a notebook shows of a comparison: its repr where nothing else was registered."""
    return _formatters[0](comparison) if _formatters else {"text/plain": repr(comparison)}
