"""A console that shows what other people's texts hold, and is never steered by it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from lm_eval_flips.report.printable import visible


class PlainConsole(Console):
    """Shows every control character as an escape.

    A ``Text`` is one line, as all text of ours is; a cell of a table, a ``str``, may have several.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render, after what is no printable character was made visible."""
        if isinstance(renderable, Text):
            shown = visible(renderable.plain)
            if shown != renderable.plain:
                renderable = Text(shown, style=renderable.style, overflow=renderable.overflow)
        elif isinstance(renderable, str):
            renderable = "\n".join(map(visible, renderable.split("\n")))
        return super().render(renderable, options)
