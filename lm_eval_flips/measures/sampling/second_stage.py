"""How many more to draw of each stratum, from what those that were drawn first show.

Source: two-phase sampling with Neyman's allocation (Sukhatme 1935, J. R. Stat. Soc. Suppl. 2;
Cochran, Sampling Techniques, 3rd ed. 1977, section 5.5): the first draws tell the spreads of the
second. Strata stay what they were, so that all draws of a stratum are one random sample of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import beta
from torch import Tensor

from lm_eval_flips.measures.sampling.allocation import neyman
from lm_eval_flips.measures.sampling.change_rates import LOWEST, fitted_rates, plausible_rates
from lm_eval_flips.measures.sampling.stratified import share_interval
from lm_eval_flips.shapes import Float, Int

SURE = 0.975  # one-sided: how surely a promised width is kept
MOST = 0.999  # of a rate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirstDraws:
    """What was drawn first: documents, draws and changed ones of each stratum, ``[strata]``.

    ``expected`` are the rates that were expected before; only their ratios matter.
    """

    sizes: Int[Tensor, " strata"]
    drawn: Int[Tensor, " strata"]
    changed: Float[Tensor, " strata"]
    expected: Float[Tensor, " strata"]

    def rates(self) -> Float[Tensor, " strata"]:
        """Of the curve that the first draws tell; no stratum's own count says how much follows."""
        return fitted_rates(changed=self.changed, drawn=self.drawn.double(), expected=self.expected)

    def allocated(self, n: int) -> Int[Tensor, " strata"]:
        """So many draws in all, those that were made among them.

        Raises:
            ValueError: n is less than was drawn, or more than there are documents.

        Example:
            >>> import torch
            >>> first = FirstDraws(
            ...     sizes=torch.tensor([100, 100]), drawn=torch.tensor([10, 10]),
            ...     changed=torch.tensor([5.0, 0.0]), expected=torch.tensor([0.1, 0.1]),
            ... )
            >>> first.allocated(60)
            tensor([30, 30])
        """
        rates = self.rates().clamp(LOWEST, 1 - LOWEST)
        spreads = (rates * (1 - rates)).sqrt()
        return neyman(sizes=self.sizes, spreads=spreads, n=n, drawn=self.drawn)

    def half_width(self, drawn: Int[Tensor, " strata"], *, surely: bool) -> float:
        """Half the width that the 95 % interval of the share that changed has after these draws.

        Args:
            drawn: of each stratum, in all.
            surely: by rates that are as high as the first draws allow, not by the likeliest.
        """
        courses = [self.rates()]
        if surely:
            courses += plausible_rates(
                changed=self.changed, drawn=self.drawn.double(), expected=self.expected
            )
        scale = self._more() if surely else 1.0
        widths = []
        for rates in courses:
            higher = (rates * scale).clamp(max=MOST)
            share = float((self.sizes.double() * higher).sum() / self.sizes.sum())
            low, high = share_interval(share, sizes=self.sizes, drawn=drawn, rates=higher)
            widths.append((high - low) / 2)
        return max(widths)

    def _more(self) -> float:
        """How many times as many as were counted there may be: by Clopper and Pearson's end."""
        count, n = float(self.changed.sum()), int(self.drawn.sum())
        if count >= n:
            return 1.0
        upper = float(beta.ppf(SURE, count + 1, n - count))
        return upper / (max(count, 0.5) / n)

    def enough(self, half_width: float) -> int:
        """The fewest draws in all whose interval is surely as narrow; all where none is."""
        low, high = int(self.drawn.sum()) - 1, int(self.sizes.sum())
        while high - low > 1:
            middle = (low + high) // 2
            narrow = self.half_width(self.allocated(middle), surely=True) <= half_width
            low, high = (low, middle) if narrow else (middle, high)
        return high
