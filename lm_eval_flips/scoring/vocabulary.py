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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from lm_eval_flips.shapes import Bool, Float, Int

STEP = 1 << 16  # numbers that a thread works on at once: seven such tensors fit its cache
GPU_STEP = 1 << 26
BLOCK = 256  # tokens of which the largest logit is known before its place is looked for


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
    ours, theirs = _likeliest(baseline), _likeliest(compressed)
    parts = _summed(baseline, compressed, ours[0], theirs[0])
    norms, both, excess, apart, shannon, coarse = (
        torch.cat(part, -1) for part in zip(*parts, strict=True)
    )
    # the logs of the very factors that the probabilities were made by; coarse is off by 1e-7
    scales = norms.reciprocal().double().log()
    fine = (scales[1] - scales[0] - coarse).float()
    forward, backward = both - fine
    found = VocabularyDistances(
        kl=(forward - excess).clamp_min_(0.0),
        reverse_kl=(excess - backward).clamp_min_(0.0),
        jensen_shannon=(shannon / 2).clamp_min_(0.0),
        total_variation=apart / 2,
        baseline=TokenScores(lognorm=ours[0] + norms[0].log(), top=ours[1]),
        compressed=TokenScores(lognorm=theirs[0] + norms[1].log(), top=theirs[1]),
    )
    # of a probability that underflows everything is right to rounding, unless both models' do
    undone = ~(both[0] + both[1] + shannon).isfinite()
    return _with_zeros(found, baseline, compressed, undone) if bool(undone.any()) else found


def token_scores(logits: Float[Tensor, "positions tokens"]) -> TokenScores:
    """The most likely token at each position, the first of equals, and the log of the norm.

    Example:
        >>> found = token_scores(torch.tensor([[0.0, 1.0]]))
        >>> found.lognorm, found.top
        (tensor([1.3133]), tensor([1]))
    """
    largest, top = _likeliest(logits)
    # one row by itself is added up in other parts where there are several threads
    rows = max(2, _rows(logits))
    buffer = torch.empty(rows, logits.shape[-1], dtype=torch.float32, device=logits.device)
    norms = []
    steps = zip(torch.split(logits, rows), torch.split(largest[:, None], rows), strict=True)
    for step, most in steps:
        _below(step, most, buffer[: len(step)]).exp_()
        norms.append(buffer.sum(-1)[: len(step)])
    return TokenScores(lognorm=largest + torch.cat(norms).log(), top=top)


def _rows(logits: Tensor) -> int:
    """Positions of a step."""
    step = GPU_STEP if logits.is_cuda else STEP * torch.get_num_threads()
    return max(1, min(len(logits), step // max(1, logits.shape[-1])))


def _likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest logit of each row, as float32, and its place, the first of equals.

    Looking for a place takes ten times as long as for a maximum: it is looked for in one block.
    """
    tokens = logits.shape[-1]
    whole = tokens - tokens % BLOCK
    if not whole:
        largest, top = logits.max(-1)
        return largest.float(), top
    maxima = logits[:, :whole].reshape(-1, whole // BLOCK, BLOCK).amax(-1)
    if whole < tokens:
        maxima = torch.cat([maxima, logits[:, whole:].amax(-1, keepdim=True)], -1)
    largest, block = maxima.max(-1)
    places = block[:, None] * BLOCK + torch.arange(BLOCK, device=logits.device)
    within = logits.gather(-1, places.clamp_(max=tokens - 1)).argmax(-1)
    return largest.float(), block * BLOCK + within


def _below(logits: Tensor, largest: Tensor, out: Tensor) -> Tensor:
    """Logits less the largest, in float32."""
    if logits.dtype == torch.float32:
        return torch.sub(logits, largest, out=out)
    return out.copy_(logits).sub_(largest)


def _summed(
    baseline: Tensor, compressed: Tensor, p_largest: Tensor, q_largest: Tensor
) -> Iterator[tuple[Tensor, ...]]:
    """What the distances are made of, summed over the tokens, step by step.

    Everything is written into the same few tensors, which stay in the cache: making them anew takes
    as long as filling them.
    """
    rows, tokens = _rows(baseline), baseline.shape[-1]
    made = torch.empty(5, rows, tokens, dtype=torch.float32, device=baseline.device)
    logs, probabilities, spare = made[:2], made[2:4], made[4:]
    given = (baseline, compressed, p_largest[:, None], q_largest[:, None])
    steps = zip(*(torch.split(own, rows) for own in given), strict=True)
    for p_logits, q_logits, p_most, q_most in steps:
        if len(p_logits) < rows:
            rows = len(p_logits)
            logs, probabilities, spare = (
                buffer[:, :rows] for buffer in (logs, probabilities, spare)
            )
        (log_p, log_q), (p, q), ratio = logs, probabilities, spare[0]
        _below(p_logits, p_most, log_p)
        _below(q_logits, q_most, log_q)
        torch.exp(logs, out=probabilities)
        norms = probabilities.sum(-1)
        probabilities.mul_(norms.reciprocal()[..., None])
        p_log, q_log = norms.log()
        coarse = p_log - q_log
        torch.sub(log_p, log_q, out=ratio).sub_(coarse[:, None])
        both = torch.mul(probabilities, ratio, out=logs).sum(-1)
        apart = torch.sub(p, q, out=log_p)
        excess = apart.sum(-1)
        variation = apart.abs_().sum(-1)
        smaller = torch.minimum(p, q, out=log_q)
        total = p.add_(q)
        # log(larger / m) of the mean m; log(smaller / m) is less by the ratio
        shannon = apart.div_(total).log1p_().mul_(total).addcmul_(smaller, ratio.abs_(), value=-1)
        yield norms, both, excess, variation, shannon.sum(-1), coarse


def _with_zeros(
    found: VocabularyDistances, baseline: Tensor, compressed: Tensor, undone: Tensor
) -> VocabularyDistances:
    """The same where a token is ruled out, or too unlikely for both models, or a logit is nan."""
    (places,) = undone.nonzero(as_tuple=True)
    for chosen in torch.split(places, _rows(baseline)):
        log_p = baseline[chosen].double().log_softmax(-1)
        log_q = compressed[chosen].double().log_softmax(-1)
        log_m = torch.where(log_p == log_q, log_p, torch.logaddexp(log_p, log_q) - log(2))
        shannon = (_kl(log_p, log_m) + _kl(log_q, log_m)) / 2
        variation = (log_p.exp() - log_q.exp()).abs().sum(-1) / 2
        found.kl[chosen] = _kl(log_p, log_q).float()
        found.reverse_kl[chosen] = _kl(log_q, log_p).float()
        found.jensen_shannon[chosen] = shannon.float()
        found.total_variation[chosen] = variation.float()
    return found


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
