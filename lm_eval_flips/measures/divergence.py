"""Distances between the two models' distributions over the choices of a sample, in nats.

KL(baseline || compressed) is the one the paper reports (arXiv 2407.09141, section 3). The other
direction, Jensen-Shannon (at most ln 2) and total variation (a share, 0..1) are given beside it.

The arithmetic is float64: the log-likelihoods are logged to 17 digits, and at the distances of a
good 8-bit model (1e-5 nats) float32 would spend 1 % of the value on rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, nan

import torch
from torch import Tensor

from lm_eval_flips.shapes import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Distances of each sample, ``[samples]``: nats, but total_variation is a share 0..1."""

    kl: Float[Tensor, " samples"]
    reverse_kl: Float[Tensor, " samples"]
    jensen_shannon: Float[Tensor, " samples"]
    total_variation: Float[Tensor, " samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Mean, median, 99th percentile and largest of the samples' values; nan for none.

    ``infinite`` is the number of samples whose value is infinite: then so is the mean.
    """

    mean: float
    median: float
    p99: float
    max: float
    infinite: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Distances between the two runs' distributions over the choices, over ``n`` samples."""

    n: int
    choice_kl: Summary
    choice_kl_reverse: Summary
    jensen_shannon: Summary
    total_variation: Summary


# The distances by the keys of their numbers, and where a divergence holds them.
DISTANCES = {
    "choice_kl": "kl",
    "choice_kl_reverse": "reverse_kl",
    "jensen_shannon": "jensen_shannon",
    "total_variation": "total_variation",
}


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    # Where p is 0 (a choice the sample does not have, or one ruled out by the model) the term is 0,
    # also if q is 0 there too and the difference is nan.
    terms = log_p.exp() * (log_p - log_q)
    # Where only q is 0 the term is infinite, also if p is too small for a float.
    terms = torch.where(log_q.isneginf(), torch.inf, terms)
    return torch.where(log_p.isneginf(), 0.0, terms).sum(-1).clamp_min(0.0)


def choice_divergence(
    *,
    baseline: Float[Tensor, "samples choices"],
    compressed: Float[Tensor, "samples choices"],
) -> Divergence:
    """Distances between the softmaxes of two runs' log-likelihoods over each sample's choices.

    Args:
        baseline: log-likelihoods (nats) as the metric compares them; -inf pads a sample that has
            fewer choices than the widest.
        compressed: the same of the compressed run, the same samples and choices.

    Returns:
        One distance a sample. KL is inf where only the second distribution rules a choice out, nan
        where a sample has no finite log-likelihood at all.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[0.0, -2.0, -torch.inf]]), torch.zeros(1, 3)
        >>> unsure[0, 2] = -torch.inf
        >>> choice_divergence(baseline=sure, compressed=unsure).kl
        tensor([0.3278], dtype=torch.float64)
    """
    log_p = baseline.double().log_softmax(-1)
    log_q = compressed.double().log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - log(2)
    return Divergence(
        kl=_kl(log_p, log_q),
        reverse_kl=_kl(log_q, log_p),
        jensen_shannon=(_kl(log_p, log_m) + _kl(log_q, log_m)) / 2,
        total_variation=(log_p.exp() - log_q.exp()).abs().sum(-1) / 2,
    )


def summarise(values: Float[Tensor, " samples"]) -> Summary:
    """Mean, median, p99 and max; quantiles interpolate linearly as numpy's do.

    Example:
        >>> import torch
        >>> summarise(torch.tensor([0.0, 1.0, 2.0, 102.0]))
        Summary(mean=26.25, median=1.5, p99=98.99..., max=102.0, infinite=0)
    """
    if values.numel() == 0:
        return Summary(mean=nan, median=nan, p99=nan, max=nan)
    parts = [
        values.mean(),
        *_around(values, 0.5),
        *_around(values, 0.99),
        values.max(),
        values.isposinf().sum(),
    ]
    # read at once: a GPU is waited for at each reading
    mean, *ends, largest, infinite = torch.stack([part.double() for part in parts]).tolist()
    return Summary(
        mean=mean,
        median=_between(*ends[:2], share=0.5, n=values.numel()),
        p99=_between(*ends[2:], share=0.99, n=values.numel()),
        max=largest,
        infinite=int(infinite),
    )


def summarise_distances(divergences: Sequence[Divergence]) -> Distances:
    """Sum up the distances of several tasks' samples together.

    Example:
        >>> same = choice_divergence(baseline=torch.zeros(2, 3), compressed=torch.zeros(2, 3))
        >>> summarise_distances([same, same]).n
        4
    """
    return Distances(
        n=sum(divergence.kl.numel() for divergence in divergences),
        **{
            key: summarise(torch.cat([getattr(divergence, name) for divergence in divergences]))
            for key, name in DISTANCES.items()
        },
    )


def quantile(values: Float[Tensor, " samples"], share: float) -> float:
    """The value below which a share of the samples lies, interpolated linearly.

    Example:
        >>> quantile(torch.tensor([1.0, 2.0, 4.0]), 0.75)
        3.0
    """
    below, above = torch.stack(_around(values, share)).tolist()
    return _between(below, above, share=share, n=values.numel())


def _around(values: Tensor, share: float) -> list[Tensor]:
    """The two values that a quantile lies between, which may be one."""
    # torch.quantile refuses more than 2**24 values; selecting two of them is also faster
    place = share * (values.numel() - 1)
    low = int(place)
    below = values.kthvalue(low + 1).values
    return [below, below if place == low else values.kthvalue(low + 2).values]


def _between(below: float, above: float, *, share: float, n: int) -> float:
    place = share * (n - 1)
    return below if below == above else below + (above - below) * (place - int(place))
