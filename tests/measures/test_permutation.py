"""Sign flips: scipy's permutation test, enumeration in fractions, and false alarms on A/A data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from math import isnan, sqrt
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from lm_eval_flips.measures import permutation
from lm_eval_flips.measures.permutation import SignFlips, sign_flips
from lm_eval_flips.measures.significance import t_test
from tests.generators.paired import DEVICES

Alternative = Literal["two-sided", "less", "greater"]
Floats = NDArray[np.float64]

# Changes in tenths, of which some assignments have equal sums that floats tell apart.
TIED = ((1, 2, -3), (1, 2, 3), (-3, 1, 2, 7), (1, 1, 1, -1), (3, 6, -9, 1, 2), (-2,) * 9)


def changes(seed: int, n: int, *, mean: float = 0.0) -> Floats:
    """Changes of n documents, skewed, of which none is 0 and no two are alike."""
    generator = np.random.default_rng(seed)
    skewed: Floats = generator.exponential(1.0, n) * generator.choice([-1.0, 1.0], n)
    return skewed + mean


def scipys(values: Floats, alternative: Alternative, *, drawn: int = 2**20) -> float:
    """P of the paired permutation test by scipy: over all signs, or over as many as are drawn."""
    found: Any = stats.permutation_test(
        (values,),
        lambda x, axis: x.sum(axis),
        permutation_type="samples",
        n_resamples=drawn,
        alternative=alternative,
        vectorized=True,
        rng=np.random.default_rng(1),
    )
    return float(found.pvalue)


def enumerated(values: Sequence[Fraction]) -> tuple[int, int]:
    """Of all signs those with a sum as low, and those as far from 0, in exact arithmetic."""
    sums = [
        sum((s * v for s, v in zip(signs, values, strict=True)), Fraction())
        for signs in _signs(len(values))
    ]
    measured = sum(values, Fraction())
    return sum(s <= measured for s in sums), sum(abs(s) >= abs(measured) for s in sums)


def _signs(n: int) -> product[tuple[int, ...]]:
    return product((1, -1), repeat=n)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n", "mean"), [(2, 0.0), (5, -1.0), (8, 0.4), (9, -0.6), (13, 0.2)])
def test_all_assignments_give_scipys_p(n: int, mean: float, device: str) -> None:
    """Up to 13 documents all signs are counted: p is scipy's to the last digit, on both sides."""
    values = changes(n, n, mean=mean)
    found = sign_flips(torch.from_numpy(values).to(device))
    assert (found.exact, found.permutations) == (True, 2**n)
    assert found.two_sided == scipys(values, "two-sided")
    assert found.one_sided == scipys(values, "less")


def test_the_comparison_with_scipy_can_fail() -> None:
    """Control for the test above: one document whose change is another gives another p."""
    values = changes(9, 9, mean=-0.6)
    moved = values.copy()
    moved[0] = -3.0 * moved[0]
    found = sign_flips(torch.from_numpy(moved))
    assert found.two_sided != scipys(values, "two-sided")
    assert found.one_sided != scipys(values, "less")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mean", [-0.7, -0.2, 0.5])
def test_drawn_assignments_give_scipys_p_within_their_error(mean: float, device: str) -> None:
    """Of 16 documents 9,999 signs are drawn; scipy counts all 65,536, or draws its own."""
    values = changes(3, 16, mean=mean)
    found = sign_flips(torch.from_numpy(values).to(device))
    assert (found.exact, found.permutations) == (False, 9_999)
    sides: tuple[tuple[float, Alternative], ...] = (
        (found.two_sided, "two-sided"),
        (found.one_sided, "less"),
    )
    for p, side in sides:
        exact = scipys(values, side)
        error = sqrt(exact * (1 - exact) / 10_000)
        assert p == pytest.approx(exact, abs=4.5 * error + 1e-4)
        other = scipys(values, side, drawn=9_999)
        assert p == pytest.approx(other, abs=9 * error + 1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [15, 64, 65, 71, 100, 203])
