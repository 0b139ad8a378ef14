"""A comparison's charts as files, for papers and READMEs: SVG and PNG, on white."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.report.files.plot_file import KINDS, refuse_no_charts, write_plot


def refuse_plots(folder: Path, *, overwrite: bool) -> None:
    """Refuse at once what ``write_plots`` would refuse after the comparison.

    Raises:
        FlipsError: a package is missing, the folder is a file, or it holds pictures already.
    """
    refuse_no_charts()
    if folder.exists() and not folder.is_dir():
        raise FlipsError(f"'{folder}' is a file; name a folder for the plots")
    pictures = sorted(file.name for kind in ("svg", "png") for file in folder.glob(f"*.{kind}"))
    if pictures and not overwrite:
        raise FlipsError(
            f"'{folder}' holds pictures ({named(pictures, shown=3)}); name another folder, or "
            "replace those of the same name with --overwrite"
        )


def write_plots(
    comparison: Comparison,
    folder: str | Path,
    *,
    overwrite: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> list[Path]:
    """Write each chart that the comparison has data for as SLUG.svg and SLUG.png.

    Args:
        comparison: what ``compare`` returned.
        folder: where the files go; made if it is not there.
        overwrite: replace pictures of the same name.
        sizes: bytes of models that are not found on this machine, by name.

    Returns:
        The files, in the order of the charts.

    Raises:
        FlipsError: altair or vl-convert is missing, the folder holds pictures already, or a file
            cannot be written.

    Example:
        >>> write_plots(comparison, "plots")  # doctest: +SKIP
        [PosixPath('plots/flips-score-change.svg'), PosixPath('plots/flips-score-change.png'), ...]
    """
    folder = Path(folder)
    refuse_plots(folder, overwrite=overwrite)
    from lm_eval_flips.report.charts import charts_of

    files = []
    for slug, chart in charts_of(comparison, sizes=sizes).items():
        both = [folder / f"{slug}{kind}" for kind in KINDS]
        for file in both:
            write_plot(chart, file)
        files += both
    return files
