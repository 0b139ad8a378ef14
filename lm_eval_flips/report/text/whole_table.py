"""A table for the terminal whose numbers are whole at any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

NARROWEST = 5  # cells of a name in a narrow terminal
WIDEST = 10_000
# Where the cells of a narrow table may be broken, the first of these that makes it fit.
BREAKS: tuple[Mapping[str, str], ...] = (
    {},
    {" [": "\n["},
    {" [": "\n[", "→ ": "→\n"},
    {" [": "\n[", "→ ": "→\n", ", ": ",\n"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeTable:
    """Rows of text; the columns from ``numbers`` on hold numbers.

    In a terminal that is narrower than the table, intervals and scores are broken over lines, then
    names; where that is not enough, the table is wider than the terminal.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    styles: Sequence[str | None]
    numbers: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table with as few broken lines as its width allows."""
        unbounded = options.update(max_width=WIDEST)
        for breaks in BREAKS:
            table = self._broken(breaks)
            if Measurement.get(console, unbounded, table).maximum <= options.max_width:
                break
        least = sum((column.min_width or 0) + _gap(breaks) for column in table.columns)
        yield from console.render(table, options.update(max_width=max(options.max_width, least)))

    def _broken(self, breaks: Mapping[str, str]) -> Table:
        padding = (0, _gap(breaks), 0, 0)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=padding)
        rows = [list(cells) for cells in self.rows]
        for old, new in breaks.items():
            rows = [[cell.replace(old, new) for cell in cells] for cells in rows]
        for place, name in enumerate(self.columns):
            number = place >= self.numbers
            lines = [line for cells in rows for line in cells[place].split("\n")]
            whole = max(cell_len(text) for text in (*name.split(), *lines))
            table.add_column(
                name,
                justify="right" if number else "left",
                overflow="fold",
                min_width=whole if number else min(whole, NARROWEST),
            )
        for cells, style in zip(rows, self.styles, strict=True):
            table.add_row(*map(escape, cells), style=style)
        return table


def _gap(breaks: Mapping[str, str]) -> int:
    return 1 if breaks else 2
