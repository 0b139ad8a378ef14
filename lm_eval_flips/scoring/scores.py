"""Hidden states -> log-likelihoods, and distances from the baseline at every scored position.

Logits are made for a few positions at a time, the baseline's beside them; no tensor of all
positions and the whole vocabulary exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.scoring.baseline import Baseline, BaselineRows
from lm_eval_flips.scoring.lm_head import LMHead
from lm_eval_flips.scoring.requests import Ints, TokenRequest
from lm_eval_flips.scoring.scored_rows import ScoredRows
from lm_eval_flips.scoring.token_distances import TokenDistances
from lm_eval_flips.scoring.vocabulary import VocabularyDistances, joined, token_scores

CHUNK_BYTES = 1 << 26  # of float32 logits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestScore:
    """One request: its log-likelihood (nats), and the log-probability of each of its tokens.

    ``hits`` says of each token whether it is the likeliest one; ``rows`` are the hidden states that
    predict them. ``distances`` are those of the positions that
    the reference holds, None without one.
    """

    request: int
    loglikelihood: float
    is_greedy: bool
    logprobs: Tensor
    hits: Tensor
    rows: Ints
    distances: TokenDistances | None


def score_rows(
    rows: ScoredRows,
    requests: Sequence[TokenRequest],
    head: LMHead,
    *,
    baseline: Baseline | None = None,
    keys: Sequence[bytes] = (),
) -> Iterator[RequestScore]:
    """Score some requests from the hidden states that predict their continuations.

    Args:
        rows: the hidden states.
        requests: all requests; ``rows.requests`` are places in it.
        head: the model's lm_head.
        baseline: what to measure distances from.
        keys: the requests' keys in the baseline's reference.
    """
    flat = np.concatenate(list(rows.rows))
    tokens = np.concatenate([requests[index].continuation for index in rows.requests])
    measured, owners = _measured(rows, keys, baseline)
    against = None if baseline is None else baseline.rows(owners)
    found = _score_tokens(rows.hidden, head, flat, tokens, measured, against)
    start = 0
    for index, own in zip(rows.requests, rows.rows, strict=True):
        logprobs, hits = (whole[start : start + len(own)] for whole in (found.logprobs, found.hits))
        start += len(own)
        distances = None
        if baseline is not None and found.distances is not None:
            before = baseline.reference.logprobs(keys[index])
            distances = _of_request(
                found.distances,
                np.searchsorted(measured, own[: len(before)]),
                logprobs[: len(before)] - before,
            )
        yield RequestScore(
            request=index,
            loglikelihood=float(logprobs.double().sum()),
            is_greedy=bool(hits.all()),
            logprobs=logprobs,
            hits=hits,
            rows=own,
            distances=distances,
        )


def _measured(
    rows: ScoredRows, keys: Sequence[bytes], baseline: Baseline | None
) -> tuple[Ints, list[tuple[bytes, int]]]:
    """The rows that the baseline has too, and for each a request and token that it predicts."""
    if baseline is None:
        return np.empty(0, np.int64), []
    counted = [own[:1] if baseline.first_only else own for own in rows.rows]
    chosen, first = np.unique(np.concatenate(counted), return_index=True)
    bounds = np.cumsum([0, *map(len, counted)])
    owner = np.searchsorted(bounds, first, side="right") - 1
    tokens = first - bounds[owner]
    wanted = [
        (keys[rows.requests[place]], token)
        for place, token in zip(owner.tolist(), tokens.tolist(), strict=True)
    ]
    return chosen, wanted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    logprobs: Tensor
    hits: Tensor
    distances: VocabularyDistances | None


def _score_tokens(
    hidden: Tensor,
    head: LMHead,
    flat: Ints,
    tokens: Ints,
    measured: Ints,
    against: BaselineRows | None,
) -> _Found:
    """Log-probabilities of all tokens, and distances at the measured rows, a chunk at a time."""
    logprobs = torch.empty(len(flat))
    hits = torch.empty(len(flat), dtype=torch.bool)
    distances: list[VocabularyDistances] = []
    order = np.argsort(flat, kind="stable")
    for start, logits in _chunks(hidden, head):
        stop = start + len(logits)
        here = slice(*np.searchsorted(measured, (start, stop)).tolist())
        every = here.stop - here.start == len(logits)
        if against is not None and here.start < here.stop:
            places = torch.from_numpy(measured[here] - start).to(logits.device)
            distances.append(against.distances(logits if every else logits[places], here))
        # the same to the last bit: measuring must not change an answer
        scores = distances[-1].compressed if against and every else token_scores(logits)
        low, high = np.searchsorted(flat[order], (start, stop)).tolist()
        pairs = torch.from_numpy(order[low:high])
        row = torch.from_numpy(flat[order[low:high]] - start).to(logits.device)
        token = torch.from_numpy(tokens[order[low:high]]).to(logits.device)
        logprobs[pairs] = (logits[row, token].float() - scores.lognorm[row]).cpu()
        hits[pairs] = (scores.top[row] == token).cpu()
    return _Found(
        logprobs=logprobs, hits=hits, distances=joined(distances).cpu() if distances else None
    )


def _chunks(hidden: Tensor, head: LMHead) -> Iterator[tuple[int, Tensor]]:
    """Logits of the hidden states, a few at a time, with the place of the first."""
    size = max(1, CHUNK_BYTES // (4 * head.tokens))
    for start in range(0, len(hidden), size):
        with torch.no_grad():
            logits = head.logits(hidden[start : start + size])
        yield start, logits


def _of_request(
    distances: VocabularyDistances, places: Ints, logprob_change: Tensor
) -> TokenDistances:
    chosen = torch.from_numpy(places)
    return TokenDistances(
        kl=distances.kl[chosen],
        reverse_kl=distances.reverse_kl[chosen],
        jensen_shannon=distances.jensen_shannon[chosen],
        total_variation=distances.total_variation[chosen],
        same_top=distances.same_top[chosen],
        logprob_change=logprob_change,
    )
