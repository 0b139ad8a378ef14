"""Flips: counts by hand, by scikit-learn's confusion matrix, and by identities."""

from __future__ import annotations

from math import isnan

import jaxtyping
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor

from lm_eval_flips.measures.flips import Flips, count_flips

# Ten answers to questions whose right choice is 0:
BASELINE = (0, 0, 0, 0, 0, 1, 1, 2, 3, 1)
COMPRESSED = (0, 0, 0, 1, 2, 0, 1, 3, 3, 2)
# lost: places 3, 4; won: place 5; wrong to another wrong: places 7, 9; changed: 3, 4, 5, 7, 9


def _count(baseline: Tensor, compressed: Tensor, gold: int = 0, *, closed: bool = True) -> Flips:
    return count_flips(
        baseline_correct=baseline == gold,
        compressed_correct=compressed == gold,
        changed=baseline != compressed,
        closed=closed,
    )


def _random(generator: torch.Generator, n: int = 500) -> tuple[Tensor, Tensor]:
    baseline = torch.randint(4, (n,), generator=generator)
    other = torch.randint(4, (n,), generator=generator)
    kept = torch.rand(n, generator=generator) < 0.7
    return baseline, torch.where(kept, baseline, other)


def test_flips_counts_every_direction(device: str) -> None:
    """Ten answers counted by hand: 2 lost, 1 won, 2 from one wrong choice to another."""
    found = _count(torch.tensor(BASELINE, device=device), torch.tensor(COMPRESSED, device=device))
    assert found == Flips(
        n=10,
        correct_to_incorrect=2,
        incorrect_to_correct=1,
        wrong_to_wrong=2,
        answers_changed=5,
        baseline_correct=5,
    )


def test_flips_are_shares_of_all_samples() -> None:
    """Flips are 3 of 10, AllFlips 5 of 10: the denominator is all samples, not the correct ones."""
    found = _count(torch.tensor(BASELINE), torch.tensor(COMPRESSED))
    assert found.flips == pytest.approx(0.3, abs=1e-15)
    assert found.all_flips == pytest.approx(0.5, abs=1e-15)
    assert found.share(found.correct_to_incorrect) == pytest.approx(0.2, abs=1e-15)


def test_flips_match_sklearn_confusion_matrix(device: str, generator: torch.Generator) -> None:
    """The two directions are the off-diagonal cells of the 2x2 table of correctness."""
    baseline, compressed = _random(generator)
    found = _count(baseline.to(device), compressed.to(device))
    table = confusion_matrix(baseline == 0, compressed == 0)
    assert [found.incorrect_to_correct, found.correct_to_incorrect] == [table[0, 1], table[1, 0]]
    assert found.baseline_correct == table[1].sum()


def test_wrong_to_wrong_matches_a_confusion_matrix_of_answers(generator: torch.Generator) -> None:
    """Wrong to wrong is everything off the diagonal of the table of the three wrong choices."""
    baseline, compressed = _random(generator)
    table = confusion_matrix(baseline, compressed, labels=[0, 1, 2, 3])
    wrong = table[1:, 1:]
    found = _count(baseline, compressed)
    assert found.wrong_to_wrong == wrong.sum() - wrong.trace()
    assert found.answers_changed == table.sum() - table.trace()


def test_swapping_runs_swaps_the_directions(device: str, generator: torch.Generator) -> None:
    """Exchanging the runs exchanges lost with won and leaves the volume as it is."""
    baseline, compressed = (answers.to(device) for answers in _random(generator))
    there, back = _count(baseline, compressed), _count(compressed, baseline)
    assert there.correct_to_incorrect == back.incorrect_to_correct
    assert there.incorrect_to_correct == back.correct_to_incorrect
    assert there.wrong_to_wrong == back.wrong_to_wrong
    assert there.flips == back.flips


def test_net_change_is_won_minus_lost(generator: torch.Generator) -> None:
    """The compressed run's number of right answers is the baseline's plus won minus lost."""
    baseline, compressed = _random(generator)
    found = _count(baseline, compressed)
    net = found.incorrect_to_correct - found.correct_to_incorrect
    assert found.baseline_correct + net == int((compressed == 0).sum())


def test_all_flips_count_every_changed_answer(generator: torch.Generator) -> None:
    """With one right choice a question, AllFlips is the share of answers that changed."""
    found = _count(*_random(generator))
    assert found.all_flips == found.share(found.answers_changed)
    assert found.all_flips >= found.flips


def test_parts_add_up_to_the_whole(generator: torch.Generator) -> None:
    """Counting two halves and adding their counts equals counting all samples."""
    baseline, compressed = _random(generator)
    whole = _count(baseline, compressed)
    parts = [
        _count(baseline[half], compressed[half]) for half in (slice(None, 123), slice(123, None))
    ]
    for name in Flips.__slots__:
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)


def test_identical_runs_do_not_flip(device: str, generator: torch.Generator) -> None:
    """A run compared with itself changes nothing at all."""
    answers = _random(generator)[0].to(device)
    found = _count(answers, answers.clone())
    assert (found.flips, found.all_flips, found.answers_changed) == (0.0, 0.0, 0)


def test_identical_runs_check_can_fail(device: str, generator: torch.Generator) -> None:
    """Control for the test above: one changed answer of 500 must be seen."""
    answers = _random(generator)[0].to(device)
    changed = answers.clone()
    changed[17] = (answers[17] + 1) % 4
    found = _count(answers, changed)
    assert found.answers_changed == 1
    assert found.all_flips == pytest.approx(1 / 500, rel=1e-15)


def test_open_answers_have_no_wrong_to_wrong() -> None:
    """Generated text has no closed set of choices: AllFlips is nan, changed answers are counted."""
    found = _count(torch.tensor(BASELINE), torch.tensor(COMPRESSED), closed=False)
    assert found.wrong_to_wrong is None
    assert isnan(found.all_flips)
    assert found.answers_changed == 5
    assert found.flips == pytest.approx(0.3, abs=1e-15)


def test_unknown_answers_leave_only_the_flips() -> None:
    """Without known answers only the correctness is compared; the rest is None and nan."""
    found = count_flips(
        baseline_correct=torch.tensor([True, False]),
        compressed_correct=torch.tensor([False, False]),
    )
    assert (found.wrong_to_wrong, found.answers_changed) == (None, None)
    assert found.flips == 0.5
    assert isnan(found.all_flips)
    assert isnan(found.share(found.answers_changed))


def test_no_samples_give_nan_not_zero(device: str) -> None:
    """Shares of no samples are nan."""
    nothing = torch.zeros(0, dtype=torch.long, device=device)
    found = _count(nothing, nothing)
    assert found.n == 0
    assert isnan(found.flips)
    assert isnan(found.all_flips)


def test_one_sample_has_a_share(device: str) -> None:
    """One lost answer is a share of 1."""
    found = _count(torch.tensor([0], device=device), torch.tensor([2], device=device))
    assert found.flips == 1.0


def test_runs_of_different_length_are_refused() -> None:
    """The shapes in the signature are checked under test: 3 answers cannot be held against 2."""
    with pytest.raises(jaxtyping.TypeCheckError, match="compressed_correct"):
        count_flips(
            baseline_correct=torch.ones(3, dtype=torch.bool),
            compressed_correct=torch.ones(2, dtype=torch.bool),
        )
