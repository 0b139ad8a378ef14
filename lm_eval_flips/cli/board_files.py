"""The files of a board: an earlier one is replaced, any other file is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_flips.cli.output import write, writing
from lm_eval_flips.errors import FlipsError

if TYPE_CHECKING:
    from lm_eval_flips.leaderboard.board import Board

HEAD, FOOT = 4096, 65536  # bytes in which a file says that it is a board of ours


class Files(NamedTuple):
    """What to write."""

    output: Path | None
    csv: Path | None
    parquet: Path | None
    markdown: Path | None

    @property
    def given(self) -> list[Path]:
        """The files asked for."""
        return [file for file in self if file is not None]


def refuse(files: Files, *, overwrite: bool) -> None:
    """Refuse what could not be written in the end, and files that are no earlier board."""
    if not files.given:
        raise FlipsError("nothing to write; give --output, --csv, --parquet or --markdown")
    if files.output is not None:
        from lm_eval_flips.report.page.bundles import refuse_missing

        refuse_missing(("itables", "jinja2"))
    for file in files.given:
        if file.exists() and not overwrite and not _own(file):
            raise FlipsError(
                f"'{file}' exists and is no board of this command; name another file, or replace "
                "it with --overwrite"
            )


def write_board(board: Board, files: Files) -> None:
    """Write what was asked for."""
    from lm_eval_flips.report.files.leaderboard_table import to_csv, to_parquet_table

    if files.csv is not None:
        write(files.csv, to_csv(board))
    if files.parquet is not None:
        import pyarrow.parquet

        with writing(files.parquet):
            pyarrow.parquet.write_table(to_parquet_table(board), files.parquet)
    if files.markdown is not None:
        from lm_eval_flips.report.files.leaderboard_markdown import to_markdown

        write(files.markdown, to_markdown(board).encode())
    if files.output is not None:
        from lm_eval_flips.report.board.page import to_html

        write(files.output, to_html(board).encode())


def _own(file: Path) -> bool:
    """Whether a file is a board that this command wrote: each kind says so in its own way."""
    from lm_eval_flips.leaderboard import CSV_BEGINS, MADE_BY, MARKDOWN_BEGINS

    content = file.read_bytes() if file.is_file() else b""
    if content.startswith(b"PAR1"):
        return MADE_BY in content[-FOOT:]
    page = b'content="' + MADE_BY + b'"' in content[:HEAD] and content.startswith(
        b"<!doctype html>"
    )
    return page or content.startswith((CSV_BEGINS, MARKDOWN_BEGINS))
