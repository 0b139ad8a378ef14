"""The distances over the vocabulary that a compressed run measured, sample by sample.

They lie beside the run's logs, keyed by the text of each request. That they are this run's is
proven: the log-likelihood stored with each must be the one that was logged, to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.errors import FlipsError, named

if TYPE_CHECKING:
    from lm_eval_flips.pairing import Pairs
    from lm_eval_flips.scoring.token_distances import StoredDistances


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenValues:
    """Distances at the scored positions of some samples' requests.

    Request ``i`` belongs to sample ``samples[i]`` and has ``counts[i]`` positions; ``values`` hold
    one number a position, request after request. ``top`` is K where the distances are lower bounds
    over the K most likely tokens and the rest; ``first_only`` if only first positions are known.
    """

    samples: Tensor
    counts: Tensor
    values: dict[str, Tensor]
    top: int | None
    first_only: bool

    def of_samples(self, rows: Tensor) -> TokenValues:
        """Those of some samples, which are numbered anew in this order."""
        place = torch.full((int(self.samples.max()) + 1 if len(self.samples) else 0,), -1)
        place[rows[rows < len(place)]] = torch.arange(len(rows))[rows < len(place)]
        kept = place[self.samples] >= 0
        positions = torch.repeat_interleave(kept, self.counts)
        return TokenValues(
            samples=place[self.samples][kept],
            counts=self.counts[kept],
            values={name: values[positions] for name, values in self.values.items()},
            top=self.top,
            first_only=self.first_only,
        )


def token_values(stored: StoredDistances, pairs: Pairs) -> TokenValues | None:
    """The distances of the pairs' samples; None for a task that asks for no log-likelihoods.

    Raises:
        FlipsError: some of a task's requests are missing, or were scored in another run.
    """
    side = pairs.compressed
    if side.request_keys is None:
        return None
    own = np.arange(side.request_keys.shape[1]) < pairs.choices.cpu().numpy()[:, None]
    samples, _ = np.nonzero(own)
    places = stored.find(side.request_keys[own])
    if (places < 0).all():
        return None
    logged = side.loglikelihoods.cpu().numpy()[own]
    found = stored.loglikelihoods[np.maximum(places, 0)]
    strange = (places < 0) | ~((found == logged) | (np.isnan(found) & np.isnan(logged)))
    if strange.any():
        docs = sorted(set(pairs.doc_ids[samples[strange]].tolist()))
        raise FlipsError(
            f"task '{pairs.task}': the distances in '{stored.folder}' are not those of this run's "
            f"requests (doc {named(docs)}); remove them, or rerun this model"
        )
    starts, counts = stored.starts[places], stored.starts[places + 1] - stored.starts[places]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = torch.from_numpy(np.repeat(starts, counts) + within)
    return TokenValues(
        samples=torch.from_numpy(samples),
        counts=torch.from_numpy(counts),
        values={name: values[positions] for name, values in stored.values.items()},
        top=stored.header.top,
        first_only=stored.header.positions == "last",
    )
