"""Groups, the pool, Holm over tasks and decisions: scipy and statsmodels on counts made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import isnan, sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lm_eval_flips import Comparison, compare
from lm_eval_flips.comparison.pooling import (
    Rows,
    adjusted,
    decisions,
    metric_key,
    pooled_row,
    primaries,
)
from lm_eval_flips.comparison.result import Row, RunComparison
from lm_eval_flips.comparison.row import measure
from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.report.files.document import to_json
from tests.generators import logs, paired
from tests.generators.paired import Questions
from tests.pairs.test_clusters import tasks_of, written
from tests.uncertainty.test_change_test import scored, scores

RIGHT, WRONG = [-1.0, -2.0], [-2.0, -1.0]
COUNTS = {"arc": (14, 3), "boolq": (6, 5), "piqa": (4, 9), "same": (0, 0)}
SIZE = 40


def compared(
    folder: Path, counts: Mapping[str, tuple[int, int]], *, copies: int = 1, **options: object
) -> RunComparison:
    """Tasks of 40 questions, of which so many are lost and won; each logged under one document."""
    paths = []
    for side in (0, 1):
        tasks = {}
        for name, (lost, won) in counts.items():
            right = [not (lost <= i < lost + won) if side == 0 else i >= lost for i in range(SIZE)]
            tasks[name] = [
                logs.choice(
                    copies * i + copy,
                    [x - 0.01 * side - 7 * i % SIZE / 8 for x in (RIGHT if right[i] else WRONG)],
                    question=f"{name} {i}",
                )
                for i in range(SIZE)
                for copy in range(copies)
            ]
        paths.append(logs.write_run(folder / str(side), tasks, model=f"org/{side}"))
    return compare(*paths, metric="acc", **options).compressed[0]  # type: ignore[arg-type]


def one_sided(lost: int, won: int) -> float:
    """Scipy's p of no loss."""
    return float(stats.binomtest(lost, lost + won, alternative="greater").pvalue)


# Which metric stands for a task


def test_order_of_unlike_perplexities_does_not_matter() -> None:
    """Words and bytes do not add up: in either order the pool holds those of one metric alone."""
    words = [paired.texts(70 + i).paired(f"words{i}") for i in range(2)]
    bytes_ = [paired.texts(80 + i).paired(f"bytes{i}", "bits_per_byte") for i in range(2)]
    for first, other in ((words, bytes_), (bytes_, words)):
        assert primaries([*first, *other]) == first
        assert primaries([first[0], *other, first[1]]) == first
        row = measure(primaries([*first, *other]), name="pooled")
        assert row.metric == first[0].metric
        assert row.perplexity == measure(first, name="alone").perplexity
    answers = paired.questions(72, 20).paired("arc")
    assert primaries([*words, answers, *bytes_]) == [answers]


def test_the_first_binary_metric_stands_for_its_task() -> None:
    """Before any that is not, wherever it is logged; the first of two binary ones."""
    asked = paired.questions(1, 20)
    acc, norm = asked.paired("arc"), asked.paired("arc", "acc_norm")
    f1 = paired.generated("arc", [("x", 0.5)], [("y", 0.25)], metric="f1")
    other = paired.questions(2, 20).paired("piqa", "acc_norm")
    assert primaries([f1, acc, norm, other]) == [acc, other]
    assert primaries([norm, acc]) == [norm]
    assert primaries([f1]) == [f1]


# Rows


def test_the_pool_of_a_single_task_is_its_own_row(tmp_path: Path) -> None:
    """Under the name pooled: no strata of one."""
    run = compared(tmp_path, {"arc": (5, 2)})
    (row,) = run.tasks
    assert run.pooled.name == "pooled"
    assert run.pooled.error_method == "independent samples"
    assert run.pooled.intervals == row.intervals
    assert run.pooled.p_value == row.p_value


def groups_of(folder: Path) -> Comparison:
    """Two choice tasks and a written one, in groups that hold two or all of them."""
    paths = []
    for side in (0, 1):
        tasks = {
            "left": [logs.choice(i, RIGHT if i >= 3 * side else WRONG) for i in range(10)],
            "right": [
                logs.choice(i, RIGHT if i >= 2 * side else WRONG, question=f"r{i}")
                for i in range(15)
            ],
            "said": [logs.text(i, "4" if i >= side else "5") for i in range(6)],
            "alone": [logs.choice(i, [-1.0 - side, -3.0], question=f"a{i}") for i in range(5)],
        }
        groups = {
            "choices": ["left", "right"],
            "mixed": ["right", "said"],
            "nested": ["choices", "said"],
        }
        paths.append(logs.write_run(folder / str(side), tasks, groups=groups))
    return compare(*paths)


