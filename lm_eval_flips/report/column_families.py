"""Columns that come in families: of a distance its mean, median and tail, alike for all of them."""

from __future__ import annotations

from collections.abc import Mapping

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
        unless_0=True,
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


# A sign of written answers: what it is called, what it means, and when its change leaves.
SIGNS: Mapping[str, tuple[str, str, int]] = {
    "empty": ("empty", "answers without a word", -5),
    "invalid": ("no answer", "answers in which the task's filter found none", -2),
    "looped": ("loops", "answers that end in one unit repeated, 60 characters of it or more", -3),
    "truncated": (
        "cut off",
        "answers that ran into the limit before there was one to find; unknown where the log does "
        "not tell it of all",
        -4,
    ),
}


IN_TABLES: frozenset[Place] = frozenset(("terminal", "page"))
JUDGED: tuple[Column, ...] = (
    aside("judged_samples", "judged", "samples of which both answers have a judge's score"),
    aside(
        "baseline_judge_score", "judge, baseline", "a judge's score of its answers, 1 to 10, mean"
    ),
    aside("compressed_judge_score", "judge, compressed", "the same of the compressed model's"),
    Column(
        key="judge_score_change",
        label="judge",
        meaning="a judge's mean score, 1 to 10, minus that of the baseline's answers",
        leaves=12,
        tone="movement",
        change=True,
        places=IN_TABLES | {"board"},
    ),
    Column(
        key="judge_first_turn_change",
        label="turn 1",
        meaning="the same of the first turn of conversations",
        leaves=-6,
        tone="movement",
        change=True,
        places=IN_TABLES,
    ),
    Column(
        key="judge_later_turns_change",
        label="turn 2+",
        meaning="the same of all turns but the first",
        leaves=11,
        tone="movement",
        change=True,
        places=IN_TABLES,
    ),
    aside("judge_noise", "judge's noise", "standard deviation of its score when it is asked again"),
    aside("judge_wins", "judge wins", "answers that a judge held for better, in both orders"),
    aside("judge_losses", "judge losses", "answers that it held for worse, in both orders"),
    aside("judge_ties", "judge ties", "answers of which its orders disagree, or neither is better"),
    Column(
        key="judge_preference",
        label="preferred",
        meaning="a judge's wins minus losses, as a share of the pairs that it saw in both orders",
        leaves=13,
        tone="movement",
        change=True,
        places=IN_TABLES,
    ),
)


def written_columns() -> tuple[Column, ...]:
    """How long written answers are, and how many are none: the changes, and aside the two sides."""
    return (
        aside("baseline_length", "length, baseline", "characters of the baseline's answers, mean"),
        aside("compressed_length", "length, compressed", "the same of the compressed model's"),
        Column(
            key="length_ratio",
            label="length ratio",
            meaning="mean length of the written answers as a multiple of the baseline's",
            leaves=-1,
            places=IN_TABLES,
        ),
        *(column for sign in SIGNS for column in _sign_columns(sign)),
        *JUDGED,
        aside(
            "script_switched", "other script", "answers whose letters are mostly of another script"
        ),
    )


def _sign_columns(sign: str) -> tuple[Column, ...]:
    label, meaning, leaves = SIGNS[sign]
    return (
        aside(f"baseline_{sign}", f"{label}, baseline", f"{meaning}, of the baseline's"),
        aside(
            f"compressed_{sign}", f"{label}, compressed", f"{meaning}, of the compressed model's"
        ),
        Column(
            key=f"{sign}_change",
            label=label,
            meaning=f"{meaning}: their share minus the baseline's",
            leaves=leaves,
            tone="loss",
            change=True,
            unless_0=True,
            places=IN_TABLES,
        ),
    )
