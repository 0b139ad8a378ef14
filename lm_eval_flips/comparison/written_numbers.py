"""The numbers of written answers: where they part, how draws differ, what a judge says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_eval_flips.comparison.spec import A_COUNT, GIVEN, PAIRED, Read, Spec
from lm_eval_flips.pairs.sample_values import COLUMN
from lm_eval_flips.pairs.written import MARKED

if TYPE_CHECKING:
    from lm_eval_flips.comparison.result import Row

JUDGES = "of the judge, not of the samples"


def _count(key: str) -> Read:
    """A count among what is measured."""

    def count(row: Row) -> int | None:
        return int(row.means[key]) if key in row.means else None

    return count


def _marked(sign: str) -> tuple[Spec, ...]:
    """Shares of the answers that have a sign, of both runs, and the change, which is paired."""
    sides = (f"baseline_{sign}", f"compressed_{sign}")
    return (
        *(Spec(key, "share", column=COLUMN[key], detail=True) for key in sides),
        Spec(f"{sign}_change", "share"),
    )


# Of answers that were drawn several times.
DRAWN: tuple[Spec, ...] = (
    Spec("expected_flips", "share"),
    Spec("expected_correct_to_incorrect_share", "share"),
    Spec("expected_incorrect_to_correct_share", "share"),
    Spec("seed_floor", "share"),
    Spec("compressed_seed_floor", "share", detail=True),
    Spec("flips_beyond_seeds", "share"),
)
PARTED: tuple[Spec, ...] = (
    Spec("same_text", "share", column=COLUMN["same_text"], least=True),
    Spec("answer_kl", "nats", column=COLUMN["answer_kl"], floor=True),
    Spec("first_divergence", "tokens", column=COLUMN["first_divergence"], median=True),
    Spec("never_diverges", "share", column=COLUMN["never_diverges"], least=True),
)
WRITTEN: tuple[Spec, ...] = (
    *DRAWN,
    *(
        Spec(key, "characters", column=COLUMN[key], detail=True)
        for key in ("baseline_length", "compressed_length")
    ),
    Spec("length_ratio", "ratio"),
    *(spec for sign in MARKED for spec in _marked(sign)),
    Spec("script_switched", "share", column=COLUMN["script_switched"], detail=True),
    Spec("judged_samples", "count", _count("judged_samples"), detail=True, no_interval=GIVEN),
    Spec("baseline_judge_score", "score", detail=True, no_interval=PAIRED),
    Spec("compressed_judge_score", "score", detail=True, no_interval=PAIRED),
    Spec("judge_score_change", "score"),
    Spec("judge_first_turn_change", "score"),
    Spec("judge_later_turns_change", "score"),
    Spec("judge_noise", "score", detail=True, no_interval=JUDGES),
    Spec("judge_wins", "count", _count("judge_wins"), no_interval=A_COUNT),
    Spec("judge_losses", "count", _count("judge_losses"), no_interval=A_COUNT),
    Spec("judge_ties", "count", _count("judge_ties"), detail=True, no_interval=A_COUNT),
    Spec("judge_preference", "share", least=True),
)
