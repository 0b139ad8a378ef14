"""Which samples of a binary metric count as what: the marks that flips are counted from."""

from __future__ import annotations

from torch import Tensor

from lm_eval_flips.pairs.metric import PairedMetric


def indicators(metric: PairedMetric) -> dict[str, Tensor]:
    """Which samples of a binary metric count as what: one bool column for each defined name.

    Returns:
        ``[samples]`` each: ``flips``, ``correct_to_incorrect`` and ``incorrect_to_correct``;
        ``answers_changed`` where the log names answers, ``wrong_to_wrong`` and ``all_flips`` where
        these are choices.
        Nothing for a metric that is not binary.
    """
    before, after, changed = metric.baseline_correct, metric.compressed_correct, metric.changed
    if before is None or after is None:
        return {}
    marks = {
        "flips": before ^ after,
        "correct_to_incorrect": before & ~after,
        "incorrect_to_correct": ~before & after,
    }
    if changed is not None:
        marks["answers_changed"] = changed
        if metric.baseline_answer is not None:
            marks["wrong_to_wrong"] = ~before & ~after & changed
            marks["all_flips"] = marks["flips"] | marks["wrong_to_wrong"]
    return marks


def share_key(mark: str) -> str:
    """What the share of the samples that have a mark is called; a count and a share never alike.

    Example:
        >>> share_key("flips"), share_key("correct_to_incorrect")
        ('flips', 'correct_to_incorrect_share')
    """
    return mark if mark in ("flips", "all_flips") else f"{mark}_share"
