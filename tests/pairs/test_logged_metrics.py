"""Tasks that log pairs alone have answers too: their choices and their target tell them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score

from lm_eval_flips import compare
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.pairs.indicators import indicators
from lm_eval_flips.pairs.logged_metrics import paired_metrics
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import pair
from tests.generators import logs

QUESTIONS = 30
GOLD = [i % 3 for i in range(QUESTIONS)]
SCORES = {
    name: np.random.default_rng(seed).normal(-3, 1, (QUESTIONS, 3))
    for seed, name in enumerate(("before", "after"))
}


def logged(metric: str, scores: Any, gold: int) -> Any:
    """What the harness logs of a sample: the target with the answer, or with the probabilities."""
    if metric == "brier_score":
        return [gold, softmax(scores).tolist()]
    return [gold, int(np.argmax(scores))]


def write(folder: Path, *metrics: str) -> list[Path]:
    """Two runs of one task with these metrics."""
    files = []
    for name, table in SCORES.items():
        records = [
            logs.choice(
                i,
                own.tolist(),
                gold=gold,
                metrics=metrics,
                **{m: logged(m, own, gold) for m in metrics if not m.startswith("acc")},
            )
            for i, (own, gold) in enumerate(zip(table, GOLD, strict=True))
        ]
        files.append(logs.write_run(folder / name, {"task": records}))
    return files


def metrics_of(files: list[Path]) -> list[PairedMetric]:
    """The metrics of two runs of one task."""
    before, after = (read_samples(load_run(file).tasks["task"])["none"] for file in files)
    return paired_metrics(pair(before, after))


@pytest.mark.parametrize("metric", ["mcc", "f1", "brier_score"])
def test_what_was_answered_is_known_where_pairs_alone_are_logged(
    tmp_path: Path, metric: str
) -> None:
    """Flips, all_flips and KL of a task that logs acc are those of one that logs pairs."""
    (found,) = metrics_of(write(tmp_path / metric, metric))
    (plain,) = metrics_of(write(tmp_path / "acc", "acc"))
    assert found.metric == "acc"
    marks = {name: own.tolist() for name, own in indicators(found).items()}
    assert marks == {name: own.tolist() for name, own in indicators(plain).items()}
    assert found.divergence is not None
    assert plain.divergence is not None
    assert found.divergence.kl.tolist() == plain.divergence.kl.tolist()
    answers = {name: own.argmax(1) for name, own in SCORES.items()}
    right = {name: own == np.array(GOLD) for name, own in answers.items()}
    assert marks["flips"] == (right["before"] != right["after"]).tolist()
    assert marks["answers_changed"] == (answers["before"] != answers["after"]).tolist()
    assert any(marks["flips"])


@pytest.mark.parametrize("metric", ["mcc", "brier_score"])
def test_compare_counts_them(tmp_path: Path, metric: str) -> None:
    """The row is of acc, its scores are scikit-learn's."""
    comparison = compare(*write(tmp_path, metric))
    (row,) = comparison.compressed[0].tasks
    assert row.metric == "acc"
    scores = [accuracy_score(GOLD, own.argmax(1)) for own in SCORES.values()]
    assert (row.baseline_score, row.compressed_score) == pytest.approx(scores)
    assert row.flips is not None
    assert row.flips.flips > 0


def test_a_metric_that_says_what_is_right_needs_no_other(tmp_path: Path) -> None:
    """Control: nothing is added beside acc_norm, which has answers of its own."""
    assert [m.metric for m in metrics_of(write(tmp_path, "mcc", "acc_norm"))] == ["acc_norm"]
