"""What a policy asks beside its thresholds: tasks that are there, a baseline that is not old.

A task that was left out cannot fail a threshold; of a baseline that was evaluated long ago nobody
knows whether it is still what the model is held against.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from math import nan

from lm_eval_flips.gate.ruling import Outcome, Ruling
from lm_eval_flips.gate.thresholds import AGE, REQUIRED, GateConfig
from lm_eval_flips.measures.significance import NO_INTERVAL

DAY = 24 * 3600.0
DATE = "%Y-%m-%dT%H-%M-%S"  # of a results file's name, without its fractions of a second


def policy_rulings(
    config: GateConfig, tasks: Collection[str], date: str, *, now: datetime | None = None
) -> Iterator[Ruling]:
    """A ruling for each required task that was not compared, and one on the baseline's age.

    Args:
        config: the policy.
        tasks: tasks and groups that were compared.
        date: the baseline's, as the harness has it in a results file's name.
        now: the time to take it from; by default this moment.

    Example:
        >>> asked = GateConfig(required=["arc_*", "mmlu"])
        >>> [ruling.reason for ruling in policy_rulings(asked, ["arc_easy"], "")]
        ['no such task was compared: evaluate it in both runs']
    """
    for pattern in config.required:
        if not any(fnmatchcase(task, pattern) for task in tasks):
            yield _ruling(pattern, REQUIRED, nan, threshold=nan, outcome="fail")
    if config.max_age_days is None:
        return
    days = _age(date, now or datetime.now(timezone.utc))
    # a date that is not known is no date within the limit
    fresh = days <= config.max_age_days
    outcome: Outcome = "pass" if fresh else "undecided"
    yield _ruling("baseline", AGE, days, threshold=config.max_age_days, outcome=outcome)


def _ruling(row: str, rule: str, value: float, *, threshold: float, outcome: Outcome) -> Ruling:
    return Ruling(
        row=row,
        rule=rule,
        value=value,
        interval=NO_INTERVAL,
        threshold=threshold,
        outcome=outcome,
    )


def _age(date: str, now: datetime) -> float:
    """Days since a results file's date, which is the machine's own time; nan where it has none."""
    try:
        written = datetime.strptime(date.partition(".")[0], DATE).astimezone()
    except ValueError:
        return nan
    return (now - written).total_seconds() / DAY
