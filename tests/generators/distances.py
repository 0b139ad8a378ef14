"""Writes distances over the vocabulary beside a synthetic run, as flips-hf records them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch

from lm_eval_flips.logs.records import Request, content_digest, request_digest
from lm_eval_flips.logs.runs import ANSWER_DISTANCES, DISTANCES
from lm_eval_flips.scoring.answer_distances import (
    AnswerDistance,
    AnswerDistancesHeader,
    AnswerDistanceWriter,
)
from lm_eval_flips.scoring.requests import Answer
from lm_eval_flips.scoring.token_distances import DistancesHeader, DistanceWriter, TokenDistances
from tests.generators.logs import Record


def at_positions(kl: Sequence[float]) -> TokenDistances:
    """Distances of which KL is given and the others are simple functions of it."""
    values = torch.tensor(kl)
    return TokenDistances(
        kl=values,
        reverse_kl=2 * values,
        jensen_shannon=values / 4,
        total_variation=values / 8,
        same_top=values < 1,
        logprob_change=-values,
    )


def write_distances(
    results: Path,
    *,
    baseline: Sequence[Record],
    compressed: Sequence[Record],
    kl: Callable[[int, int], Sequence[float]],
    top: int | None = None,
    positions: Literal["all", "last"] = "all",
) -> None:
    """Write the distances of all requests of some records.

    Args:
        results: the compressed run's results file.
        baseline: the baseline's records.
        compressed: the compressed run's records, in the same order.
        kl: KL at each position, by document and choice.
        top: K of the bounded mode.
        positions: which positions were recorded.
    """
    header = DistancesHeader(
        model="org/int4",
        revision="main",
        dtype="float32",
        baseline="org/base",
        baseline_dtype="float32",
        tokens=100,
        max_length=512,
        positions=positions,
        top=top,
    )
    writer = DistanceWriter(results.parent.parent / DISTANCES, header)
    for before, after in zip(baseline, compressed, strict=True):
        for i, request in enumerate(after["arguments"].values()):
            distances = at_positions(kl(after["doc_id"], i))
            writer.add(
                request_digest(Request(**request)),
                Answer(_logged(after, i), False, float(distances.kl.mean())),
                [distances],
                baseline_loglikelihood=_logged(before, i),
            )
    writer.flush()


def _logged(record: Record, request: int) -> float:
    response = record["filtered_resps"][request]
    return float(response[0] if isinstance(response, list) else response)


def write_answer_distances(
    results: Path,
    *,
    baseline: Sequence[Record],
    compressed: Sequence[Record],
    kl: Callable[[int], Sequence[float]],
    parting: Callable[[int], int | None],
    near_ties: float = 0.0,
) -> None:
    """Write the distances along the baseline's answers to some generated records.

    Args:
        results: the compressed run's results file.
        baseline: the baseline's records.
        compressed: the compressed run's records, in the same order.
        kl: KL at each position, by document.
        parting: where the answers part, by document.
        near_ties: share of the baseline's own positions that hang on rounding.
    """
    header = AnswerDistancesHeader(
        model="org/int4",
        revision="main",
        dtype="float32",
        baseline="org/base",
        baseline_dtype="float32",
        tokens=100,
        max_length=512,
        top=None,
        noise=0.25 if near_ties else 0.0,
        near_ties=near_ties,
    )
    writer = AnswerDistanceWriter(results.parent.parent / ANSWER_DISTANCES, header)
    for before, after in zip(baseline, compressed, strict=True):
        (request,) = after["arguments"].values()
        writer.add(
            AnswerDistance(
                key=request_digest(Request(**request)),
                baseline_response=content_digest(before["resps"]),
                response=content_digest(after["resps"]),
                parting=parting(after["doc_id"]),
                gap=0.125,
                distances=at_positions(kl(after["doc_id"])),
            )
        )
    writer.flush()
