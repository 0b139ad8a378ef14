"""One rule held against one row, and what that means in words."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan, nan
from typing import Literal

from lm_eval_flips.gate.evidence import LEVEL
from lm_eval_flips.gate.thresholds import AGE, REQUIRED, Tier
from lm_eval_flips.measures.significance import Interval

Outcome = Literal["pass", "fail", "undecided"]

# Why a rule's number is unknown, where that says more than that nothing was measured.
UNKNOWN = {
    "min_recovery": "the baseline's score is not told from guessing: there is nothing to keep"
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """One rule held against one row: what was measured, and what that means.

    ``p_broken`` is the one-sided p that the threshold is kept, ``p_holm`` the same adjusted over
    the gate's rules; nan where there is none. Of a rule that is judged while documents are drawn,
    ``drawn`` is how many of its ``whole`` were, and ``cut`` the nats at which a sample's distance
    is cut; None elsewhere. ``infinite`` is of how many samples the number is infinite. ``tier``
    says what its outcome means for the gate's.
    """

    row: str
    rule: str
    value: float
    interval: Interval
    threshold: float
    outcome: Outcome
    p_broken: float = nan
    p_holm: float = nan
    drawn: int | None = None
    whole: int | None = None
    cut: float | None = None
    infinite: int = 0
    tier: Tier = "critical"

    @property
    def counts(self) -> bool:
        """Whether its outcome counts: of an advisory rule never, of a supporting one a failure."""
        return self.tier == "critical" or (self.tier == "supporting" and self.outcome == "fail")

    @property
    def reason(self) -> str:
        """The outcome in words."""
        if self.rule in (REQUIRED, AGE):
            return self._reason_of_policy
        if isnan(self.value):
            return UNKNOWN.get(self.rule, "nothing was measured")
        if self.drawn is not None:
            return self._reason_while_drawing
        if self.value == inf:
            of = f" for {self.infinite} sample{'s' * (self.infinite != 1)}"
            return f"broken: the distance is infinite{of * (self.infinite > 0)}"
        if self.outcome == "undecided" and all(map(isnan, self.interval)):
            return "there is no interval to judge by"
        if self.outcome == "undecided" and self.p_broken <= LEVEL:
            return "broken, but so may be one of so many rules by chance: more samples are needed"
        if self.outcome == "undecided":
            return "not told from the threshold: more samples are needed"
        return "kept" if self.outcome == "pass" else "broken"

    @property
    def _reason_of_policy(self) -> str:
        if self.rule == REQUIRED:
            return "no such task was compared: evaluate it in both runs"
        if self.outcome == "pass":
            return "kept"
        age = "of unknown age" if isnan(self.value) else "too old"
        return f"the baseline is {age}: evaluate it anew"

    @property
    def _reason_while_drawing(self) -> str:
        word = {"pass": "kept", "fail": "broken", "undecided": "not decided"}[self.outcome]
        cut = "" if self.cut is None else f", each sample's KL cut at {self.cut:g} nat"
        cut += "s" if cut and self.cut != 1 else ""
        return f"{word} after {self.drawn:,} of {self.whole:,} samples{cut}"
