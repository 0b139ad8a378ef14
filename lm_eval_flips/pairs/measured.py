"""The distances over the vocabulary that a compressed run measured, sample by sample.

They lie beside the run's logs, keyed by the text of each request. That they were measured between
these two runs is proven: the log-likelihoods of both models that are stored with each must be those
that were logged, to the last digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_eval_flips.errors import FlipsError, OtherBaselineError, named
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.tokens import TokenValues

if TYPE_CHECKING:
    from lm_eval_flips.scoring.token_distances import StoredDistances


def token_values(stored: StoredDistances, pairs: Pairs) -> TokenValues | None:
    """The distances of the pairs' samples; None for a task that asks for no log-likelihoods.

    Raises:
        OtherBaselineError: they were measured from another baseline.
        FlipsError: they are of another compressed run, or some of a task's requests are missing.
    """
    keys = pairs.compressed.request_keys
    if keys is None:
        return None
    own = np.arange(keys.shape[1]) < pairs.choices.cpu().numpy()[:, None]
    samples, _ = np.nonzero(own)
    asked = keys[own]
    if (stored.find(asked) < 0).all():
        return None
    logged = _logged(pairs.compressed.loglikelihoods, own)
    places = stored.find(asked, logged)
    strange = _not_logged(stored.loglikelihoods, places, asked, logged)
    if strange.any():
        raise FlipsError(
            f"task '{pairs.task}': the distances in '{stored.folder}' are of other answers than "
            f"the compressed run logged ({_docs(pairs, samples[strange])}); evaluate that model "
            "again with lm-eval-flips run, or remove that folder"
        )
    logged = _logged(pairs.baseline.loglikelihoods, own)
    strange = _not_logged(stored.baseline_loglikelihoods, places, asked, logged)
    if strange.any():
        raise OtherBaselineError(
            f"task '{pairs.task}': the distances in '{stored.folder}' were measured from another "
            f"run, of '{stored.header.baseline}', than this baseline "
            f"({_docs(pairs, samples[strange])})"
        )
    starts, counts = stored.starts[places], stored.starts[places + 1] - stored.starts[places]
    scored = counts > 0  # an empty text has no position
    samples, starts, counts = samples[scored], starts[scored], counts[scored]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = torch.from_numpy(np.repeat(starts, counts) + within)
    device = pairs.clusters.device  # where all that is known of the samples lies
    return TokenValues(
        samples=torch.from_numpy(samples).to(device),
        counts=torch.from_numpy(counts).to(device),
        values={name: values[positions].to(device) for name, values in stored.values.items()},
        top=stored.header.top,
        first_only=stored.header.positions == "last",
    )


def _logged(loglikelihoods: Tensor, own: NDArray[np.bool_]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = loglikelihoods.cpu().numpy()[own].astype(np.float64)
    return found


def _not_logged(
    stored: NDArray[np.float64],
    places: NDArray[np.int64],
    keys: NDArray[np.uint64],
    logged: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Which requests are missing, or have another log-likelihood than any that was logged.

    The same text may have been logged twice, by two processes that rounded otherwise.
    """
    kept = stored[np.maximum(places, 0)]
    same: NDArray[np.bool_] = (kept == logged) | (np.isnan(kept) & np.isnan(logged))
    if not same.all():
        known = set(zip(map(bytes, keys), logged.tolist(), strict=True))
        texts = zip(map(bytes, keys), kept.tolist(), strict=True)
        same |= np.array([answer in known for answer in texts])
    return (places < 0) | ~same


def _docs(pairs: Pairs, samples: NDArray[np.int64]) -> str:
    return f"doc {named(sorted(set(pairs.doc_ids[samples].tolist())))}"
