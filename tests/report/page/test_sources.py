"""What was compared is told from the runs' logs."""

from __future__ import annotations

from pathlib import Path

from lm_eval_flips import compare
from lm_eval_flips.report.page.sources import sources
from tests.generators import reports


def test_the_sources_name_models_versions_and_dates(tmp_path: Path) -> None:
    """As the runs' logs have them; the folder of a run tells runs of one model apart."""
    comparison = compare(*reports.ordinary(tmp_path, {"int4": 1.5}))
    base, int4 = sources(comparison)
    assert (base.role, base.model, base.run) == ("baseline", "base", "base")
    assert (int4.role, int4.evaluated, int4.samples) == ("compressed", "2026-01-02", "130")
    assert dict(int4.settings) == {
        "lm_eval": "0.4.13",
        "transformers": "5.23.0",
        "dtype": "float32",
        "batch": "8",
    }


def test_nothing_is_read_a_second_time(tmp_path: Path) -> None:
    """The comparison carries its runs: where their files are gone since, they are still told."""
    comparison = compare(*reports.ordinary(tmp_path, {"int4": 1.5}))
    before = sources(comparison)
    paths = [comparison.baseline.path, *(run.path for run in comparison.compressed)]
    for path in paths:
        Path(path).unlink()
    assert sources(comparison) == before