def test_groups_pool_every_metric_that_their_tasks_share(tmp_path: Path) -> None:
    """Counts are the sums; where no metric is shared, each task's own is pooled as mixed."""
    (run,) = groups_of(tmp_path).compressed
    found = {(row.name, row.metric): row for row in run.groups}
    assert set(found) == {
        ("choices", "acc"),
        ("choices", "acc_norm"),
        ("mixed", "mixed"),
        ("nested", "mixed"),
    }
    for key, (lost, n) in {
        ("choices", "acc"): (5, 25),
        ("choices", "acc_norm"): (5, 25),
        ("mixed", "mixed"): (3, 21),
        ("nested", "mixed"): (6, 31),
    }.items():
        row = found[key]
        assert row.flips is not None
        assert (row.flips.correct_to_incorrect, row.n) == (lost, n)
        assert row.score_change == pytest.approx(-lost / n, rel=1e-12)
    assert run.pooled.n == 36


def test_a_group_of_which_a_task_is_left_out_has_no_row(tmp_path: Path) -> None:
    """Half of a group is another thing than the group."""
    groups_of(tmp_path)
    paths = [tmp_path / "0", tmp_path / "1"]
    names = [row.name for row in compare(*paths, tasks="*t").compressed[0].groups]
    assert names == ["choices", "choices"]  # left and right, without said
    assert not compare(*paths, tasks="said").compressed[0].groups


def test_rows_are_measured_as_asked() -> None:
    """A margin gives an equivalence, a bootstrap its intervals, floors for all an excess."""
    asked = [paired.questions(3 + i, 60) for i in range(2)]
    metrics = [own.paired(f"task{i}") for i, own in enumerate(asked)]
    plain = Rows(margin=None, bootstrap=None, floor={}).row(metrics, name="both")
    assert (plain.equivalence, plain.excess) == (None, {})
    drawn = Bootstrap(replicates=300)
    floor = {metric_key(own): own for own in metrics}
    row = Rows(margin=0.1, bootstrap=drawn, floor=floor).row(metrics, name="both")
    assert row.equivalence is not None
    assert row.excess["choice_kl"].excess == 0.0
    assert row.intervals["choice_kl"] != plain.intervals["choice_kl"]
    assert row.intervals["flips"] == plain.intervals["flips"]
    partly = Rows(margin=None, bootstrap=None, floor=dict(list(floor.items())[:1]))
    assert partly.row(metrics, name="both").excess == {}


def test_a_bootstrap_of_the_pool_draws_the_tasks_apart() -> None:
    """The row's intervals are the bootstrap's own, of strata; the seed decides them."""
    asked = [paired.questions(5 + i, 50, noise=1 + i) for i in range(2)]
    metrics = [own.paired(f"task{i}") for i, own in enumerate(asked)]
    row = measure(metrics, name="pooled", bootstrap=Bootstrap(seed=4))
    strata = [(own.divergence.kl, own.clusters) for own in metrics if own.divergence is not None]
    found = Bootstrap(seed=4).intervals(strata, [0.5, 0.99])
    assert row.intervals["choice_kl"] == found.mean
    assert row.intervals["choice_kl_median"] == found.quantiles[0]
    assert isnan(row.intervals["choice_kl_p99"].high)
    other = measure(metrics, name="pooled", bootstrap=Bootstrap(seed=5))
    assert other.intervals["choice_kl"] != row.intervals["choice_kl"]


# Holm over tasks


def test_p_is_adjusted_over_the_tasks_by_holm(tmp_path: Path) -> None:
    """Statsmodels' Holm of the tasks that changed; one where nothing did counts for nothing."""
    run = compared(tmp_path, COUNTS)
    rows = {row.name: row for row in run.tasks}
    raw = [stats.binomtest(*_of(COUNTS[name])).pvalue for name in ("arc", "boolq", "piqa")]
    expected = multipletests(raw, method="holm")[1]
    found = [rows[name].p_holm for name in ("arc", "boolq", "piqa")]
    assert found == pytest.approx(list(expected), rel=1e-9)
    assert found[0] > rows["arc"].p_value  # control: not as it was
    assert isnan(rows["same"].p_holm)
    assert isnan(run.pooled.p_holm)


