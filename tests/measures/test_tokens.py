"""Distances summed up over requests and positions: numpy, a count by hand, every edge by name."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isnan

import jaxtyping
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.measures.tokens import (
    TokenSummary,
    first_values,
    request_means,
    sample_means,
    summarise_tokens,
)

NAMES = ("per_request_mean", "mean", "median", "p99", "max", "first_position_mean")


def random_requests(
    generator: torch.Generator, n: int = 200
) -> tuple[Tensor, Tensor, list[NDArray[np.float64]]]:
    """Values, counts, and the values of each request by itself; one to nine positions."""
    counts = torch.randint(1, 10, (n,), generator=generator)
    values = torch.rand(int(counts.sum()), generator=generator)
    bounds = counts.cumsum(0)[:-1].numpy()
    return values, counts, list(np.split(values.double().numpy(), bounds))


def by_numpy(rows: Sequence[NDArray[np.float64]]) -> list[float]:
    """The six numbers, from each request's own values."""
    flat = np.concatenate(rows)
    return [
        float(np.mean([row.mean() for row in rows])),
        float(flat.mean()),
        float(np.median(flat)),
        float(np.quantile(flat, 0.99)),
        float(flat.max()),
        float(np.mean([row[0] for row in rows])),
    ]


def numbers(found: TokenSummary) -> list[float]:
    """The six numbers of a summary."""
    return [getattr(found, name) for name in NAMES]


def test_a_summary_is_what_numpy_finds(device: str, generator: torch.Generator) -> None:
    """All six numbers of requests of one to nine positions, and how many there are."""
    values, counts, rows = random_requests(generator)
    found = summarise_tokens(values.to(device), counts.to(device))
    assert numbers(found) == pytest.approx(by_numpy(rows), rel=1e-12)
    assert (found.requests, found.positions) == (200, len(values))


def test_the_check_of_a_summary_can_fail(generator: torch.Generator) -> None:
    """Control: a position that belongs to another request changes two numbers, and only those."""
    values, counts, rows = random_requests(generator)
    place = int((counts[:-1] > 1).nonzero()[0])
    counts[place] -= 1
    counts[place + 1] += 1
    found = numbers(summarise_tokens(values, counts))
    same = [a == pytest.approx(b, rel=1e-12) for a, b in zip(found, by_numpy(rows), strict=True)]
    assert same == [False, True, True, True, True, False]


def test_a_summary_counted_by_hand(device: str) -> None:
    """Requests (1), (2, 4) and (3, 3, 9): means 1, 3 and 5, first positions 1, 2 and 3."""
    values = torch.tensor([1.0, 2.0, 4.0, 3.0, 3.0, 9.0], device=device)
    found = summarise_tokens(values, torch.tensor([1, 2, 3], device=device))
    assert found.per_request_mean == 3.0
    assert found.mean == pytest.approx(22 / 6)
    assert found.median == 3.0
    assert found.p99 == pytest.approx(4 + 5 * 0.95)
    assert found.max == 9.0
    assert found.first_position_mean == 2.0


def test_long_requests_count_for_more_only_in_the_mean_over_positions() -> None:
    """A long request of 1 and a short one of 0: 1/2 by request, 9/10 by position."""
    values, counts = torch.tensor([1.0] * 9 + [0.0]), torch.tensor([9, 1])
    found = summarise_tokens(values, counts)
    assert found.per_request_mean == 0.5
    assert found.mean == pytest.approx(0.9)


def test_requests_of_one_length_have_one_mean(generator: torch.Generator) -> None:
    """By request or by position is the same then."""
    values = torch.rand(60, generator=generator)
    found = summarise_tokens(values, torch.full((20,), 3))
    assert found.per_request_mean == pytest.approx(found.mean, rel=1e-12)


def test_where_only_first_positions_are_known_nothing_else_is_said(device: str) -> None:
    """What needs all positions is nan; the same values as all of them give every number."""
    values, counts = torch.tensor([1.0, 2.0, 6.0], device=device), torch.ones(3, device=device)
    counts = counts.long()
    found = summarise_tokens(values, counts, first_only=True)
    assert found.first_position_mean == 3.0
    assert [name for name in NAMES if isnan(getattr(found, name))] == list(NAMES[:-1])
    assert (found.requests, found.positions) == (3, 3)
    assert not any(map(isnan, numbers(summarise_tokens(values, counts))))


@pytest.mark.parametrize("first_only", [False, True])
def test_no_position_gives_no_number(device: str, first_only: bool) -> None:
    """Nan, never 0."""
    nothing = torch.zeros(0, device=device)
    found = summarise_tokens(nothing, nothing.long(), first_only=first_only)
    assert all(map(isnan, numbers(found)))
    assert (found.requests, found.positions) == (0, 0)


def test_an_infinite_distance_is_in_the_means_and_not_in_the_median() -> None:
    """A token that the compressed model rules out."""
    found = summarise_tokens(torch.tensor([0.0, 1.0, inf, 2.0, 3.0]), torch.tensor([2, 3]))
    assert (found.per_request_mean, found.mean, found.max) == (inf, inf, inf)
    assert (found.median, found.first_position_mean) == (2.0, inf)


def test_single_precision_values_are_summed_in_double() -> None:
    """A million positions of 0.1 and a large first one: a float32 sum would be off by far."""
    values = torch.full((1_000_001,), 0.1)
    values[0] = 1e7
    expected = float(values.double().numpy().sum() / len(values))
    found = summarise_tokens(values, torch.tensor([len(values)]))
    assert found.mean == pytest.approx(expected, rel=1e-13)
    assert found.per_request_mean == pytest.approx(expected, rel=1e-9)
    naive = np.add.accumulate(values.numpy(), dtype=np.float32)[-1] / len(values)
    assert abs(float(naive) - expected) > 1e-3


def test_request_means_and_first_values_are_each_request_s_own(
    device: str, generator: torch.Generator
) -> None:
    """In the order of the requests."""
    values, counts, rows = random_requests(generator)
    means = request_means(values.to(device), counts.to(device))
    firsts = first_values(values.to(device), counts.to(device))
    np.testing.assert_allclose(means.cpu(), [row.mean() for row in rows], rtol=1e-12)
    np.testing.assert_array_equal(firsts.double().cpu(), [row[0] for row in rows])
    assert means.dtype == torch.float64


def test_sample_means_are_over_a_sample_s_requests(generator: torch.Generator) -> None:
    """Requests of a sample need not follow each other; a sample without one is nan."""
    values = torch.rand(90, generator=generator)
    owners = torch.randint(0, 20, (90,), generator=generator)
    owners[owners == 7] = 8
    found = sample_means(values, owners, samples=21)
    wide, own = values.double().numpy(), owners.numpy()
    expected = [wide[own == i].mean() if (own == i).any() else np.nan for i in range(21)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.isnan().nonzero()[:, 0].tolist() == [7, 20]


def test_the_paper_s_mean_is_over_requests_not_over_samples() -> None:
    """Two requests of one sample and one of another: 3, where the mean of the samples is 3.5."""
    values, owners = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1])
    found = summarise_tokens(values, torch.ones(3).long())
    assert found.per_request_mean == 3.0
    assert float(sample_means(values, owners, samples=2).mean()) == 3.5


def test_counts_that_are_no_whole_numbers_are_refused() -> None:
    """The types in the signature are checked under test."""
    with pytest.raises(jaxtyping.TypeCheckError, match="counts"):
        summarise_tokens(torch.zeros(2), torch.ones(2))
