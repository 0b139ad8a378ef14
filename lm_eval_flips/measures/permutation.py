"""Is a paired change of scores that are not right-or-wrong more than chance? A permutation test.

Were the two models alike, each document's change could as well have had the other sign. The share
of sign assignments whose mean is as far from 0 as the measured one is the p-value (Fisher's paired
permutation test; Pitman 1937, J. R. Stat. Soc. Suppl. 4). Repeats of a document change sign
together: give their sum.

Where draws hardly reach the measured mean, the share is estimated from draws of signs that lean
towards it, each weighted by how much likelier it was made (importance sampling, Siegmund 1976, Ann.
Stat. 4, 673-684): such a p has no floor, which an adjustment over hundreds of tasks would never get
below.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, log, nan

import torch
from torch import Tensor

from lm_eval_flips.shapes import Float, Int

PERMUTATIONS = 9_999  # with the measured one 10,000, as in scipy
BYTE = 256
STEP = 1 << 22  # bytes drawn at once
FEWEST = 10  # assignments as extreme as the measured one that tell its share
LEANING = 4_000  # assignments that lean towards it, at most
LEANING_STEP = 1 << 22  # signs of these
HALVINGS = 50  # of the interval that the tilt lies in
MOST_TILT = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class SignFlips:
    """How many of ``permutations`` sign assignments were as extreme as the measured one.

    ``lower`` counts those with a mean as low or lower, ``farther`` those as far from 0 or farther.
    ``exact``: every assignment was counted once, the measured one among them. ``tail`` is the
    chance of a sum as far out as the measured one on its own side, where too few draws were to tell
    it by their number; nan elsewhere. ``below``: that side is the lower one.
    """

    permutations: int
    lower: int
    farther: int
    exact: bool
    tail: float = nan
    below: bool = False

    @property
    def two_sided(self) -> float:
        """P that the mean is 0; nan where nothing changed."""
        return self._p(self.farther) if isnan(self.tail) else min(1.0, 2 * self.tail)

    @property
    def one_sided(self) -> float:
        """P that the mean is not below 0; small where it is. nan where nothing changed."""
        return self._p(self.lower) if isnan(self.tail) or not self.below else self.tail

    def _p(self, count: int) -> float:
        if not self.permutations:
            return nan
        drawn = 0 if self.exact else 1  # the measured one is among all, not among those drawn
        return (count + drawn) / (self.permutations + drawn)


def sign_flips(
    changes: Float[Tensor, " documents"], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> SignFlips:
    """Count the sign assignments of the changes that are as extreme as the measured one.

    All of them where there are no more than ``permutations``, else as many, drawn with the seed;
    where fewer than ten of these are as extreme, the chance is told by draws that lean that way.

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
    tail = nan
    if not few and farther < FEWEST:
        tail = _leaning(moved.abs(), abs(measured) - slack, generator)
    return SignFlips(
        permutations=every,
        lower=lower,
        farther=farther,
        exact=few,
        tail=tail,
        below=measured < 0,
    )


def _leaning(sizes: Float[Tensor, " values"], reached: float, generator: torch.Generator) -> float:
    """Chance that a sum of these values with random signs reaches so far, by draws that lean to it.

    A sign is drawn as + with the chance ``1 / (1 + exp(-2 tilt size))``, at the tilt whose expected
    sum is what is to be reached.
    """
    scaled = sizes / sizes.max()
    wanted = reached / float(sizes.max())
    low, high = 0.0, 1.0
    while float((scaled * (high * scaled).tanh()).sum()) < wanted and high < MOST_TILT:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = float((scaled * (middle * scaled).tanh()).sum()) < wanted
        low, high = (middle, high) if below else (low, middle)
    tilt = high * scaled
    draws = max(100, min(LEANING, LEANING_STEP // len(sizes)))
    shape = (draws, len(sizes))
    chance = torch.rand(shape, generator=generator, device=sizes.device, dtype=torch.float32)
    signs = torch.where(chance < torch.sigmoid(2 * tilt).float(), 1.0, -1.0).double()
    sums = signs @ scaled
    # log of the product of cosh, by its larger exponential
    scale = float((tilt + torch.log1p(torch.exp(-2 * tilt))).sum()) - len(sizes) * log(2)
    weights = torch.where(sums >= wanted, torch.exp(scale - high * sums), 0.0)
    return float(weights.mean())


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
