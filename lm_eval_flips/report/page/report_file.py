"""Comparison -> the page on disk, and beside it what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import replacing, write_whole
from lm_eval_flips.report.changed.changed import Found
from lm_eval_flips.report.page.bundles import Bundles, refuse_missing
from lm_eval_flips.report.page.sample_browser import MOST


def write_report(
    comparison: Comparison,
    file: str | Path,
    *,
    sizes: Mapping[str, int] | None = None,
    libraries: Bundles | None = None,
    most: int = MOST,
    overwrite: bool = False,
) -> list[Path]:
    """Write the page, and beside it all changed samples as Parquet if they are too many for it.

    Args:
        comparison: what ``compare`` returned.
        file: the HTML file; the Parquet file has its name with another ending.
        sizes: as for ``page``.
        libraries: as for ``page``.
        most: as for ``page``.
        overwrite: replace files that exist.

    Returns:
        The files written, the page first.

    Raises:
        FlipsError: as ``page``; the extra [report] is not installed; a file exists, or cannot be
            written.

    Example:
        >>> write_report(compare("runs/baseline", "runs/int4"), "report.html")  # doctest: +SKIP
        [PosixPath('report.html')]
    """
    refuse_missing()
    from lm_eval_flips.report.page.page import page

    file = Path(file)
    beside = file.with_suffix(".parquet")
    made = page(comparison, sizes=sizes, libraries=libraries, parquet=beside.name, most=most)
    written = [file, *([beside] if made.beyond else [])]
    for own in written:
        if own.exists() and not overwrite:
            raise FlipsError(f"'{own}' exists; name another file, or replace it with --overwrite")
    # half a surrogate pair, which a log can hold and a file cannot, becomes "?"
    write_whole(file, made.html.encode(errors="replace"))
    if made.beyond:
        with replacing(beside) as new:
            _write_all(comparison, made.beyond, new)
    return written


def _write_all(comparison: Comparison, found: Sequence[Found], file: Path) -> None:
    import pyarrow.parquet

    from lm_eval_flips.report.files.changed_table import SCHEMA, changed_tables

    with pyarrow.parquet.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for table in changed_tables(comparison, found):
            writer.write_table(table)