def test_many_documents_have_the_distribution_of_their_sum(n: int, device: str) -> None:
    """Also where they fill no whole bytes: whole numbers, whose sums' chances are a convolution."""
    generator = np.random.default_rng(n)
    values = generator.integers(1, 5, n) * generator.choice([-1, 1], n, p=[0.56, 0.44])
    chances = np.ones(1)  # of the sums -k, ..., k, by steps of one
    for value in abs(values):
        step = np.zeros(2 * value + 1)
        step[[0, -1]] = 0.5
        chances = np.convolve(chances, step)
    reach, measured = abs(values).sum(), values.sum()
    sums = np.arange(-reach, reach + 1)
    found = sign_flips(torch.from_numpy(values.astype(np.float64)).to(device))
    for p, counted in (
        (found.one_sided, sums <= measured),
        (found.two_sided, abs(sums) >= abs(measured)),
    ):
        expected = chances[counted].sum()
        error = sqrt(expected * (1 - expected) / 10_000)
        assert p == pytest.approx(expected, abs=4.5 * error + 1e-4)


@pytest.mark.parametrize("tenths", TIED)
def test_ties_are_ties_however_they_are_rounded(tenths: tuple[int, ...]) -> None:
    """0.1 + 0.2 is as far from 0 as 0.3: counted in fractions, where it is exactly so."""
    found = sign_flips(torch.tensor([k / 10 for k in tenths], dtype=torch.float64))
    assert (found.lower, found.farther) == enumerated([Fraction(k, 10) for k in tenths])


def test_ties_can_be_missed() -> None:
    """Control for the test above: floats compared digit by digit do miss some of them."""
    missed = 0
    for tenths in TIED:
        values = np.array([k / 10 for k in tenths])
        sums = np.array(list(_signs(len(tenths)))) @ values
        naive = int((sums <= values.sum()).sum())
        missed += naive != enumerated([Fraction(k, 10) for k in tenths])[0]
    assert missed


def test_float32_and_halves_are_counted_as_what_they_are() -> None:
    """Scores in single precision: the same counts as of the same numbers in double."""
    values = torch.tensor([0.25, -0.5, 0.125, 0.75, -0.0625, 1.0])
    assert sign_flips(values) == sign_flips(values.double())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [10, 40])
def test_swapping_all_signs_swaps_the_sides(n: int, device: str) -> None:
    """What was as low is then as high; how far from 0 stays. One assignment is both."""
    values = torch.from_numpy(changes(5, n, mean=-0.3)).to(device)
    there, back = sign_flips(values), sign_flips(-values)
    assert there.farther == back.farther
    both = there.lower + back.lower - there.permutations
    assert both == (1 if there.exact else 0)  # the measured one, where it is among them
    assert there.lower != back.lower


@pytest.mark.parametrize("n", [6, 40])
def test_documents_that_did_not_change_count_for_nothing(n: int) -> None:
    """A change of 0 has no sign: with any number of them the counts are the same."""
    values = torch.from_numpy(changes(6, n))
    with_zeros = torch.zeros(3 * n, dtype=torch.float64)
    with_zeros[1::3] = values
    assert sign_flips(with_zeros) == sign_flips(values)


@pytest.mark.parametrize("n", [0, 1, 30])
def test_nothing_changed_has_nothing_to_test(n: int) -> None:
    """nan, not 1: it is no evidence that the runs are alike."""
    found = sign_flips(torch.zeros(n))
    assert found == SignFlips(permutations=0, lower=0, farther=0, exact=True)
    assert isnan(found.two_sided)
    assert isnan(found.one_sided)


def test_one_changed_document_may_as_well_have_changed_the_other_way() -> None:
    """By hand: of two signs one is as low as a loss, both are as far from 0."""
    lost, won = sign_flips(torch.tensor([-0.2])), sign_flips(torch.tensor([0.2]))
    assert (lost.one_sided, lost.two_sided) == (0.5, 1.0)
    assert (won.one_sided, won.two_sided) == (1.0, 1.0)


@pytest.mark.parametrize("device", DEVICES)
def test_the_seed_decides_the_draw(device: str) -> None:
    """The same seed gives the same counts, another one others; a full count needs none."""
    drawn = torch.from_numpy(changes(7, 30)).to(device)
    assert sign_flips(drawn, seed=3) == sign_flips(drawn, seed=3)
    assert sign_flips(drawn, seed=3) != sign_flips(drawn, seed=4)
    assert sign_flips(drawn[:10], seed=3) == sign_flips(drawn[:10], seed=4)


def test_the_draw_leaves_the_common_generator_alone() -> None:
    """It takes nothing from torch's own stream of random numbers."""
    state = torch.random.get_rng_state()
    sign_flips(torch.from_numpy(changes(7, 30)))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_more_permutations_turn_a_draw_into_a_count() -> None:
    """Allowed 2^n or more, all are counted once; with one less they are drawn."""
    values = torch.from_numpy(changes(8, 10))
    assert sign_flips(values, permutations=1024).exact
    assert not sign_flips(values, permutations=1023).exact
    assert sign_flips(values, permutations=1023).permutations == 1023