def _of(counts: tuple[int, int]) -> tuple[int, int]:
    return counts[0], sum(counts)


def test_only_what_stands_for_its_task_is_adjusted(tmp_path: Path) -> None:
    """Of acc and acc_norm of two tasks the two acc: tests of one question are counted once."""
    (run,) = groups_of(tmp_path).compressed
    chosen = [row for row in run.tasks if not isnan(row.p_holm)]
    assert [(row.name, row.metric) for row in chosen] == [
        ("left", "acc"),
        ("right", "acc"),
        ("said", "exact_match"),
    ]
    expected = multipletests([row.p_value for row in chosen], method="holm")[1]
    assert [row.p_holm for row in chosen] == pytest.approx(list(expected), rel=1e-9)
    assert all(isnan(row.p_holm) for row in run.groups)


def test_a_single_task_needs_no_adjustment(tmp_path: Path) -> None:
    """Its p stays what it is."""
    (row,) = compared(tmp_path, {"arc": (9, 2)}).tasks
    assert row.p_holm == row.p_value


@pytest.mark.simulation
def test_no_change_in_any_of_many_tasks_is_seldom_called_one() -> None:
    """Twenty tasks under no change, 400 draws: any adjusted p below 5 % in at most 5 %.

    Control: without the adjustment in far more.
    """
    rng = np.random.default_rng(6)
    template = measure([paired.questions(7, 20).paired()], name="task")
    alarms = naive = 0
    for _ in range(400):
        lost = rng.binomial(15, 0.5, 20)
        rows = [_with_p(template, stats.binomtest(int(k), 15).pvalue) for k in lost]
        found = adjusted(rows, range(20))
        alarms += any(row.p_holm < 0.05 for row in found)
        naive += any(row.p_value < 0.05 for row in found)
    assert alarms / 400 <= 0.05 + 3 * sqrt(0.05 * 0.95 / 400)
    assert naive / 400 > 0.3


def _with_p(row: Row, p: float) -> Row:
    return replace(row, p_value=float(p))


# Decisions over all tasks


def fisher_by_outcomes(counts: Mapping[str, tuple[int, int]]) -> float:
    """Fisher's sum by its own law: all outcomes of three tasks' fair coins, by scipy."""
    tasks = [(lost, lost + won) for lost, won in counts.values() if lost + won]
    laws = []
    for _, pairs in tasks:
        logs_of = -2 * np.log(stats.binom.cdf(pairs - np.arange(pairs + 1), pairs, 0.5))
        laws.append((logs_of, stats.binom.pmf(np.arange(pairs + 1), pairs, 0.5)))
    sums = laws[0][0][:, None, None] + laws[1][0][:, None] + laws[2][0]
    chances = laws[0][1][:, None, None] * laws[1][1][:, None] * laws[2][1]
    measured = sum(law[0][lost] for law, (lost, _) in zip(laws, tasks, strict=True))
    return float(chances[sums >= measured - 1e-9].sum())


def test_decisions_are_scipys(tmp_path: Path) -> None:
    """Pooled counts, Fisher's sum and the largest of fair coins' excesses, by scipy."""
    run = compared(tmp_path, COUNTS)
    found = run.decisions
    assert found is not None
    assert found.n == 3  # where nothing changed there is nothing to test
    assert found.pooled == pytest.approx(one_sided(24, 17), rel=1e-9)
    each = [one_sided(*COUNTS[name]) for name in ("arc", "boolq", "piqa")]
    assert [row.p_loss for row in run.tasks if not isnan(row.p_loss)] == pytest.approx(each)
    assert found.fisher == pytest.approx(fisher_by_outcomes(COUNTS), rel=0.02)
    assert found.fisher != pytest.approx(stats.combine_pvalues(each).pvalue, rel=0.1)
    root = 11 / sqrt(17)
    below = 1.0
    for pairs in (17, 11, 13):
        lost = np.arange(pairs + 1)
        smaller = (2 * lost - pairs) / sqrt(pairs) < root - 1e-9
        below *= stats.binom.pmf(lost, pairs, 0.5)[smaller].sum()
    assert found.largest == pytest.approx(1 - below, rel=1e-9)
    assert found.largest_task == "arc"
    assert found.largest != pytest.approx(1 - (1 - min(each)) ** 3, rel=1e-3)  # not Sidak's


