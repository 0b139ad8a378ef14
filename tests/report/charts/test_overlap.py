"""The overlap matrix: samples changed by two runs, counted as sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_overlap
from lm_eval_flips.report.charts.overlap import overlap_chart
from tests.report.charts.raw import answers, closest, pooled, rows_with


def test_cells_are_counted_as_sets(several: Comparison, several_runs: list[Path]) -> None:
    """Common samples, the coefficient, Jaccard's and what chance would give, of each two runs."""
    changed = [
        set(pooled(answers(several_runs[0], run)).changed.nonzero()[0])
        for run in closest(several_runs)
    ]
    cells = rows_with(plot_overlap(several), "first", "second")
    assert len(cells) == 16
    for place, cell in enumerate(cells):
        a, b = changed[place // 4], changed[place % 4]
        assert cell["common"] == len(a & b)
        assert cell["coefficient"] == pytest.approx(len(a & b) / min(len(a), len(b)), rel=1e-4)
        assert cell["jaccard"] == pytest.approx(len(a & b) / len(a | b), rel=1e-4)
        if place // 4 == place % 4:
            assert (cell["text"], cell["shade"]) == (str(len(a)), None)
        else:
            assert cell["chance"] == pytest.approx(len(a) * len(b) / 720, rel=1e-4)


def test_the_caption_names_the_two_that_overlap_most(several: Comparison) -> None:
    """The largest coefficient off the diagonal."""
    named = overlap_chart(several)
    assert named is not None
    cells = rows_with(named.chart, "first", "second")
    most = max((cell for cell in cells if cell["shade"]), key=lambda cell: cell["shade"])
    assert f"{most['common']:,} samples changed by both" in named.caption
    assert most["first"] in named.caption
    assert most["second"] in named.caption


def test_a_single_run_overlaps_with_none(single: Comparison) -> None:
    """The error says what is needed."""
    with pytest.raises(FlipsError, match="needs two compressed runs"):
        plot_overlap(single)
