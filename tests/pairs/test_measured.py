"""Stored distances find their samples, and are proven to be those of these two runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, nan, nextafter
from pathlib import Path
from typing import Any

import pytest
import torch

from lm_eval_flips import FlipsError, load_run
from lm_eval_flips.errors import OtherBaselineError
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.pairs.measured import token_values
from lm_eval_flips.pairs.pairing import Pairs, pair
from lm_eval_flips.pairs.tokens import TokenValues
from lm_eval_flips.scoring.token_distances import FIELDS, StoredDistances, load_distances
from tests.generators import logs
from tests.generators.distances import at_positions, write_distances

DOCS = (4, 0, 7, 2, 9)  # in the order in which they are logged
Loglikelihoods = Callable[[int], list[float]]
Values = dict[tuple[int, int], list[float]]


def size(doc: int) -> int:
    """Choices of a question: two to five."""
    return 2 + doc % 4


def before(doc: int) -> list[float]:
    """What the baseline logged of a question."""
    return [-1.0 - doc / 3 - choice / 7 for choice in range(size(doc))]


def after(doc: int) -> list[float]:
    """What the compressed run logged."""
    return [value - 1 / 11 for value in before(doc)]


def kl(doc: int, choice: int) -> list[float]:
    """Distances that no other request has, at one to three positions."""
    return [doc + choice / 10 + place / 100 for place in range(1 + (doc + choice) % 3)]


def questions(values: Loglikelihoods, docs: Sequence[int] = DOCS) -> list[logs.Record]:
    """Records of some questions."""
    return [logs.choice(doc, values(doc)) for doc in docs]


def paired(
    folder: Path,
    *,
    baseline: Sequence[logs.Record] | None = None,
    compressed: Sequence[logs.Record] | None = None,
    measured: tuple[Sequence[logs.Record], Sequence[logs.Record]] | None = None,
    **options: Any,
) -> tuple[StoredDistances, Pairs]:
    """Two runs of one task, and the distances of what was measured, by default of those runs."""
    ours, theirs = baseline or questions(before), compressed or questions(after)
    one = logs.write_run(folder / "base", {"task": ours}, model="org/base")
    other = logs.write_run(folder / "int4", {"task": theirs}, model="org/int4")
    both = measured or (ours, theirs)
    write_distances(other, baseline=both[0], compressed=both[1], **{"kl": kl, **options})
    samples = [read_samples(load_run(file).tasks["task"])["none"] for file in (one, other)]
    stored = load_distances(folder / "int4" / "token_distances")
    assert stored is not None
    return stored, pair(*samples)


def found_in(folder: Path, **options: Any) -> TokenValues:
    """The distances of two runs that have some."""
    found = token_values(*paired(folder, **options))
    assert found is not None
    return found


def requests_of(found: TokenValues, docs: Sequence[int], name: str = "kl") -> Values:
    """A distance's values by document and choice, the documents in the order of the samples."""
    by_request: Values = {}
    for sample, own in zip(
        found.samples.tolist(),
        torch.split(found.values[name], found.counts.tolist()),
        strict=True,
    ):
        choice = sum(doc == docs[sample] for doc, _ in by_request)
        by_request[docs[sample], choice] = own.tolist()
    return by_request


def expected(docs: Sequence[int], name: str = "kl") -> Values:
    """What is stored of all requests of some documents."""
    return {
        (doc, choice): getattr(at_positions(kl(doc, choice)), name).tolist()
        for doc in docs
        for choice in range(size(doc))
    }


def test_values_belong_to_their_sample_and_request(tmp_path: Path) -> None:
    """All six distances, whatever the number of choices and positions, in the pairs' order."""
    found = found_in(tmp_path)
    assert tuple(found.values) == FIELDS
    for name in FIELDS:
        assert requests_of(found, sorted(DOCS), name) == expected(sorted(DOCS), name)
    assert (found.top, found.first_only) == (None, False)


def test_the_check_of_where_values_belong_can_fail(tmp_path: Path) -> None:
    """Control: in the order of the log they would belong to other documents."""
    found = found_in(tmp_path)
    assert requests_of(found, DOCS) != expected(sorted(DOCS))


def test_the_order_in_which_requests_were_measured_does_not_matter(tmp_path: Path) -> None:
    """They are found by their keys."""
    docs = DOCS[::-1]
    found = found_in(tmp_path, measured=(questions(before, docs), questions(after, docs)))
    assert requests_of(found, sorted(DOCS)) == expected(sorted(DOCS))


