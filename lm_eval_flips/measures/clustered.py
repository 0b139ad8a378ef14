"""Standard errors of means over samples that are not independent.

Clusters of unequal size need care: the usual cluster-robust error (Liang and Zeger 1986) is too
small where a few clusters hold most samples. Here it is CR2, each cluster's residuals divided by
what the mean took from them, with Satterthwaite's degrees of freedom (Bell and McCaffrey 2002,
Survey Methodology 28, 169-181; Imbens and Kolesar 2016, Rev. Econ. Stat. 98, 701-712). With equal
clusters that is the usual error with G / (G - 1) and G - 1 degrees of freedom, and with every
sample a cluster of its own the ordinary standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.shapes import Float, Int

ROUNDING = 1e-10  # of what is summed up, below which a sum is 0
SHIFT = 1e-3  # of the values themselves, whose rounding their differences from the mean keep


def standard_error(
    values: Float[Tensor, " samples"], clusters: Int[Tensor, " samples"]
) -> tuple[float, float]:
    """Cluster-robust standard error of the mean (CR2), and its degrees of freedom.

    Args:
        values: one number a sample.
        clusters: the cluster of each sample, numbered from 0; samples of different clusters are
            independent.

    Returns:
        ``(nan, 0.0)`` for fewer than two clusters; an error of 0 where all clusters are alike, up
        to rounding.

    Example:
        >>> standard_error(torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([0, 0, 1, 1]))
        (1.0..., 1.0)
    """
    groups = int(clusters.max()) + 1 if clusters.numel() else 0
    if groups < 2:
        return nan, 0.0
    variance = mean_variances(values[:, None], clusters, groups=groups)
    return sqrt(float(variance)), freedom_of(torch.bincount(clusters).double() / clusters.numel())


def mean_variances(
    values: Float[Tensor, "samples columns"], clusters: Int[Tensor, " samples"], *, groups: int
) -> Float[Tensor, " columns"]:
    """Cluster-robust variance (CR2) of each column's mean; nan for fewer than two clusters.

    Args:
        values: some numbers a sample.
        clusters: the cluster of each sample, numbered from 0.
        groups: number of clusters.

    Example:
        >>> mean_variances(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]), groups=2)
        tensor([1.], dtype=torch.float64)
    """
    samples, columns = values.shape
    if groups < 2:
        return torch.full((columns,), nan, dtype=torch.float64, device=values.device)
    whole = values.double()
    centred = whole - whole.mean(0)
    if groups == samples:  # every sample is a cluster: nothing is to be summed up
        small = centred.abs() <= _scale(centred.clone(), whole).mul_(ROUNDING)
        squares = centred.masked_fill_(small, 0.0).square_()
        return squares.sum(0) / (1 - 1 / samples) / samples**2
    sums, scales = _zeros(whole, groups), _zeros(whole, groups)
    sums.index_add_(0, clusters, centred)
    scales.index_add_(0, clusters, _scale(centred, whole))
    sums.masked_fill_(sums.abs() <= scales.mul_(ROUNDING), 0.0)
    # of a cluster's residuals that much is left, after the mean took its part
    sizes = torch.bincount(clusters, minlength=groups).double()[:, None]
    squares = sums.square_().div_(1 - sizes / samples)
    variances: Tensor = squares.sum(0) / samples**2
    return variances


def _zeros(like: Tensor, rows: int) -> Tensor:
    """Zeros with as many columns, laid out in memory alike, so that a column is summed up alike."""
    if like.is_contiguous():
        return like.new_zeros((rows, like.shape[1]))
    return like.new_zeros((like.shape[1], rows)).T


def _scale(centred: Tensor, whole: Tensor) -> Tensor:
    """What a sum is rounded by: it follows what is summed up. It takes the place of ``centred``."""
    return centred.abs_().add_(whole.abs().mul_(SHIFT))


def stratified_variances(
    values: Float[Tensor, "samples columns"], sizes: Sequence[int]
) -> Float[Tensor, " columns"]:
    """Variance of each column's mean over strata of independent samples, one after the other.

    The same as ``mean_variances`` of each stratum, weighted by the square of its share of the
    samples, in as many steps for many strata as for one.

    Args:
        values: some numbers a sample, a stratum's samples together.
        sizes: samples of each stratum; nan for one of a single sample.

    Example:
        >>> values = torch.tensor([[1.0], [3.0], [5.0], [5.0]])
        >>> stratified_variances(values, [2, 2])
        tensor([0.2500], dtype=torch.float64)
    """
    whole, samples = values.double(), len(values)
    if min(sizes) < 2:
        return torch.full((values.shape[1],), nan, dtype=torch.float64, device=values.device)
    of_stratum = torch.tensor(sizes, device=values.device)
    owner = torch.repeat_interleave(torch.arange(len(sizes), device=values.device), of_stratum)
    empty = _zeros(whole, len(sizes))
    means = empty.index_add(0, owner, whole) / of_stratum[:, None]
    centred = whole - means.T.repeat_interleave(of_stratum, dim=1).T
    small = centred.abs() <= _scale(centred.clone(), whole).mul_(ROUNDING)
    squares = centred.masked_fill_(small, 0.0).square_()
    of_each = empty.index_add(0, owner, squares) / (1 - 1 / of_stratum.double())[:, None]
    return of_each.sum(0) / samples**2


def freedom_of(shares: Float[Tensor, " clusters"]) -> float:
    """Satterthwaite's degrees of freedom of CR2, for clusters that hold these shares of all.

    Example:
        >>> round(freedom_of(torch.full((10,), 0.1, dtype=torch.float64)), 6)
        9.0
        >>> round(freedom_of(torch.tensor([0.91] + [0.01] * 9, dtype=torch.float64)), 2)
        1.18
    """
    shares = shares.double()
    taken = shares**2 / (1 - shares)
    off_diagonal = taken.sum() ** 2 - (taken**2).sum()
    return float(1 / ((shares**2).sum() + off_diagonal))


def effective_clusters(sizes: Sequence[int]) -> float:
    """Kish's number of equal clusters that tell as much: (sum of n)^2 / sum of n^2.

    Example:
        >>> effective_clusters([100] * 12)
        12.0
        >>> round(effective_clusters([10_042, *[200] * 9]), 2)
        1.39
    """
    return sum(sizes) ** 2 / sum(size**2 for size in sizes)
