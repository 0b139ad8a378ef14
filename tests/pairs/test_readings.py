"""What a score is: the harness's aggregation of its samples, and what each sample says of right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score, matthews_corrcoef

from lm_eval_flips import Comparison, FlipsError, compare
from tests.generators import logs

Logged = Callable[[int], dict[str, Any]]


def run(
    folder: Path,
    records: Sequence[logs.Record],
    *,
    aggregation: dict[str, str] | None = None,
    better: dict[str, bool] | None = None,
    scores: dict[str, float] | None = None,
) -> Path:
    """A run of one task, with the aggregations and scores that its results name."""
    names = list(records[0]["metrics"])
    listed = [
        {"metric": name, "aggregation": (aggregation or {}).get(name, "mean")} for name in names
    ]
    said = {"name": "task", "alias": "task", "sample_len": len({r["doc_id"] for r in records})}
    said |= {f"{name},none": (scores or {}).get(name, "N/A") for name in names}
    return logs.write_run(
        folder,
        {"task": list(records)},
        configs={"task": {"metric_list": listed, "process_results": "def own(): ..."}},
        higher_is_better={"task": {name: (better or {}).get(name, True) for name in names}},
        results={"task": said},
    )


def texts(n: int, logged: Logged) -> list[logs.Record]:
    """Generated samples with these metrics, of which no two texts are alike."""
    return [logs.text(i, f"answer {i}", **logged(i)) for i in range(n)]


def told(result: Comparison, code: str) -> list[str]:
    """What the result says under a code."""
    return [own.text for own in result.compressed[0].findings if own.code == code]


def labelled(given: Sequence[int], gold: Sequence[int], name: str) -> list[logs.Record]:
    """Two-choice samples that log the right and the given answer only."""
    return [
        logs.choice(
            i,
            [-1.0 - i / 97, -2.0] if said == 0 else [-2.0, -1.0 - i / 97],
            gold=right,
            metrics=(name,),
        )
        | {name: [right, said]}
        for i, (said, right) in enumerate(zip(given, gold, strict=True))
    ]


@pytest.mark.parametrize(
    ("name", "aggregation", "oracle"),
    [("mcc", "matthews_corrcoef", matthews_corrcoef), ("f1", "f1", f1_score)],
)
def test_pairs_of_right_and_given_answers_flip(
    tmp_path: Path, name: str, aggregation: str, oracle: Callable[..., float]
) -> None:
    """3 lost and 2 won of 20, counted by hand; the score is scikit-learn's; choice KL is there."""
    gold = [i % 2 for i in range(20)]
    before = [right if i >= 6 else 1 - right for i, right in enumerate(gold)]
    after = [1 - said if i in (0, 1, 10, 11, 12) else said for i, said in enumerate(before)]
    paths = [
        run(tmp_path / side, labelled(said, gold, name), aggregation={name: aggregation})
        for side, said in (("a", before), ("b", after))
    ]
    result = compare(*paths)
    row = result.compressed[0].pooled
    assert row.metric == "acc"
    assert row.flips is not None
    assert (row.flips.correct_to_incorrect, row.flips.incorrect_to_correct) == (3, 2)
    assert (row.baseline_score, row.compressed_score) == (14 / 20, 13 / 20)
    assert row.distances is not None
    scores = f"{oracle(gold, before):.4g} → {oracle(gold, after):.4g}"
    assert told(result, "score")[0].startswith(f"{name} is {scores} as the harness aggregates it")


def test_a_label_beside_probabilities_is_right_or_wrong(tmp_path: Path) -> None:
    """brier_score logs the right answer and all probabilities, as numpy prints them."""
    draw = np.random.default_rng(2)
    held = [draw.uniform(0.05, 0.95, 20) for _ in range(2)]
    gold = [i % 2 for i in range(20)]
    paths = []
    for side, yes in zip("ab", held, strict=True):
        records = [
            logs.choice(
                i,
                np.log([1 - p, p]).tolist(),
                gold=gold[i],
                metrics=("brier_score",),
                brier_score=[gold[i], f"[{1 - p:.8f} {p:.8f}]"],
            )
            for i, p in enumerate(yes.tolist())
        ]
        paths.append(
            run(
                tmp_path / side,
                records,
                aggregation={"brier_score": "brier_score"},
                better={"brier_score": False},
            )
        )
    result = compare(*paths)
    flips = result.compressed[0].pooled.flips
    right = [(yes > 0.5) == np.array(gold, bool) for yes in held]
    assert flips is not None
    assert flips.correct_to_incorrect == int((right[0] & ~right[1]).sum())
    assert flips.incorrect_to_correct == int((~right[0] & right[1]).sum())
    before, after = (2 * brier_score_loss(gold, yes) for yes in held)  # over both of the labels
    assert told(result, "score")[0].startswith(f"brier_score is {before:.4g} → {after:.4g}")


