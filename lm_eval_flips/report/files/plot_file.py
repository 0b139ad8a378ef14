"""One chart as a file, SVG or PNG on white."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.output_files import write_whole

if TYPE_CHECKING:
    from lm_eval_flips.report.charts.named_chart import NamedChart

NEEDED = "charts need altair and vl-convert: pip install 'lm-eval-flips[report]'"
PNG_SCALE = 2.0  # pixels a point, sharp enough for print
KINDS = (".svg", ".png")


def refuse_plot(file: Path) -> None:
    """Refuse at once what ``write_plot`` would refuse after the work.

    Raises:
        FlipsError: a package is missing, or the file is of another kind.
    """
    refuse_no_charts()
    if file.suffix not in KINDS:
        raise FlipsError(f"'{file}' is no {' or '.join(KINDS)} file")


def refuse_no_charts() -> None:
    """Refuse where nothing can be drawn.

    Raises:
        FlipsError: a package is missing.
    """
    if find_spec("altair") is None or find_spec("vl_convert") is None:
        raise FlipsError(NEEDED)


def write_plot(chart: NamedChart, file: Path) -> None:
    """Write a chart, by the file's ending.

    Raises:
        FlipsError: it cannot be written.
    """
    import vl_convert

    if file.suffix == ".svg":
        write_whole(file, vl_convert.vegalite_to_svg(chart.file_spec()).encode())
    else:
        write_whole(file, vl_convert.vegalite_to_png(chart.file_spec(), scale=PNG_SCALE))