def test_other_tasks_requests_are_left_alone(tmp_path: Path) -> None:
    """The folder holds those of all tasks of a run."""
    docs = (11, *DOCS, 12)
    found = found_in(tmp_path, measured=(questions(before, docs), questions(after, docs)))
    assert requests_of(found, sorted(DOCS)) == expected(sorted(DOCS))


def test_choices_without_their_context_are_left_out(tmp_path: Path) -> None:
    """acc_mutual_info asks for each choice twice; a choice is scored behind its question."""

    def asked(values: Loglikelihoods) -> list[logs.Record]:
        return [
            logs.choice(
                doc,
                values(doc),
                metrics=("acc", "acc_mutual_info"),
                unconditional=[-3.0] * size(doc),
            )
            for doc in DOCS
        ]

    found = found_in(tmp_path, baseline=asked(before), compressed=asked(after))
    assert requests_of(found, sorted(DOCS)) == expected(sorted(DOCS))


def test_documents_of_the_same_text_share_what_was_measured_once(tmp_path: Path) -> None:
    """Each of them has the values of its own."""
    sides = [
        [logs.choice(doc, values(4), question="Which?") for doc in (1, 5)]
        for values in (before, after)
    ]
    found = found_in(tmp_path, baseline=sides[0], compressed=sides[1], kl=lambda _, c: kl(1, c))
    values = requests_of(found, (1, 5))
    assert [values[5, choice] for choice in range(size(4))] == [
        values[1, choice] for choice in range(size(4))
    ]
    assert values[5, 1] == at_positions(kl(1, 1)).kl.tolist()


@pytest.mark.parametrize(("top", "positions"), [(None, "last"), (7, "all")])
def test_how_they_were_measured_is_told(tmp_path: Path, top: int | None, positions: str) -> None:
    """Lower bounds, and first positions alone, are no other distances."""
    found = found_in(
        tmp_path, top=top, positions=positions, kl=lambda doc, choice: kl(doc, choice)[:1]
    )
    assert (found.top, found.first_only) == (top, positions == "last")
    assert set(found.counts.tolist()) == {1}


@pytest.mark.parametrize("direction", [-inf, inf])
def test_another_answer_of_the_compressed_run_is_refused(tmp_path: Path, direction: float) -> None:
    """One that differs in the last digit is enough; its document is named."""

    def otherwise(doc: int) -> list[float]:
        values = after(doc)
        return [*values[:-1], nextafter(values[-1], direction)] if doc == 7 else values

    with pytest.raises(FlipsError, match="of other answers than the compressed run logged") as told:
        token_values(*paired(tmp_path, measured=(questions(before), questions(otherwise))))
    assert not isinstance(told.value, OtherBaselineError)
    assert f"'{tmp_path / 'int4' / 'token_distances'}'" in str(told.value)
    assert "task 'task'" in str(told.value)
    assert "logged (doc 7);" in str(told.value)


def test_distances_from_another_baseline_are_told_apart(tmp_path: Path) -> None:
    """They are of this compressed run, but not of this pair."""

    def otherwise(doc: int) -> list[float]:
        values = before(doc)
        return [nextafter(values[0], 0.0), *values[1:]] if doc in (2, 9) else values

    with pytest.raises(
        OtherBaselineError, match="measured from another run, of 'org/base'"
    ) as told:
        token_values(*paired(tmp_path, measured=(questions(otherwise), questions(after))))
    assert "than this baseline (doc 2, 9)" in str(told.value)


def test_a_task_of_which_nothing_was_measured_has_no_values(tmp_path: Path) -> None:
    """As where it was scored by another model type."""
    docs = (20, 21)
    stored, pairs = paired(tmp_path, measured=(questions(before, docs), questions(after, docs)))
    assert token_values(stored, pairs) is None


def test_generated_text_has_no_values(tmp_path: Path) -> None:
    """It asks for no log-likelihood."""
    texts = [logs.text(doc, "4") for doc in DOCS]
    measured = (questions(before), questions(after))
    stored, pairs = paired(tmp_path, baseline=texts, compressed=texts, measured=measured)
    assert token_values(stored, pairs) is None


