"""The list of columns is that of the numbers: none is shown that is not one, none is missing."""

from __future__ import annotations

import re

from lm_eval_flips.comparison.numbers import SPECS
from lm_eval_flips.report.columns import COLUMNS


def test_every_number_has_a_column_and_every_column_a_number() -> None:
    """By key; a number that stands in for another is one too."""
    keys = [column.key for column in COLUMNS]
    assert sorted(keys) == sorted(spec.key for spec in SPECS)
    assert len(set(keys)) == len(keys)
    assert all(column.otherwise in ("", *keys) for column in COLUMNS)
    assert all(column.unless in ("", *keys) for column in COLUMNS)


def test_labels_are_distinct_and_meanings_are_sentences_of_their_own() -> None:
    """What the guide lists can be told apart."""
    labels = [column.label for column in COLUMNS]
    assert len(set(labels)) == len(labels)
    for column in COLUMNS:
        assert len(column.meaning) > 10, column.key
        assert not column.meaning.endswith("."), column.key


def test_columns_leave_one_after_the_other_but_for_losses_and_gains() -> None:
    """Lost and won go together; the change and the flips stay."""
    leaving: dict[int, list[str]] = {}
    for column in COLUMNS:
        if "terminal" in column.places:
            leaving.setdefault(column.leaves, []).append(column.key)
    staying = leaving.pop(max(leaving))
    together = [keys for keys in leaving.values() if len(keys) > 1]
    assert together == [["correct_to_incorrect", "incorrect_to_correct"]]
    assert {"score_change", "flips"} <= set(staying)


def test_no_label_is_a_key() -> None:
    """People read words, files have keys."""
    assert not [own.label for own in COLUMNS if re.search(r"[a-z]_[a-z]", own.label)]
