"""Lengths and signs of written answers: numpy's delta method, counts by hand, and controls."""

from __future__ import annotations

from math import exp, log, sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lm_eval_flips import Row, compare
from lm_eval_flips.measures.paired_difference import mover
from lm_eval_flips.measures.shares import wilson
from tests.generators import logs

N = 40
LENGTHS = np.random.default_rng(3).integers(5, 300, N)
LONGER = (LENGTHS * np.random.default_rng(4).uniform(0.9, 1.6, N)).astype(int)
LOST = {"baseline": range(4), "compressed": range(2, 15)}  # answers that the filter did not find
EXTRACTS = [{"name": "strict", "filter": [{"function": "regex"}]}]


def words(n: int) -> str:
    """A text of so many characters that does not repeat itself."""
    text = " ".join(map(str, range(n)))
    return text[:n]


def run(folder: Path, lengths: list[int], lost: range, documents: int = N) -> Path:
    """A run that wrote answers of these lengths, of which some have no answer in them."""
    records = []
    for i, length in enumerate(lengths):
        answer = "[invalid]" if i in lost else "4"
        made = logs.text(i, answer, said=[words(length)], filter="strict")
        made["doc_hash"] = logs.digest(f"document {i % documents}")
        made["arguments"]["gen_args_0"]["arg_1"]["max_gen_toks"] = 1024
        records.append(made)
    return logs.write_run(folder, {"sums": records}, configs={"sums": {"filter_list": EXTRACTS}})


def row(folder: Path, documents: int = N) -> Row:
    """The row of the two runs."""
    sides = [
        run(folder / name, lengths.tolist(), LOST[name], documents)
        for name, lengths in (("baseline", LENGTHS), ("compressed", LONGER))
    ]
    return compare(*sides).compressed[0].tasks[0]


def test_the_length_ratio_is_that_of_the_means(tmp_path: Path) -> None:
    """With the interval of its logarithm by the delta method, in numpy; control: unpaired is wider."""
    number = row(tmp_path).numbers["length_ratio"]
    ratio = LONGER.mean() / LENGTHS.mean()
    assert number.value == pytest.approx(ratio, rel=1e-12)
    of_both = np.cov(LENGTHS, LONGER) / N
    slopes = np.array([-1 / LENGTHS.mean(), 1 / LONGER.mean()])
    half = stats.t.ppf(0.975, N - 1) * sqrt(slopes @ of_both @ slopes)
    ends = exp(log(ratio) - half), exp(log(ratio) + half)
    assert tuple(number.interval) == pytest.approx(ends, rel=1e-9)
    apart = sqrt(slopes**2 @ np.diag(of_both)) * stats.t.ppf(0.975, N - 1)
    assert apart > 2 * half


def test_shares_of_signs_are_counted_and_their_change_is_paired(tmp_path: Path) -> None:
    """Counts by hand: Wilson's for each side, MOVER's for the change."""
    numbers = row(tmp_path).numbers
    assert numbers["baseline_invalid"].value == 4 / N
    assert numbers["baseline_invalid"].interval == wilson(4, N)
    assert numbers["compressed_invalid"].value == 13 / N
    change = numbers["invalid_change"]
    assert change.value == pytest.approx(9 / N)
    assert change.interval == mover(lost=2, won=11, n=N)
    assert numbers["empty_change"].value == numbers["looped_change"].value == 0
    assert numbers["truncated_change"].value == 0  # all have fewer bytes than the limit has tokens
    assert numbers["script_switched"].value == 0
    assert numbers["baseline_length"].value == pytest.approx(LENGTHS.mean())


def test_copies_of_documents_are_no_evidence(tmp_path: Path) -> None:
    """Ten documents logged four times: wider than forty of their own."""
    alone, copied = row(tmp_path / "alone"), row(tmp_path / "copied", documents=4)
    for key in ("length_ratio", "invalid_change"):
        widths = [
            own.numbers[key].interval.high - own.numbers[key].interval.low
            for own in (alone, copied)
        ]
        assert alone.numbers[key].value == copied.numbers[key].value
        assert widths[1] > 1.1 * widths[0], key


def test_what_the_log_does_not_tell_of_all_is_nan(tmp_path: Path) -> None:
    """Answers that may have run into the limit, or not: no share of them is known."""
    sides = [run(tmp_path / name, [2000] * N, LOST[name]) for name in LOST]
    numbers = compare(*sides, allow_identical=True).compressed[0].tasks[0].numbers
    assert not numbers["truncated_change"].known
    assert not numbers["compressed_truncated"].known
    assert numbers["invalid_change"].known


def test_choices_have_none_of_these_numbers(tmp_path: Path) -> None:
    """nan, never 0; nor does an answer's length count where the baseline wrote nothing."""
    sides = [
        logs.write_run(tmp_path / name, {"arc": [logs.choice(i, [-1.0, second]) for i in range(3)]})
        for name, second in (("one", -2.0), ("two", -0.5))
    ]
    numbers = compare(*sides).compressed[0].tasks[0].numbers
    assert not numbers["length_ratio"].known
    assert not numbers["empty_change"].known
    empty = [
        logs.write_run(tmp_path / name, {"sums": [logs.text(i, said) for i in range(3)]})
        for name, said in (("nothing", ""), ("four", "4"))
    ]
    numbers = compare(*empty).compressed[0].tasks[0].numbers
    assert numbers["length_ratio"].value == float("inf")
    assert numbers["empty_change"].value == -1
