"""Columns that come in families: of a distance its mean, median and tail, alike for all of them."""

from __future__ import annotations

from lm_eval_flips.report.column import NOWHERE, Column, Place


def distance_columns(
    key: str, label: str, meaning: str, *, leaves: int = 50, places: frozenset[Place] = NOWHERE
) -> tuple[Column, ...]:
    """A distance over the choices: its mean, and how it is spread over the samples."""
    counted = Column(
        key=f"{key}_infinite",
        label=f"infinite {label}",
        meaning="samples with a choice that one model holds for impossible and the other not",
        leaves=45,
        tone="movement",
        only_above_0=True,
        places=places,
    )
    # the other distances are bounded
    infinite = (counted,) if "kl" in key else ()
    aside: frozenset[Place] = frozenset(("terminal", "card", "board")) if places else NOWHERE
    return (
        Column(
            key=key,
            label=label,
            meaning=f"{meaning}, mean",
            leaves=leaves,
            tone="movement",
            places=places,
        ),
        Column(
            key=f"{key}_median",
            label=f"median {label}",
            meaning="half of the samples have less",
            leaves=8,
            places=aside,
        ),
        Column(
            key=f"{key}_p99",
            label=f"p99 {label}",
            meaning=f"{meaning}, 99 % of the samples have less",
            places=NOWHERE,
        ),
        Column(
            key=f"{key}_max",
            label=f"largest {label}",
            meaning=f"{meaning}, the largest of a sample",
            places=NOWHERE,
        ),
        *infinite,
    )


def token_columns(
    key: str,
    label: str,
    meaning: str,
    *,
    leaves: int = 50,
    places: frozenset[Place] = NOWHERE,
    change: bool = False,
) -> tuple[Column, ...]:
    """A value at the positions of the vocabulary: its mean over requests, and its spread."""
    of = {
        "first_position": "at the first position of each request, mean",
        "per_position": "mean over all positions",
        "median": "median over all positions",
        "p99": "99 % of all positions have less",
        "max": "the largest of a position",
    }
    return (
        Column(
            key=key,
            label=label,
            meaning=f"{meaning}, mean over requests",
            leaves=leaves,
            tone="movement",
            places=places,
            change=change,
        ),
        *(
            Column(
                key=f"{key}_{name}",
                label=f"{label}, {name.replace('_', ' ')}",
                meaning=f"{meaning}, {what}",
                places=NOWHERE,
                change=change,
            )
            for name, what in of.items()
        ),
    )


def related_columns(distance: str, label: str) -> tuple[Column, ...]:
    """How a distance goes with the answers, sample by sample."""
    return (
        Column(
            key=f"{distance}_detects_flips",
            label=f"AUROC of {label}",
            meaning=f"chance that a flipped sample has a larger {label} than one that did not flip",
            places=NOWHERE,
        ),
        Column(
            key=f"{distance}_with_flipped",
            label=f"Spearman, {label} and flips",
            meaning=f"rank correlation of {label} and flips over samples; bounded by the flip rate",
            places=NOWHERE,
        ),
        Column(
            key=f"{distance}_with_changed",
            label=f"Spearman, {label} and changes",
            meaning=f"rank correlation of {label} and changed answers over samples",
            places=NOWHERE,
        ),
    )


def aside(key: str, label: str, meaning: str, *, change: bool = False) -> Column:
    """One for files and for those who ask, not for tables of many rows."""
    return Column(key=key, label=label, meaning=meaning, change=change, places=NOWHERE)