def test_counting_in_parts_is_counting_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many assignments at a time as memory allows: parts of 5 or of all give one count."""
    values = torch.from_numpy(changes(9, 12))
    whole = sign_flips(values)
    monkeypatch.setattr(permutation, "STEP", 10)
    assert sign_flips(values) == whole


def test_a_p_has_no_floor_and_is_never_nothing() -> None:
    """Sixty documents that all fell: 2^-60, which no number of plain draws would show."""
    found = sign_flips(-torch.ones(60))
    assert found.one_sided == pytest.approx(0.5**60, rel=1e-6)
    assert found.two_sided == pytest.approx(0.5**59, rel=1e-6)
    assert sign_flips(torch.ones(60)).one_sided == 1.0


@pytest.mark.parametrize("fallen", [20, 19])
def test_a_small_p_is_that_of_all_assignments(fallen: int) -> None:
    """Twenty documents of unequal changes, all 2^20 assignments counted; less than a tenth off."""
    sizes = torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    changes = torch.where(torch.arange(20) < fallen, -sizes, sizes)
    bits = (np.arange(2**20)[:, None] >> np.arange(20)) & 1
    sums = (1.0 - 2.0 * bits) @ sizes.numpy()
    expected = np.mean(sums <= float(changes.sum()) + 1e-9)
    assert expected < 0.001
    for found in (sign_flips(changes), sign_flips(1000 * changes)):
        assert found.one_sided == pytest.approx(expected, rel=0.1)
        assert found.two_sided == pytest.approx(2 * expected, rel=0.1)
    assert sign_flips(-changes).one_sided > 0.99


def test_a_small_p_of_equal_changes_is_the_binomial() -> None:
    """80 of 100 documents fell by the same: equal sums count, as in exact McNemar's test."""
    changes = torch.tensor([-0.3] * 80 + [0.3] * 20)
    expected = stats.binomtest(20, 100, alternative="less").pvalue
    assert sign_flips(changes).one_sided == pytest.approx(expected, rel=0.1)


def alarms(n: int, draw: Callable[[torch.Generator], Tensor], draws: int = 2000) -> list[float]:
    """Shares of draws that are called different, and worse, at 5 %."""
    generator = torch.Generator().manual_seed(n)
    found = [sign_flips(draw(generator), permutations=999, seed=i) for i in range(draws)]
    return [
        sum(p < 0.05 for p in ps) / draws
        for ps in ([own.two_sided for own in found], [own.one_sided for own in found])
    ]


def _heavy_tailed(n: int, generator: torch.Generator) -> Tensor:
    """Differences of two runs of one model: most small, a few large, many none."""
    both = torch.rand(2, n, generator=generator, dtype=torch.float64) ** 4
    return torch.where(torch.rand(n, generator=generator) < 0.3, 0.0, both[1] - both[0])


@pytest.mark.simulation
@pytest.mark.parametrize("n", [6, 9, 14, 25])
def test_two_runs_of_one_model_raise_few_false_alarms(n: int) -> None:
    """At 5 % in at most 5 % of 2,000 draws, plus three standard errors of that count."""
    for share in alarms(n, lambda generator: _heavy_tailed(n, generator)):
        assert share <= 0.05 + 3 * sqrt(0.05 * 0.95 / 2000)


@pytest.mark.simulation
def test_false_alarms_are_counted() -> None:
    """Control for the test above: with each document taken for three there are far more."""
    for share in alarms(12, lambda generator: _heavy_tailed(12, generator).repeat(3), draws=500):
        assert share > 0.15


@pytest.mark.simulation
def test_a_loss_is_found() -> None:
    """Control: 14 documents that fell by half of their spread are called worse in most draws."""

    def worse(generator: torch.Generator) -> Tensor:
        return torch.randn(14, generator=generator, dtype=torch.float64) - 1.0

    two_sided, one_sided = alarms(14, worse, draws=300)
    assert one_sided > two_sided > 0.8


def test_p_is_near_students_where_that_holds() -> None:
    """Of 400 normal changes it is, to a hundredth, that of a t test."""
    values = torch.randn(400, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    expected = t_test(float(values.mean()), float(values.std()) / 20, 399)
    assert sign_flips(values).two_sided == pytest.approx(expected, abs=0.01)