@pytest.mark.parametrize("values", [after, lambda doc: [-1.0] * size(doc)])
def test_a_task_of_which_some_was_not_measured_is_refused(
    tmp_path: Path, values: Loglikelihoods
) -> None:
    """A mean over what is there would be of another task, whatever the answers were."""
    docs = [doc for doc in DOCS if doc not in (0, 9)]
    stored, pairs = paired(
        tmp_path,
        baseline=questions(values),
        compressed=questions(values),
        measured=(questions(values, docs), questions(values, docs)),
    )
    with pytest.raises(FlipsError, match=r"than the compressed run logged \(doc 0, 9\)"):
        token_values(stored, pairs)


def with_loglikelihood(pairs: Pairs, sample: int, choice: int, value: float) -> Pairs:
    """Pairs of which both runs have one log-likelihood replaced."""
    sides = []
    for side in (pairs.baseline, pairs.compressed):
        values = side.loglikelihoods.clone()
        values[sample, choice] = value
        sides.append(replace(side, loglikelihoods=values))
    return replace(pairs, baseline=sides[0], compressed=sides[1])


def test_nan_is_the_same_as_nan_and_as_no_number(tmp_path: Path) -> None:
    """A request that both logged as nan is proven; where only one says so, it is refused."""
    stored, pairs = paired(tmp_path)
    place = sum(size(doc) for doc in DOCS[:3]) + 1  # document 2's second choice, as measured
    for values in (stored.loglikelihoods, stored.baseline_loglikelihoods):
        values[place] = nan
    row = sorted(DOCS).index(2)
    broken = with_loglikelihood(pairs, row, 1, nan)
    found = token_values(stored, broken)
    assert found is not None
    assert requests_of(found, sorted(DOCS)) == expected(sorted(DOCS))
    with pytest.raises(FlipsError, match=r"\(doc 2\)"):
        token_values(stored, pairs)
    with pytest.raises(FlipsError, match=r"\(doc 0, 2\)"):
        token_values(stored, with_loglikelihood(pairs, 0, 0, nan))


def test_minus_infinity_is_a_number(tmp_path: Path) -> None:
    """A choice that a run rules out was measured all the same."""

    def ruled_out(doc: int) -> list[float]:
        return [after(doc)[0], -inf, *after(doc)[2:]]

    found = found_in(tmp_path, compressed=questions(ruled_out))
    assert requests_of(found, sorted(DOCS)) == expected(sorted(DOCS))


def test_whole_texts_have_one_request_each_and_empty_ones_none(tmp_path: Path) -> None:
    """An empty text has no position at which two models could differ."""
    pages = {0: "one page", 1: "", 2: "another page"}
    sides = [
        [
            logs.rolling(doc, 0.0 if not page else -9.0 - doc - moved, page)
            for doc, page in pages.items()
        ]
        for moved in (0, 1)
    ]
    found = found_in(
        tmp_path,
        baseline=sides[0],
        compressed=sides[1],
        kl=lambda doc, choice: kl(doc, choice) if pages[doc] else [],
    )
    assert found.samples.tolist() == [0, 2]
    assert requests_of(found, range(3)) == {
        (doc, 0): at_positions(kl(doc, 0)).kl.tolist() for doc in (0, 2)
    }


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [3], [4, 0, 2], [2, 3, 1, 0, 4], []])
def test_some_samples_values_are_numbered_anew(tmp_path: Path, rows: list[int]) -> None:
    """In the order in which the samples are asked for."""
    whole = found_in(tmp_path, top=3)
    found = whole.of_samples(torch.tensor(rows, dtype=torch.long))
    docs = [sorted(DOCS)[row] for row in rows]
    for name in FIELDS:
        assert requests_of(found, docs, name) == expected(docs, name)
    assert int(found.counts.sum()) == len(found.values["kl"])
    assert (found.top, found.first_only) == (3, False)


def test_samples_of_which_nothing_was_measured_stay_without(tmp_path: Path) -> None:
    """An empty text at the end, and none at all."""
    whole = found_in(tmp_path)
    beyond = whole.of_samples(torch.tensor([7, 1, 5]))
    assert set(beyond.samples.tolist()) == {1}
    nothing = whole.of_samples(torch.empty(0, dtype=torch.long))
    again = nothing.of_samples(torch.tensor([0, 1]))
    assert (len(nothing.samples), len(again.samples), len(again.values["kl"])) == (0, 0, 0)
