"""The distances that a compressed run measured along the baseline's answers, sample by sample.

They lie beside the run's logs, keyed by the text of each request. That they were measured between
these two runs is proven: what both models wrote must be what both runs logged, to the last
character.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.errors import FlipsError, OtherBaselineError, named
from lm_eval_flips.measures.tokens import request_means
from lm_eval_flips.pairs.measured_answers import AnswerValues
from lm_eval_flips.pairs.pairing import Pairs

if TYPE_CHECKING:
    from lm_eval_flips.scoring.answer_distances import StoredAnswerDistances


def answer_values(stored: StoredAnswerDistances, pairs: Pairs) -> AnswerValues | None:
    """What was measured of the pairs' samples; None for a task of which no answer was.

    Raises:
        OtherBaselineError: along the answers of another baseline.
        FlipsError: of another compressed run.
    """
    keys = pairs.compressed.request_keys
    if keys is None or pairs.kind != "text":
        return None
    places = stored.find(keys[:, 0])
    known = np.flatnonzero(places >= 0)
    if not len(known):
        return None
    found = places[known]
    strange = _differ(stored.responses[found], pairs.compressed.response, known)
    if strange.any():
        raise FlipsError(
            f"task '{pairs.task}': the distances in '{stored.folder}' are of other answers than "
            f"the compressed run logged ({_docs(pairs, known[strange])}); evaluate that model "
            "again with lm-eval-flips run, or remove that folder"
        )
    strange = _differ(stored.baseline_responses[found], pairs.baseline.response, known)
    if strange.any():
        raise OtherBaselineError(
            f"task '{pairs.task}': the distances in '{stored.folder}' were measured along other "
            f"answers, of '{stored.header.baseline}', than this baseline's "
            f"({_docs(pairs, known[strange])})"
        )
    counts = np.diff(stored.starts)
    means = request_means(stored.values["kl"].double(), torch.from_numpy(counts))
    parting = stored.partings[found]
    never = parting < 0

    def of_samples(values: NDArray[np.generic], empty: float | int) -> Tensor:
        whole = np.full(len(places), empty, values.dtype)
        whole[known] = values
        return torch.from_numpy(whole).to(pairs.clusters.device)

    return AnswerValues(
        kl=of_samples(means.numpy()[found], np.nan),
        parting=of_samples(np.where(never, np.nan, parting), np.nan),
        never=of_samples(never.astype(np.int8), -1),
        gap=of_samples(stored.gaps[found], np.nan),
        top=stored.header.top,
        noise=stored.header.noise,
        near_ties=stored.header.near_ties,
    )


def _differ(
    stored: NDArray[np.uint64], logged: Tensor, rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which texts are others than those that were logged."""
    own: NDArray[np.int64] = logged.cpu().numpy()[rows]
    differ: NDArray[np.bool_] = (stored != own.view(np.uint64)).any(-1)
    return differ


def _docs(pairs: Pairs, samples: NDArray[np.int64]) -> str:
    return f"doc {named(sorted(set(pairs.doc_ids[samples].tolist())))}"
