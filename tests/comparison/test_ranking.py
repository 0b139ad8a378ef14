"""Compressed runs against each other: p by statsmodels, groups by hand, no order out of noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from lm_eval_flips import Comparison, compare
from lm_eval_flips.comparison.ranking import rank_runs, task_scores
from lm_eval_flips.measures.letters import alike
from lm_eval_flips.report.files.document import to_json
from lm_eval_flips.report.text.summary import model_sentence, ranking_line
from tests.generators import logs
from tests.generators.paired import generated
from tests.report.text.test_table import printed, row_of

RIGHT, WRONG = [-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0]


def compared(folder: Path, rights: Sequence[np.ndarray]) -> Comparison:
    """A baseline that has all right, and runs that have these right."""
    count = len(rights[0])
    paths = []
    for place, right in enumerate([np.ones(count, bool), *rights]):
        shift = 0.001 * place
        records = [
            logs.choice(i, [x - shift * k - 0.01 * i for k, x in enumerate(RIGHT if r else WRONG)])
            for i, r in enumerate(right)
        ]
        name = f"run{place}" if place else "base"
        paths.append(logs.write_run(folder / name, {"task": records}, model=f"org/{name}"))
    return compare(*paths, metric="acc")


def lost(*ranges: tuple[int, int], count: int = 200) -> np.ndarray:
    """All right but for these stretches."""
    right = np.ones(count, bool)
    for low, high in ranges:
        right[low:high] = False
    return right


def test_runs_that_differ_by_noise_are_one_group(tmp_path: Path) -> None:
    """10 and 12 lost of 200 are alike, 60 are not; p are exact McNemar's, adjusted by Holm."""
    rights = [lost((0, 10)), lost((5, 17)), lost((20, 80))]
    comparison = compared(tmp_path, rights)
    ranking = comparison.ranking
    assert ranking is not None
    assert ranking.order == (0, 1, 2)
    assert ranking.groups == ((0, 1), (2,))
    assert ranking.scores == pytest.approx([0.95, 0.94, 0.70])
    pairs = [(0, 1), (0, 2), (1, 2)]
    raw = [
        mcnemar(
            [[0, (rights[i] & ~rights[j]).sum()], [(~rights[i] & rights[j]).sum(), 0]], exact=True
        ).pvalue
        for i, j in pairs
    ]
    expected = multipletests(raw, method="holm")[1]
    assert [ranking.p_values[pair] for pair in pairs] == pytest.approx(list(expected))


def test_the_order_of_the_runs_does_not_matter(tmp_path: Path) -> None:
    """The same groups, whichever run is named first."""
    rights = [lost((20, 80)), lost((0, 10)), lost((5, 17))]
    ranking = compared(tmp_path, rights).ranking
    assert ranking is not None
    assert ranking.groups == ((1, 2), (0,))


