"""Do two compressed models change the same samples?"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

from torch import Tensor

from lm_eval_flips.shapes import Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How many of ``n`` samples each of several runs changed, and each two of them alike.

    ``common[i][j]`` is the number of samples that runs i and j both changed; on the diagonal, that
    one of them did.
    """

    n: int
    common: tuple[tuple[int, ...], ...]
    by_all: int
    by_any: int

    def coefficient(self, i: int, j: int) -> float:
        """Overlap coefficient: common samples as a share of the fewer; nan where one has none."""
        fewer = min(self.common[i][i], self.common[j][j])
        return self.common[i][j] / fewer if fewer else nan

    def jaccard(self, i: int, j: int) -> float:
        """Common samples as a share of those that either changed; nan where there are none."""
        either = self.common[i][i] + self.common[j][j] - self.common[i][j]
        return self.common[i][j] / either if either else nan

    def expected(self, i: int, j: int) -> float:
        """Common samples if the two runs changed theirs independently."""
        return self.common[i][i] * self.common[j][j] / self.n if self.n else nan


def overlap(changed: Bool[Tensor, "runs samples"]) -> Overlap:
    """Count the samples that runs changed alike.

    Args:
        changed: whether each run changed each of the same samples.

    Example:
        >>> import torch
        >>> found = overlap(torch.tensor([[True, True, False, False], [True, False, True, False]]))
        >>> found.common, found.jaccard(0, 1), found.coefficient(0, 1)
        (((2, 1), (1, 2)), 0.333..., 0.5)
    """
    counts = changed.double() @ changed.double().T
    return Overlap(
        n=changed.shape[1],
        common=tuple(tuple(int(value) for value in row) for row in counts.tolist()),
        by_all=int(changed.all(0).sum()),
        by_any=int(changed.any(0).sum()),
    )
