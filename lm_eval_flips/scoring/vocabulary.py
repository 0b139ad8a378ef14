"""Distances between two models' distributions over the whole vocabulary, position by position.

KL(baseline || compressed) is what the paper reports as KL-Divergence with ARC (arXiv 2407.09141):
its mean over a continuation's tokens, then over all requests. One minus the total variation is the
expected acceptance rate of speculative decoding (Leviathan et al. 2023, arXiv 2211.17192, section
3.1). All arithmetic is float32.

Each divergence is the sum of p log(p / q) - p + q, whose terms are not negative. That is the same,
as p and q sum to 1, but rounding in either norm enters squared instead of as it is: equal
distributions are 0, and elsewhere a KL is off by about 3e-8 nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from lm_eval_flips.shapes import Bool, Float, Int

STEP = 1 << 19  # numbers of a distribution worked on at once, so that they stay in the cache
GPU_STEP = 1 << 26
UNDERFLOW = -85.0  # nats below the most likely token: p and q are still full float32 numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScores:
    """What one model says at each position: its most likely token, and the log of its norm.

    A token's log-probability is its logit less ``lognorm`` (nats).
    """

    lognorm: Float[Tensor, " positions"]
    top: Int[Tensor, " positions"]

    def cpu(self) -> TokenScores:
        """The same on the CPU."""
        return TokenScores(lognorm=self.lognorm.cpu(), top=self.top.cpu())


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyDistances:
    """Distances at each position: nats, but total_variation is a share 0..1.

    ``baseline`` and ``compressed`` are what each model says by itself.
    """

    kl: Float[Tensor, " positions"]
    reverse_kl: Float[Tensor, " positions"]
    jensen_shannon: Float[Tensor, " positions"]
    total_variation: Float[Tensor, " positions"]
    baseline: TokenScores
    compressed: TokenScores

    def cpu(self) -> VocabularyDistances:
        """The same on the CPU."""
        return VocabularyDistances(
            kl=self.kl.cpu(),
            reverse_kl=self.reverse_kl.cpu(),
            jensen_shannon=self.jensen_shannon.cpu(),
            total_variation=self.total_variation.cpu(),
            baseline=self.baseline.cpu(),
            compressed=self.compressed.cpu(),
        )

    @property
    def same_top(self) -> Bool[Tensor, " positions"]:
        """Whether both models hold the same token most likely."""
        return self.baseline.top == self.compressed.top


def vocabulary_distances(
    *,
    baseline: Float[Tensor, "positions tokens"],
    compressed: Float[Tensor, "positions tokens"],
) -> VocabularyDistances:
    """Distances between the softmaxes of two models' logits.

    Args:
        baseline: logits of the baseline, -inf for a token that it rules out.
        compressed: logits of the compressed model over the same tokens.

    Returns:
        KL is inf where only the second model rules a token out, nan where logits are nan.

    Example:
        >>> p, q = torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([[0.4, 0.4, 0.2]]).log()
        >>> vocabulary_distances(baseline=p, compressed=q).kl
        tensor([0.0253])
    """
    steps = list(zip(_steps(baseline), _steps(compressed), strict=True))
    # five tensors of a step's size, made once: making them anew takes as long as filling them
    buffers = tuple(torch.empty_like(steps[0][0], dtype=torch.float32) for _ in range(5))
    return joined([_distances(p, q, buffers) for p, q in steps])


def token_scores(logits: Float[Tensor, "positions tokens"]) -> TokenScores:
    """The most likely token at each position, the first of equals, and the log of the norm.

    Example:
        >>> found = token_scores(torch.tensor([[0.0, 1.0]]))
        >>> found.lognorm, found.top
        (tensor([1.3133]), tensor([1]))
    """
    return _joined_scores([_scores(step, _logprobs(step)) for step in _steps(logits)])


def _logprobs(logits: Tensor) -> Tensor:
    found = logits.log_softmax(-1, dtype=torch.float32)
    return _normed(found, torch.empty_like(found))


def _normed(logprobs: Tensor, probabilities: Tensor) -> Tensor:
    """Log-probabilities whose norm is summed in many parts, within 3e-7 of 1; fills the other.

    The fused log_softmax adds a vocabulary up in as few parts as a processor's vectors have places:
    with eight of them the norm is off by 7e-6, and each distance by as large a share.
    """
    norm = torch.exp(logprobs, out=probabilities).sum(-1, keepdim=True)
    # of what is rounded here the exponentials are taken anew: rounding then enters squared
    torch.exp(logprobs.sub_(norm.log()), out=probabilities)
    return logprobs


def _scores(logits: Tensor, logprobs: Tensor) -> TokenScores:
    # a fused log_softmax takes less time than logsumexp; at the top it is below 0 by the norm
    largest, top = logits.max(-1)
    below = logprobs.gather(-1, top[:, None])[:, 0]
    return TokenScores(lognorm=largest.float() - below, top=top)


def _steps(logits: Tensor) -> Sequence[Tensor]:
    step = GPU_STEP if logits.is_cuda else STEP
    return torch.split(logits, max(1, step // max(1, logits.shape[-1])))


def _distances(
    baseline: Tensor, compressed: Tensor, buffers: Sequence[Tensor]
) -> VocabularyDistances:
    log_p, log_q, p, q, more = (buffer[: len(baseline)] for buffer in buffers)
    torch.log_softmax(baseline, -1, dtype=torch.float32, out=log_p)
    torch.log_softmax(compressed, -1, dtype=torch.float32, out=log_q)
    _normed(log_p, p)
    _normed(log_q, q)
    ours, theirs = _scores(baseline, log_p), _scores(compressed, log_q)
    if not bool((torch.minimum(log_p.amin(-1), log_q.amin(-1)) > UNDERFLOW).all()):
        return _with_zeros(baseline.double(), compressed.double(), ours, theirs)
    ratio = log_p.sub_(log_q)
    forward, backward = torch.linalg.vecdot(p, ratio), torch.linalg.vecdot(q, ratio)
    smaller = torch.minimum(p, q, out=log_q)
    torch.sub(p, q, out=more)
    total = p.add_(q)
    excess = more.sum(-1)
    variation = more.abs_().sum(-1) / 2
    # log(larger / m) of the mean m; log(smaller / m) is less by the ratio
    above_mean = more.div_(total).log1p_()
    below = torch.linalg.vecdot(smaller, ratio.abs_())
    shannon = (torch.linalg.vecdot(total, above_mean) - below) / 2
    return VocabularyDistances(
        kl=(forward - excess).clamp_min_(0.0),
        reverse_kl=(excess - backward).clamp_min_(0.0),
        jensen_shannon=shannon.clamp_min_(0.0),
        total_variation=variation,
        baseline=ours,
        compressed=theirs,
    )


def _with_zeros(
    baseline: Tensor, compressed: Tensor, ours: TokenScores, theirs: TokenScores
) -> VocabularyDistances:
    """The same where a token is ruled out, or too unlikely for a float32, or a logit is nan."""
    log_p, log_q = baseline.log_softmax(-1), compressed.log_softmax(-1)
    log_m = torch.where(log_p == log_q, log_p, torch.logaddexp(log_p, log_q) - log(2))
    shannon = (_kl(log_p, log_m) + _kl(log_q, log_m)) / 2
    return VocabularyDistances(
        kl=_kl(log_p, log_q).float(),
        reverse_kl=_kl(log_q, log_p).float(),
        jensen_shannon=shannon.float(),
        total_variation=((log_p.exp() - log_q.exp()).abs().sum(-1) / 2).float(),
        baseline=ours,
        compressed=theirs,
    )


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    terms = torch.where(log_q.isneginf(), torch.inf, log_p.exp() * (log_p - log_q))
    return torch.where(log_p.isneginf(), 0.0, terms).sum(-1).clamp_min(0.0)


def joined(parts: Sequence[VocabularyDistances]) -> VocabularyDistances:
    """Distances of several chunks, one after the other."""
    return VocabularyDistances(
        kl=torch.cat([part.kl for part in parts]),
        reverse_kl=torch.cat([part.reverse_kl for part in parts]),
        jensen_shannon=torch.cat([part.jensen_shannon for part in parts]),
        total_variation=torch.cat([part.total_variation for part in parts]),
        baseline=_joined_scores([part.baseline for part in parts]),
        compressed=_joined_scores([part.compressed for part in parts]),
    )


def _joined_scores(parts: Sequence[TokenScores]) -> TokenScores:
    return TokenScores(
        lognorm=torch.cat([part.lognorm for part in parts]),
        top=torch.cat([part.top for part in parts]),
    )
