"""A table that fits its terminal: columns leave in a stated order, names are cut in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from lm_eval_flips.report.names import shortened

GAP = 2  # cells between columns
NAME = 24  # cells that a name keeps as long as a column can leave
LEAST_NAME = 8
WHOLE = STAYS = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownColumn:
    """A column as text: its label and a cell a row.

    ``leaves`` says when it goes where a table is wider than its terminal, the lowest first, those
    of one number together; STAYS for one that stays. Words that are no ``number`` are cut in the
    middle to ``least`` cells before it does. ``styles`` are the cells' own, none for plain ones.
    """

    label: str
    cells: Sequence[str]
    leaves: int = STAYS
    number: bool = True
    least: int = WHOLE
    styles: Sequence[str] = ()

    @property
    def width(self) -> int:
        """Cells of its widest text."""
        return max(cell_len(text) for text in (self.label, *self.cells))

    @property
    def narrowest(self) -> int:
        """Cells that it cannot do without."""
        return max(cell_len(self.label), min(self.width, self.least))

    def within(self, width: int) -> ShownColumn:
        """The column no wider than this, its words cut in the middle."""
        if self.width <= width:
            return self
        return replace(self, cells=shortened(self.cells, max(width, self.narrowest)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedTable:
    """Rows of text under a first column of names, no line of it wider than the terminal.

    Every number is whole: what has no room leaves with its whole column. A name keeps 24 cells
    until no more columns can leave, then 8; only where that is too much is the table wider.
    Without ``fit`` it has all columns and whole names, however wide.
    """

    label: str
    names: Sequence[str]
    columns: Sequence[ShownColumn]
    styles: Sequence[str | None]
    fit: bool = True

    def fitting(self, width: int) -> tuple[ShownColumn, ...]:
        """The columns that there is room for, in their order."""
        kept = list(self.columns)
        if not self.fit:
            return tuple(kept)
        wanted = min(self._widest_name, NAME)
        for place in sorted({column.leaves for column in kept} - {STAYS}):
            if wanted + _width(kept) <= width:
                break
            kept = [column for column in kept if column.leaves != place]
        return tuple(kept)

    @property
    def _widest_name(self) -> int:
        return max(cell_len(name) for name in (self.label, *self.names))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table with as many columns as its width allows."""
        kept = list(self.fitting(options.max_width))
        room = max(LEAST_NAME, options.max_width - _width(kept)) if self.fit else self._widest_name
        room = max(cell_len(self.label), min(room, self._widest_name))
        spare = options.max_width - room - _width(kept) if self.fit else WHOLE
        for place, column in enumerate(kept):
            kept[place] = column.within(column.narrowest + max(0, spare))
            spare -= kept[place].width - column.narrowest
        # a table has no borders: its cells are as wide as their texts
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
        table.add_column(Text(self.label), no_wrap=True, min_width=room)
        for column in kept:
            table.add_column(
                Text(column.label),
                justify="right" if column.number else "left",
                no_wrap=True,
                min_width=column.width,
            )
        for place, (name, style) in enumerate(
            zip(shortened(self.names, room), self.styles, strict=True)
        ):
            cells = [
                Text(column.cells[place], style=column.styles[place] if column.styles else "")
                for column in kept
            ]
            table.add_row(Text(name), *cells, style=style)
        whole = room + sum(column.width + GAP for column in kept)
        yield from console.render(table, options.update(max_width=max(options.max_width, whole)))


def _width(columns: Sequence[ShownColumn]) -> int:
    return sum(column.narrowest + GAP for column in columns)
