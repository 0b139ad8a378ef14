"""Is a paired change of scores that are not right-or-wrong more than chance? A permutation test.

Were the two models alike, each document's change could as well have had the other sign. The share
of sign assignments whose mean is as far from 0 as the measured one is the p-value (Fisher's paired
permutation test; Pitman 1937, J. R. Stat. Soc. Suppl. 4). Repeats of a document change sign
together: give their sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from lm_eval_flips.shapes import Float, Int

PERMUTATIONS = 9_999  # with the measured one 10,000, as in scipy
BYTE = 256
STEP = 1 << 22  # bytes drawn at once


@dataclass(frozen=True, slots=True, kw_only=True)
class SignFlips:
    """How many of ``permutations`` sign assignments were as extreme as the measured one.

    ``lower`` counts those with a mean as low or lower, ``farther`` those as far from 0 or farther.
    ``exact``: every assignment was counted once, the measured one among them.
    """

    permutations: int
    lower: int
    farther: int
    exact: bool

    @property
    def two_sided(self) -> float:
        """P that the mean is 0; nan where nothing changed."""
        return self._p(self.farther)

    @property
    def one_sided(self) -> float:
        """P that the mean is not below 0; small where it is. nan where nothing changed."""
        return self._p(self.lower)

    def _p(self, count: int) -> float:
        if not self.permutations:
            return nan
        drawn = 0 if self.exact else 1  # the measured one is among all, not among those drawn
        return (count + drawn) / (self.permutations + drawn)


def sign_flips(
    changes: Float[Tensor, " documents"], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> SignFlips:
    """Count the sign assignments of the changes that are as extreme as the measured one.

    All of them where there are no more than ``permutations``, else as many, drawn with the seed.

    Args:
        changes: each document's change, in any unit.
        permutations: the most assignments to try.
        seed: of the draw; the same seed gives the same counts on the same kind of device.

    Example:
        >>> import torch
        >>> sign_flips(torch.tensor([0.1, 0.3, 0.2, 0.4, 0.25])).two_sided
        0.0625
    """
    moved = changes[changes != 0].double()
    few = moved.numel() < permutations.bit_length() and 2 ** moved.numel() <= permutations
    if not moved.numel():
        return SignFlips(permutations=0, lower=0, farther=0, exact=True)
    table = _byte_sums(moved)
    bytes_ = table.shape[0]
    every = 2 ** moved.numel() if few else permutations
    generator = torch.Generator(moved.device).manual_seed(seed)
    measured = float(moved.sum())
    # an assignment with the measured sum counts as such, however its terms were added up
    slack = 1e-9 * float(moved.abs().sum())
    lower = farther = done = 0
    while done < every:
        size = min(every - done, max(1, STEP // bytes_))
        if few:
            signs = _counted(done, size, bytes_, moved.device)
        else:
            signs = torch.randint(
                BYTE, (size, bytes_), generator=generator, device=moved.device, dtype=torch.int32
            )
        sums = _sums(table, signs)
        lower += int((sums <= measured + slack).sum())
        farther += int((sums.abs() >= abs(measured) - slack).sum())
        done += size
    return SignFlips(permutations=every, lower=lower, farther=farther, exact=few)


def _byte_sums(values: Float[Tensor, " values"]) -> Float[Tensor, "bytes 256"]:
    """For each eight values, what every byte makes of them: its bits are their signs."""
    padded = torch.nn.functional.pad(values, (0, -len(values) % 8)).reshape(-1, 8)
    every = torch.arange(BYTE, device=values.device)
    bits = every[:, None] >> every[:8]
    return padded @ (1.0 - 2.0 * (bits & 1)).double().T


def _sums(
    table: Float[Tensor, "bytes 256"], signs: Int[Tensor, "assignments bytes"]
) -> Float[Tensor, " assignments"]:
    """Each assignment's sum: one look-up for eight values."""
    start = torch.arange(table.shape[0], device=table.device, dtype=signs.dtype) * BYTE
    return table.reshape(-1)[signs + start].sum(-1)


def _counted(
    first: int, size: int, bytes_: int, device: torch.device
) -> Int[Tensor, "assignments bytes"]:
    """Assignments by number, as bytes."""
    numbers = torch.arange(first, first + size, device=device)[:, None]
    return (numbers >> (8 * torch.arange(bytes_, device=device))) % BYTE