def test_lists_of_instructions_are_right_where_all_are(tmp_path: Path) -> None:
    """Ifeval's instruction level: the score is over instructions, right is a whole answer."""
    kept = {0: [True, True, False], 1: [True], 2: [False, False], 3: [True, True]}
    after = {**kept, 1: [False], 2: [True, True]}
    paths = [
        run(
            tmp_path / side,
            texts(4, lambda i, own=own: {"inst_level": own[i]}),  # type: ignore[misc]
            aggregation={"inst_level": "def flat(items): ..."},
        )
        for side, own in (("a", kept), ("b", after))
    ]
    result = compare(*paths)
    flips = result.compressed[0].pooled.flips
    assert flips is not None
    assert (flips.correct_to_incorrect, flips.incorrect_to_correct, flips.n) == (1, 1, 4)
    assert told(result, "score")[0].startswith("inst_level is 0.625 → 0.75 as the harness")


def test_a_score_of_all_texts_together_is_named_with_both_scores(tmp_path: Path) -> None:
    """Bleu says nothing of a sample: its score is told from the results, beside what is compared."""
    paths = [
        run(
            tmp_path / side,
            texts(6, lambda i, name=side: {"bleu": ["said", f"{name} {i}"], "exact": i % 2}),  # type: ignore[misc]
            aggregation={"bleu": "bleu"},
            scores={"bleu": score},
        )
        for side, score in (("a", 31.25), ("b", 30.5))
    ]
    (text,) = told(compare(*paths), "not_compared")
    assert text.startswith("bleu is not compared sample by sample: it scores all texts together")
    assert text.endswith("It is 31.25 → 30.5")
    alone = [
        run(
            tmp_path / side,
            texts(6, lambda i, name=side: {"bleu": ["said", f"{name} {i}"]}),  # type: ignore[misc]
            aggregation={"bleu": "bleu"},
        )
        for side in ("c", "d")
    ]
    with pytest.raises(FlipsError, match="that can be compared.*bleu is not compared sample by"):
        compare(*alone)


def test_documents_of_other_lengths_are_left_out(tmp_path: Path) -> None:
    """RULER logs -1 under every length but the document's own; ten of each, counted by hand."""
    lost = {3: 0.0, 12: 0.0, 13: 0.0, 17: 0.0}

    def of(changed: dict[int, float]) -> Logged:
        return lambda i: {
            "4096": changed.get(i, 1.0) if i < 10 else -1.0,
            "8192": changed.get(i, 1.0) if i >= 10 else -1.0,
        }

    paths = [
        run(
            tmp_path / side,
            texts(20, of(own)),
            aggregation=dict.fromkeys(("4096", "8192"), "def lengths(items): ..."),
        )
        for side, own in (("a", {}), ("b", lost))
    ]
    rows = {row.metric: row for row in compare(*paths).compressed[0].tasks}
    for name, after, count in (("4096", 0.9, 1), ("8192", 0.7, 3)):
        row = rows[name]
        assert row.flips is not None
        assert (row.n, row.baseline_score, row.compressed_score) == (10, 1.0, after)
        assert row.flips.correct_to_incorrect == count


def test_minus_one_is_a_number_elsewhere(tmp_path: Path) -> None:
    """Control: a grade from -1 to 1 is averaged as it is."""
    paths = [
        run(tmp_path / side, texts(8, lambda i, s=shift: {"grade": (i % 3) - 1.0 + s}))  # type: ignore[misc]
        for side, shift in (("a", 0.0), ("b", 0.5))
    ]
    row = compare(*paths).compressed[0].pooled
    assert (row.n, row.score_change) == (8, 0.5)


def test_an_infinite_value_is_refused_or_left_out_of_its_metric(tmp_path: Path) -> None:
    """Mae is infinite where no number was read: doc 3 and 7 are named, and left out of mae only."""

    def of(infinite: set[int], shift: float) -> Logged:
        return lambda i: {"mae": inf if i in infinite else i + shift, "fluent": float(i % 2)}

    paths = [
        run(tmp_path / side, texts(12, of(bad, shift)), better={"mae": False})
        for side, bad, shift in (("a", {3}, 0.0), ("b", {3, 7}, 1.0))
    ]
    with pytest.raises(
        FlipsError,
        match=r"infinite in the baseline \(doc 3\); mae is infinite in the compressed run "
        r"\(doc 3, 7\).*--on-nan exclude",
    ):
        compare(*paths)
    rows = {row.metric: row for row in compare(*paths, on_nan="exclude").compressed[0].tasks}
    kept = [i for i in range(12) if i not in (3, 7)]
    assert rows["mae"].n == 10
    assert rows["mae"].baseline_score == pytest.approx(np.mean(kept))
    assert rows["mae"].score_change == pytest.approx(1.0)
    assert rows["fluent"].n == 12
    with pytest.raises(FlipsError, match=r"mae is infinite in the baseline \(doc 3\)"):
        compare(paths[0], paths[0], allow_identical=True)


