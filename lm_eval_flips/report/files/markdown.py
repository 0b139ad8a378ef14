"""Text of other people's models and tasks in Markdown: shown as it is, never taken as markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What GitHub-flavoured Markdown, or the HTML that it lets through, would take as markup.
_MARKUP = re.compile(
    r"[\\`*\[\]<>|~$&#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<![A-Za-z0-9])@"
)


def cell(text: str) -> str:
    r"""Any text as part of a line or of a table's cell.

    Example:
        >>> print(cell("acc_norm of a|b <script>"))
        acc_norm of a\|b \<script\>
    """
    plain = "".join(char if char.isprintable() else " " for char in text)
    return _MARKUP.sub(r"\\\g<0>", plain).strip()


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table of cells that are Markdown already; the first ``left`` columns stand to the left.

    Example:
        >>> print(table(["model", "n"], [["int4", "500"]]), end="")
        | model | n |
        | :--- | ---: |
        | int4 | 500 |
    """
    rule = [":---"] * left + ["---:"] * (len(header) - left)
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *rows))
