"""One row a task, under a short name."""

from __future__ import annotations

from pathlib import Path

from lm_eval_flips.report.charts.task_rows import short_names, task_names, task_rows
from tests.generators import logs
from tests.report.charts.conftest import written


def test_a_task_has_one_row_that_is_pooled(tmp_path: Path) -> None:
    """Acc and acc_norm of one task, a task of text, and one of perplexity that is not pooled."""
    sides = [-1.0, -2.0], [-2.0, -1.0]
    choices = [[logs.choice(i, row) for i in range(3)] for row in sides]
    texts = [[logs.text(i, said) for i in range(2)] for said in ("4", "5")]
    pages = [[logs.rolling(0, value, "a page")] for value in (-9.0, -9.5)]
    comparison = written(
        tmp_path,
        {
            "my_choice": (choices[0], choices[1]),
            "my_page": (pages[0], pages[1]),
            "my_text": (texts[0], texts[1]),
        },
    )
    run = comparison.compressed[0]
    rows = task_rows(run)
    assert [(task.row.name, task.row.metric) for task in rows] == [
        ("my_choice", "acc"),
        ("my_text", "exact_match"),
    ]
    assert len(run.tasks) > len(rows)
    assert sum(task.row.n for task in rows) == run.pooled.n == 5
    assert all(task.metric.metric == task.row.metric for task in rows)
    assert task_names(comparison)["my_choice"] == "choice"


def test_names_are_cut_between_words_only() -> None:
    """What all begin with goes, up to an underscore; a single name stays."""
    assert short_names(["mmlu_virology", "mmlu_world_religions"]) == ["virology", "world religions"]
    assert short_names(["arc_easy", "arc_challenge"]) == ["easy", "challenge"]
    assert short_names(["hellaswag", "hellaswig"]) == ["hellaswag", "hellaswig"]
    assert short_names(["a_b"]) == ["a_b"]
    assert short_names([]) == []