def test_nanmean_leaves_out_what_is_nan(tmp_path: Path) -> None:
    """As the harness does, and said; the other metric keeps all; under mean nan is refused."""

    def of(empty: set[int], shift: float) -> Logged:
        return lambda i: {"rouge1": 0.4 - shift, "bert": nan if i in empty else 0.8 - shift}

    for aggregation in ("nanmean", "mean"):
        paths = [
            run(
                tmp_path / aggregation / side,
                texts(12, of(bad, shift)),
                aggregation={"bert": aggregation},
            )
            for side, bad, shift in (("a", {2}, 0.0), ("b", {2, 5}, 0.05))
        ]
        if aggregation == "mean":
            with pytest.raises(FlipsError, match=r"bert is nan in the baseline \(doc 2\)"):
                compare(*paths)
            result = compare(*paths, on_nan="exclude")
        else:
            result = compare(*paths)
            (text,) = told(result, "nanmean")
            assert "without doc 2, 5" in text
        rows = {row.metric: row for row in result.compressed[0].tasks}
        assert (rows["rouge1"].n, rows["bert"].n) == (12, 10)


def test_grades_have_no_flips_without_a_threshold(tmp_path: Path) -> None:
    """0 to 100: from 60 on right, by hand 2 lost and 1 won; less is better turns it round."""
    before, after = [90, 70, 61, 40, 10, 55], [88, 50, 59, 42, 80, 54]
    for higher in (True, False):
        paths = [
            run(
                tmp_path / f"{side}{higher}",
                texts(6, lambda i, own=own: {"score": own[i]}),  # type: ignore[misc]
                better={"score": higher},
            )
            for side, own in (("a", before), ("b", after))
        ]
        assert compare(*paths).compressed[0].pooled.flips is None
        flips = compare(*paths, right_from=60.0).compressed[0].pooled.flips
        assert flips is not None
        lost_and_won = (flips.correct_to_incorrect, flips.incorrect_to_correct)
        assert lost_and_won == ((2, 1) if higher else (1, 2))


def test_the_task_decides_what_is_right_or_wrong_not_the_values_of_a_run(tmp_path: Path) -> None:
    """A grade that is 0 or 1 in one run and 0.5 in the other: no flips in either."""
    grades = {"base": [1, 0, 1, 1], "whole": [1, 1, 0, 1], "half": [1, 0.5, 1, 0]}
    base, whole, half = (
        run(tmp_path / name, texts(4, lambda i, own=own: {"grade": own[i]}))  # type: ignore[misc]
        for name, own in grades.items()
    )
    together = compare(base, whole, half).compressed
    assert [one.pooled.flips for one in together] == [None, None]
    alone = compare(base, whole).compressed[0].pooled.flips
    assert alone is not None  # control: nothing says that it grades
    named = [
        run(tmp_path / f"{name} f1", texts(4, lambda i, own=grades[name]: {"f1": own[i]}))  # type: ignore[misc]
        for name in ("base", "whole")
    ]
    assert compare(*named).compressed[0].pooled.flips is None


def test_a_pool_of_both_directions_counts_what_is_right(tmp_path: Path) -> None:
    """Of 40 questions 8 are lost where more is better, of 10 none where less is: a loss of 8 / 50."""
    paths = []
    for side, lost in (("a", 0), ("b", 8)):
        more = [logs.text(i, f"{side} {i}", acc=float(i >= lost)) for i in range(40)]
        less = [logs.text(i, f"{side} {i}", stereotype=float(i % 2)) for i in range(10)]
        paths.append(
            logs.write_run(
                tmp_path / side,
                {"more": more, "less": less},
                higher_is_better={"more": {"acc": True}, "less": {"stereotype": False}},
            )
        )
    pooled = compare(*paths).compressed[0].pooled
    assert pooled.higher_is_better
    assert pooled.baseline_score == 45 / 50
    assert pooled.score_change == pytest.approx(-8 / 50)


def test_predictions_that_were_not_scored_are_named(tmp_path: Path) -> None:
    """predict_only logs 999 for every sample, which is no score."""
    paths = [run(tmp_path / side, texts(5, lambda i: {"bypass": 999})) for side in "ab"]
    with pytest.raises(FlipsError, match="predict_only was given: nothing was scored"):
        compare(*paths)
