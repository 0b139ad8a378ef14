"""Distances over the whole vocabulary, position by position, summed up as the paper does.

A request is one question with one of its choices; its positions are the tokens of the choice. The
paper takes the mean over a request's positions, then over all requests (arXiv 2407.09141, the
authors' scripts): ``per_request_mean``. The mean over all positions counts long choices for more.
At the first position a letter is chosen; choices of several tokens share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan

import torch
from torch import Tensor

from lm_eval_flips.measures.correlation import SampleCorrelation
from lm_eval_flips.measures.divergence import Summary, summarise
from lm_eval_flips.shapes import Float, Int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSummary:
    """A distance over the scored positions of some requests; nan for none."""

    requests: int
    positions: int
    per_request_mean: float
    mean: float
    median: float
    p99: float
    max: float
    first_position_mean: float

    @property
    def typical(self) -> float:
        """The paper's mean over requests; over first positions where only those are known."""
        mean = self.per_request_mean
        return self.first_position_mean if isnan(mean) else mean


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDistances:
    """Distances over the whole vocabulary at the scored positions, of ``n`` samples.

    ``same_top`` is the share of positions at which both models hold the same token most likely,
    ``logprob_change`` how much likelier the compressed model holds the scored token (nats).
    ``top`` is K where the divergences are lower bounds over the K most likely tokens and the rest.
    ``correlation`` relates a sample's token_kl to its answer, None where that has none.
    """

    n: int
    token_kl: TokenSummary
    token_kl_reverse: TokenSummary
    token_jensen_shannon: TokenSummary
    token_total_variation: TokenSummary
    same_top: TokenSummary
    logprob_change: TokenSummary
    top: int | None
    correlation: SampleCorrelation | None


def request_means(
    values: Float[Tensor, " positions"], counts: Int[Tensor, " requests"]
) -> Float[Tensor, " requests"]:
    """Mean of each request's values, which follow each other.

    Example:
        >>> request_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2, 1]))
        tensor([2., 5.], dtype=torch.float64)
    """
    places = torch.arange(len(counts), device=counts.device)
    # the size is known; a GPU would be waited for to find it
    owner = torch.repeat_interleave(places, counts, output_size=len(values))
    sums = torch.zeros(len(counts), dtype=torch.float64, device=values.device)
    return sums.index_add_(0, owner, values.double()) / counts


def sample_means(
    values: Float[Tensor, " requests"], owners: Int[Tensor, " requests"], *, samples: int
) -> Float[Tensor, " samples"]:
    """Mean over the requests of each sample, which are numbered from 0; nan for one without.

    Example:
        >>> sample_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), samples=2)
        tensor([2., 5.], dtype=torch.float64)
    """
    sums = torch.zeros(samples, dtype=torch.float64, device=values.device)
    sums.index_add_(0, owners, values.double())
    return sums / torch.bincount(owners, minlength=samples)


def first_values(
    values: Float[Tensor, " positions"], counts: Int[Tensor, " requests"]
) -> Float[Tensor, " requests"]:
    """Value at the first position of each request.

    Example:
        >>> first_values(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2, 1]))
        tensor([1., 5.])
    """
    return values[counts.cumsum(0) - counts]


def summarise_tokens(
    values: Float[Tensor, " positions"],
    counts: Int[Tensor, " requests"],
    *,
    first_only: bool = False,
) -> TokenSummary:
    """Sum up a distance over requests and over positions.

    Args:
        values: the distance at every position, request after request.
        counts: number of positions of each request, at least one.
        first_only: only first positions are known; what needs all of them is nan.

    Example:
        >>> found = summarise_tokens(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2, 1]))
        >>> found.per_request_mean, found.mean, found.first_position_mean
        (3.5, 3.0, 3.0)
    """
    requests, positions = counts.numel(), values.numel()
    if not positions:
        return TokenSummary(
            requests=requests,
            positions=0,
            **dict.fromkeys(
                ("per_request_mean", "mean", "median", "p99", "max", "first_position_mean"), nan
            ),
        )
    values = values.double()
    whole = Summary(mean=nan, median=nan, p99=nan, max=nan) if first_only else summarise(values)
    means = torch.stack([request_means(values, counts).mean(), first_values(values, counts).mean()])
    per_request, first = means.tolist()
    return TokenSummary(
        requests=requests,
        positions=positions,
        per_request_mean=nan if first_only else per_request,
        mean=whole.mean,
        median=whole.median,
        p99=whole.p99,
        max=whole.max,
        first_position_mean=first,
    )
