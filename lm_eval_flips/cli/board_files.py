"""The files of a board: an earlier one is replaced, any other file is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_flips.cli.output import Outputs
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import replacing, write_whole

if TYPE_CHECKING:
    from lm_eval_flips.leaderboard.board import Board

HEAD, FOOT = 4096, 65536  # bytes in which a file says that it is a board of ours


class Files(NamedTuple):
    """What to write."""

    output: Path | None
    csv: Path | None
    parquet: Path | None
    json: Path | None
    markdown: Path | None

    @property
    def given(self) -> list[Path]:
        """The files asked for."""
        return [file for file in self if file is not None]


def board_outputs(files: Files, *, overwrite: bool) -> Outputs:
    """The outputs; refuses what could not be written in the end, and what is no earlier board."""
    if not files.given:
        raise FlipsError("nothing to write; give --output, --csv, --parquet, --json or --markdown")
    if files.output is not None:
        from lm_eval_flips.report.page.bundles import refuse_missing

        refuse_missing(("itables", "jinja2"))
    named = {f"--{name}": file for name, file in files._asdict().items()}
    outputs = Outputs(named, overwrite=True)
    for file in files.given:
        if file.is_file() and not overwrite and not _own(file):
            raise FlipsError(
                f"'{file}' exists and is no board of this command; name another file, or replace "
                "it with --overwrite"
            )
    return outputs


def write_board(board: Board, files: Files) -> None:
    """Write what was asked for."""
    from lm_eval_flips.report.files.leaderboard_table import to_csv, to_parquet_table

    if files.csv is not None:
        write_whole(files.csv, to_csv(board))
    if files.parquet is not None:
        import pyarrow.parquet

        with replacing(files.parquet) as beside:
            pyarrow.parquet.write_table(to_parquet_table(board), beside)
    if files.json is not None:
        from lm_eval_flips.report.files.leaderboard_json import to_json

        write_whole(files.json, to_json(board))
    if files.markdown is not None:
        from lm_eval_flips.report.files.leaderboard_markdown import to_markdown

        write_whole(files.markdown, to_markdown(board).encode())
    if files.output is not None:
        from lm_eval_flips.report.board.page import to_html

        write_whole(files.output, to_html(board).encode())


def _own(file: Path) -> bool:
    """Whether a file is a board that this command wrote: each kind says so in its own way."""
    from lm_eval_flips.leaderboard import CSV_BEGINS, JSON_BEGINS, MADE_BY, MARKDOWN_BEGINS

    try:
        content = file.read_bytes()
    except OSError as error:
        raise FlipsError(f"'{file}' cannot be read: {error.strerror}") from None
    if content.startswith(b"PAR1"):
        return MADE_BY in content[-FOOT:]
    page = b'content="' + MADE_BY + b'"' in content[:HEAD] and content.startswith(
        b"<!doctype html>"
    )
    return page or content.startswith((CSV_BEGINS, JSON_BEGINS, MARKDOWN_BEGINS))
