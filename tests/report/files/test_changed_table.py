"""The Parquet file beside a page: all changed samples with their whole texts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lm_eval_flips import compare
from lm_eval_flips.report.changed.changed import find_changed, read_changed
from lm_eval_flips.report.files.changed_table import SCHEMA, changed_tables
from tests.generators import reports


def test_it_holds_every_changed_sample_with_its_numbers(tmp_path: Path) -> None:
    """A row for each; probabilities, KL and margin as in the page."""
    comparison = compare(*reports.ordinary(tmp_path, {"q4": 1.5, "q3": 3.0}))
    found = find_changed(comparison)
    table = pa.concat_tables(changed_tables(comparison, found))
    assert table.schema == SCHEMA
    rows = {
        (row["compressed"], row["task"], row["filter"], row["doc_id"]): row
        for row in table.to_pylist()
    }
    assert len(rows) == len(found)
    for sample in read_changed(found):
        run, pairs = comparison.compressed[sample.found.run], sample.found.metric.pairs
        row = rows[run.path, pairs.task, pairs.filter, sample.found.doc_id]
        assert row["direction"] == sample.found.direction
        assert row["question"] == sample.text.question
        assert row["compressed_probabilities"] == [c.compressed for c in sample.choices]
        if sample.choices:
            assert row["choice_kl"] == sample.choice_kl
            assert row["top_margin"] == pytest.approx(sample.found.margin)
            assert row["baseline_answer"] == next(
                c.text for c in sample.choices if c.baseline_answer
            )
        else:
            assert row["choice_kl"] is None
            assert [row["baseline_answer"], row["compressed_answer"]] == list(sample.answers or ())


def test_texts_are_not_cut(tmp_path: Path) -> None:
    """A prompt of 100 kB is there from its first to its last character."""
    comparison = compare(*reports.hostile(tmp_path))
    table = pa.concat_tables(changed_tables(comparison, find_changed(comparison)))
    assert max(map(len, table["question"].to_pylist())) == reports.LONG + 20