@pytest.mark.parametrize(
    ("apart", "groups"),
    [
        (set(), [(0, 1, 2, 3)]),
        ({(0, 3)}, [(0, 1, 2), (1, 2, 3)]),
        ({(0, 2), (0, 3), (1, 3)}, [(0, 1), (1, 2), (2, 3)]),
        ({(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}, [(0,), (1,), (2,), (3,)]),
        ({(0, 2), (0, 3), (1, 2), (1, 3)}, [(0, 1), (2, 3)]),
    ],
)
def test_groups_are_the_longest_stretches_that_cannot_be_told_apart(
    apart: set[tuple[int, int]], groups: list[tuple[int, ...]]
) -> None:
    """They may overlap: what is between two runs may be like both."""
    assert alike(range(4), apart) == groups


@pytest.mark.parametrize("side", [1, -1])
def test_what_is_right_is_ranked_where_one_task_counts_errors(side: int) -> None:
    """1,000 questions and 100 of a rate of errors: runs that lose 0, 16, 56 points of the first.

    Whichever way the second goes, the run that lost most is last.
    """
    rng = np.random.default_rng(2)
    runs = []
    for points in (0.16, 0.56, 0.0):
        right = (np.arange(1000) >= 1000 * points).astype(float)
        arc = generated("arc", [("a", 1.0)] * 1000, [("b", float(r)) for r in right])
        errors = rng.integers(0, 2, 100)
        crows = generated(
            "crows",
            [("a", float(e)) for e in errors],
            [("a", float(e)) for e in (errors if side > 0 else 1 - errors)],
            metric="pct_stereotype",
            lower_is_better=True,
        )
        runs.append(task_scores([arc, crows]))
    ranking = rank_runs(runs)
    assert ranking is not None
    assert ranking.order == (2, 0, 1)
    assert ranking.letters == ("b", "c", "a")
    assert ranking.scores[0] > ranking.scores[1]


@pytest.mark.simulation
def test_models_that_are_equally_good_are_seldom_ordered() -> None:
    """60 draws of four equally good runs: a false order in at most 5 %, as Holm promises."""
    from tests.generators.paired import Questions, questions

    rng = np.random.default_rng(4)
    ordered = 0
    for draw in range(60):
        base = questions(draw, 60)
        runs = [
            Questions(base.baseline, base.baseline + rng.normal(0, 2, (60, 5)), base.gold)
            for _ in range(4)
        ]
        ranking = rank_runs([task_scores([run.paired()]) for run in runs])
        assert ranking is not None
        ordered += len(ranking.groups) > 1
    assert ordered / 60 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_perplexities_are_ranked_the_smallest_first() -> None:
    """Their samples are log-likelihoods, of which more is better."""
    from tests.generators.paired import texts

    worse = (0.5, 0.05, 0.2)
    ranking = rank_runs([task_scores([texts(0, worse=by).paired()]) for by in worse])
    assert ranking is not None
    assert ranking.order == (1, 2, 0)
    assert ranking.metric == "word_perplexity"
    for score, by in zip(ranking.scores, worse, strict=True):
        asked = texts(0, worse=by)
        by_hand = np.exp(-asked.compressed.sum() / asked.words.sum())
        assert score == pytest.approx(by_hand, rel=1e-12)
    assert ranking.groups == ((1,), (2,), (0,))


def test_one_run_has_no_rank(tmp_path: Path) -> None:
    """Nothing to hold it against."""
    comparison = compared(tmp_path, [lost((0, 10))])
    assert comparison.ranking is None
    assert comparison.overlap is None


def test_ranks_and_overlaps_are_shown(tmp_path: Path) -> None:
    """Below the tables and in the JSON: five samples are changed by both, of 10 and 12."""
    comparison = compared(tmp_path, [lost((0, 10)), lost((5, 17)), lost((20, 80))])
    text = printed(comparison, width=10_000)
    line = row_of(text, "score over 200 samples")
    assert "run1 0.9500 a, run2 0.9400 a, run3 0.7000 b (those that share a letter" in line
    line = row_of(text, "changed by run1 and run2")
    assert "5 of 10 and 12, by chance 0.6; overlap 0.5000, Jaccard 0.2941" in line
    assert row_of(text, "changed by all: 0, by any: 77")
    document = json.loads(to_json(comparison))
    assert document["ranking"]["groups"] == [[0, 1], [2]]
    assert document["ranking"]["letters"] == ["a", "a", "b"]
    assert document["ranking"]["p_values"][0]["runs"] == [0, 1]
    assert document["overlap"]["common"][0] == [10, 5, 0]
    assert document["overlap"]["jaccard"][0][1] == pytest.approx(5 / 17)


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        ("perplexity", "perplexity (lower is better) over 20 samples: run1 3.0042 < run2 4.9530"),
        ("mae", "mae (lower is better) over 20 samples: run1 2.2000 < run2 7.4000"),
    ],
)
def test_less_is_better_where_it_is(tmp_path: Path, metric: str, line: str) -> None:
    """Lambada's perplexity, exp(-mean), and an error: the figures of the table, the least first."""
    paths = []
    for place, name in enumerate(["base", "run1", "run2"]):
        losses = [1.0 + 0.1 * place + 0.4 * (place == 2) + 0.01 * (i - 9.5) for i in range(20)]
        records = [
            logs.cloze(i, -loss, greedy=True)
            if metric == "perplexity"
            else logs.text(i, "x", mae=10 * loss - 9 + place * 0.2)
            for i, loss in enumerate(losses)
        ]
        better = {"task": {"mae": False, "perplexity": False, "acc": True}}
        paths.append(
            logs.write_run(
                tmp_path / name, {"task": records}, model=f"org/{name}", higher_is_better=better
            )
        )
    comparison = compare(*paths, metric=metric)
    assert ranking_line(comparison).startswith(line)
    shown = [run.pooled.numbers["compressed_score"].value for run in comparison.compressed]
    assert comparison.ranking is not None
    assert list(comparison.ranking.scores) == pytest.approx(shown)


def test_bits_changed_by_a_difference(tmp_path: Path) -> None:
    """Of bits a byte the change is said, not the ratio of perplexities, which is another figure."""
    pages = [f"page {i} " * (1 + i % 3) for i in range(12)]
    paths = [
        logs.write_run(
            tmp_path / name,
            {"task": [logs.rolling(i, -20.0 - i - more, page) for i, page in enumerate(pages)]},
        )
        for name, more in (("a", 0.0), ("b", 2.0))
    ]
    comparison = compare(*paths, metric="bits_per_byte")
    row = comparison.compressed[0].pooled
    sentence = model_sentence("b", comparison.compressed[0])
    assert f"(+{row.score_change:.4f} [" in sentence
    assert "times" not in sentence
    words = compare(*paths, metric="word_perplexity").compressed[0]
    assert "times the baseline's" in model_sentence("b", words)
