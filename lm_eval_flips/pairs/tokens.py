"""What is known of the scored positions of a metric's samples: distances over the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
        device = self.samples.device
        size = int(self.samples.max()) + 1 if len(self.samples) else 0
        place = torch.full((size,), -1, device=device)
        place[rows[rows < size]] = torch.arange(len(rows), device=device)[rows < size]
        kept = place[self.samples] >= 0
        positions = torch.repeat_interleave(kept, self.counts)
        return TokenValues(
            samples=place[self.samples][kept],
            counts=self.counts[kept],
            values={name: values[positions] for name, values in self.values.items()},
            top=self.top,
            first_only=self.first_only,
        )
