"""Texts of other people's models, tasks and filters, made printable: one function a medium.

A name may hold escape sequences that steer a terminal, line breaks that forge a line, characters
that no XML may hold, or a formula that a spreadsheet runs. Markdown has a file of its own, and HTML
is escaped where it is made.
"""

from __future__ import annotations

import unicodedata

# Zero-width (non-)joiners, without which Persian, Hindi and many an emoji are not what they are.
JOINERS = "\u200c\u200d"
# What a spreadsheet takes for the beginning of a formula; the last four are full-width.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def visible(text: str) -> str:
    r"""A text as one line of printable characters; every other is shown as Python writes it.

    Spaces of all kinds become plain ones. For the terminal, and for XML.

    Example:
        >>> print(visible("int4\x1b]0;owned\x07\nPASS"))
        int4\x1b]0;owned\x07\nPASS
    """
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def visible_lines(text: str) -> list[str]:
    r"""A text of several lines, as ``visible`` makes it; further ones stand in, to forge none.

    Example:
        >>> visible_lines("Who?\n\x1b[2JAnn")
        ['Who?', '  \\x1b[2JAnn']
    """
    first, *rest = text.splitlines() or [""]
    return [visible(first), *(f"  {visible(line)}" for line in rest)]


def csv_cell(text: str) -> str:
    """A cell that no spreadsheet runs.

    Example:
        >>> csv_cell("=HYPERLINK(A1)")
        "'=HYPERLINK(A1)"
    """
    begins = text.lstrip().startswith(FORMULA) or text[:1] in ("\t", "\r")
    return f"'{visible(text)}" if begins else visible(text)


def _visible(char: str) -> str:
    if char.isprintable() or char in JOINERS:
        return char
    if unicodedata.category(char) == "Zs":
        return " "
    return char.encode("unicode_escape").decode()