def test_decisions_stand_in_the_document(tmp_path: Path) -> None:
    """With null where there is nothing to decide."""
    compared(tmp_path, COUNTS)
    paths = [tmp_path / "0", tmp_path / "1"]
    both = compare(*paths, metric="acc")
    document = json.loads(to_json(both))["compressed"][0]
    assert both.compressed[0].decisions is not None
    assert document["decisions"]["largest_task"] == "arc"
    assert document["decisions"]["fisher"] == both.compressed[0].decisions.fisher
    assert [row["p_holm"] for row in document["tasks"]][-1] is None
    single = json.loads(to_json(compare(*paths, metric="acc", tasks="arc")))
    assert single["compressed"][0]["decisions"] is None


def test_a_single_task_has_no_decision_over_tasks(tmp_path: Path) -> None:
    """However many metrics it has: its own one-sided p says it."""
    compared(tmp_path, {"arc": (9, 2)})
    run = compare(tmp_path / "0", tmp_path / "1").compressed[0]
    assert len(run.tasks) == 2
    assert run.decisions is None
    assert run.pooled.p_loss == pytest.approx(one_sided(9, 2), rel=1e-9)


def test_repeats_of_documents_decide_as_the_documents(tmp_path: Path) -> None:
    """Three samples of each document are one pair: counts of samples would be three times those."""
    run = compared(tmp_path, COUNTS, copies=3)
    found, plain = run.decisions, compared(tmp_path / "once", COUNTS).decisions
    assert found is not None
    assert plain is not None
    assert run.tasks[0].error_method == "clustered by document (40 of 120 samples)"
    assert (found.pooled, found.fisher) == pytest.approx((plain.pooled, plain.fisher), rel=1e-9)
    assert found.largest == pytest.approx(plain.largest, rel=1e-9)
    assert found.largest_task == "arc"


def test_other_scores_decide_by_the_smallest_p() -> None:
    """Permutation tests have no pairs to count: Sidak's of each task's one-sided p."""
    metrics = [scored(*scores(i, 10, worse=0.03 * i)) for i in range(3)]
    rows = [measure([own], name=f"task{i}") for i, own in enumerate(metrics)]
    found = decisions(measure(metrics, name="pooled"), rows)
    assert found is not None
    smallest = min(row.p_loss for row in rows)
    assert found.largest == pytest.approx(1 - (1 - smallest) ** 3, rel=1e-9)
    each = [row.p_loss for row in rows]
    assert found.fisher == pytest.approx(stats.combine_pvalues(each).pvalue, rel=1e-9)
    assert found.pooled == measure(metrics, name="pooled").p_loss


def test_a_field_decides_by_the_smallest_p(tmp_path: Path) -> None:
    """Clustered, the tasks are tested by the passages' signs: no coins are thrown there."""
    run = compare(*written(tmp_path, tasks_of((60, 60))), cluster="passage").compressed[0]
    found = run.decisions
    assert found is not None
    each = [row.p_loss for row in run.tasks]
    assert {row.test for row in run.tasks} == {"permutation"}
    assert found.pooled == run.pooled.p_loss
    assert found.fisher == pytest.approx(stats.combine_pvalues(each).pvalue, rel=1e-9)
    assert found.largest == pytest.approx(1 - (1 - min(each)) ** 2, rel=1e-9)


def test_many_tasks_pool_by_t_and_each_by_its_coins() -> None:
    """Twelve tasks: the pool is clustered by task, the largest loss still counts pairs."""
    asked = [paired.questions(80 + i, 40) for i in range(12)]
    metrics = [own.paired(f"task{i}") for i, own in enumerate(asked)]
    rows = [measure([own], name=own.pairs.task) for own in metrics]
    pooled = pooled_row(metrics, rows, Rows(margin=None, bootstrap=None, floor={}))
    found = decisions(pooled, rows)
    assert found is not None
    assert pooled.test == "t"
    change = np.concatenate([own.change for own in asked])
    error, freedom = paired.clustered(change, np.repeat(np.arange(12), 40))
    alone, _ = paired.stratified([own.change for own in asked])
    expected = stats.t.cdf(change.mean() / max(error, alone), freedom)
    assert found.pooled == pytest.approx(expected, rel=1e-7)
    roots = [_root(own) for own in asked]
    assert found.largest_task == f"task{int(np.argmax(roots))}"


def _root(asked: Questions) -> float:
    lost, won = (asked.change < 0).sum(), (asked.change > 0).sum()
    return float((lost - won) / sqrt(lost + won))
