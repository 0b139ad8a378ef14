"""What goes with the losses of written text over runs: scipy on numbers counted from the records."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, rel_entr, softmax

from lm_eval_flips import Comparison, compare
from lm_eval_flips.report.charts.text_losses import correlation_points, text_losses_chart
from lm_eval_flips.report.text.across import across_lines
from lm_eval_flips.report.text.numbers import number
from tests.generators import logs

NOISE = (0.1, 0.2, 0.35, 0.5, 0.8, 1.3)  # of the choices' scores, a model each
LOST = (0, 2, 1, 4, 6, 9)  # of 12 written answers
SAME = (11, 9, 8, 6, 3, 1)  # to the last character
N, QUESTIONS = 12, 60


def answers(lost: int, same: int) -> list[logs.Record]:
    """Written answers, all right by the baseline: the last ones lost, the first ones the same."""
    texts = ["4" if i < N - lost else "5" for i in range(N)]
    said = ["it is 4" if i < same else f"I say {texts[i]}" for i in range(N)]
    return [logs.text(i, texts[i], said=[said[i]]) for i in range(N)]


def scores() -> list[np.ndarray]:
    """Log-likelihoods of three choices: the baseline's, then each model's."""
    draw = np.random.default_rng(7)
    first = log_softmax(draw.normal(size=(QUESTIONS, 3)), axis=1) - 5
    return [first, *(first + noise * draw.normal(size=first.shape) for noise in NOISE)]


def runs(
    folder: Path,
    *,
    written: bool = True,
    count: int = len(NOISE),
    lost: Sequence[int] = LOST,
    same: Sequence[int] = SAME,
) -> list[Path]:
    """A baseline and its models on choices and, if asked, written answers."""
    gold = np.random.default_rng(8).integers(0, 3, QUESTIONS)
    found = []
    for place, rows in enumerate(scores()[: count + 1]):
        tasks = {
            "choices": [
                logs.choice(i, row.tolist(), gold=int(gold[i]), metrics=["acc"])
                for i, row in enumerate(rows)
            ]
        }
        if written:
            tasks["sums"] = answers((0, *lost)[place], (N, *same)[place])
        found.append(logs.write_run(folder / f"m{place}", tasks, model=f"org/m{place}"))
    return found


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Six models."""
    return compare(*runs(tmp_path_factory.mktemp("text")))


def test_each_loss_is_held_against_each_distance_of_the_choices(comparison: Comparison) -> None:
    """Flips and KL of the choices alone, not of a pool with the written answers' flips in it."""
    base, *others = scores()
    gold = np.random.default_rng(8).integers(0, 3, QUESTIONS)
    right = base.argmax(1) == gold
    distances = {
        "choice_flips": [float((right ^ (own.argmax(1) == gold)).mean()) for own in others],
        "choice_net_loss": [float(right.mean() - (own.argmax(1) == gold).mean()) for own in others],
        "choice_kl": [
            float(rel_entr(softmax(base, 1), softmax(own, 1)).sum(1).mean()) for own in others
        ],
    }
    losses = {
        "text_flips": [lost / N for lost in LOST],
        "text_net_loss": [lost / N for lost in LOST],
        "different_text": [1 - same / N for same in SAME],
    }
    assert [own.loss for own in comparison.text_losses] == list(losses)
    for own in comparison.text_losses:
        assert list(own.told_by) == list(distances)
        for key, found in own.told_by.items():
            truth = stats.spearmanr(distances[key], losses[own.loss]).statistic
            assert found.n == 6
            assert found.statistic == pytest.approx(truth)


def test_a_distance_that_orders_the_models_otherwise_is_told_apart(
    tmp_path: Path, comparison: Comparison
) -> None:
    """Control: with the models' written answers turned round, KL goes against the losses."""
    turned = compare(*runs(tmp_path, lost=LOST[::-1], same=SAME[::-1]))
    for own, other in zip(comparison.text_losses, turned.text_losses, strict=True):
        assert own.told_by["choice_kl"].statistic > 0.8
        assert other.told_by["choice_kl"].statistic < -0.8


def test_the_pool_of_all_tasks_is_not_what_tells(comparison: Comparison) -> None:
    """The pool holds the written answers' own flips; its correlation with them is another."""
    pooled = [run.pooled.numbers["flips"].value for run in comparison.compressed]
    losses = [lost / N for lost in LOST]
    (own,) = [own for own in comparison.text_losses if own.loss == "text_flips"]
    truth = stats.spearmanr(pooled, losses).statistic
    assert own.told_by["choice_flips"].statistic != pytest.approx(truth)


def test_nothing_is_said_without_text_or_of_few_runs(tmp_path: Path) -> None:
    """No written answers, or two runs: no losses; three or four: too few for a correlation."""
    assert compare(*runs(tmp_path / "a", written=False)).text_losses == ()
    assert compare(*runs(tmp_path / "b", count=2)).text_losses == ()
    few = compare(*runs(tmp_path / "c", count=4))
    assert few.text_losses
    assert all(isnan(f.statistic) for own in few.text_losses for f in own.told_by.values())
    assert text_losses_chart(few) is None
    lines = [line for line in across_lines(few) if " of written answers " in line]
    assert lines == [
        "losses of written answers over all runs (n = 4): too few runs for a rank correlation, "
        "which takes 5"
    ]


def test_sentence_and_picture_show_the_same(comparison: Comparison) -> None:
    """Each correlation stands in a sentence and is a point; the caption names the closest."""
    points = correlation_points(comparison)
    lines = [line for line in across_lines(comparison) if "written answers" in line]
    assert len(lines) == 3
    assert len(points) == 9
    for line in lines:
        for point in points:
            if line.startswith(point["loss"]):
                assert f"{point['by']} {number(point['rho'])}" in line
    named = text_losses_chart(comparison)
    assert named is not None
    best = max(points[:3], key=lambda point: point["rho"])
    assert f"flips of written answers most with {best['by']} ({best['rho']:.2f})" in named.caption
