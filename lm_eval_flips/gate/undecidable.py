"""What can be known of a sequential gate before anything is evaluated."""

from __future__ import annotations

import torch

from lm_eval_flips.gate.evidence import LEVEL
from lm_eval_flips.gate.rule_values import refuse_rules
from lm_eval_flips.gate.thresholds import EQUIVALENCE, LOSS, GateConfig, refuse_no_rule
from lm_eval_flips.measures.betting import Draws, least_draws


def refuse_undecidable(config: GateConfig) -> None:
    """Refuse what can be known before anything is evaluated.

    Raises:
        FlipsError: there is no rule, or one is no mean of bounded numbers.
    """
    refuse_no_rule(config)
    for thresholds in (config.pooled, *config.tasks.values()):
        refuse_rules(thresholds.given)


def least_documents(config: GateConfig, documents: int) -> int:
    """As many documents as a pass of all pooled rules takes at least, where nothing changes.

    Example:
        >>> from lm_eval_flips.gate.thresholds import Thresholds
        >>> least_documents(GateConfig(pooled=Thresholds(max_flips=0.1)), 2961)
        53
    """
    most = 0
    for rule, threshold in config.pooled.given.items():
        low = -1.0 if rule in (LOSS, EQUIVALENCE) else 0.0
        best = Draws(values=torch.zeros(documents), whole=documents, low=low, high=1.0)
        most = max(most, least_draws(best, most=threshold, p=LEVEL))
    return most
