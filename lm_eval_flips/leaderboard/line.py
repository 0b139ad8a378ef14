"""One row of a comparison, flat: a task's, a group's or the pool's numbers in a compressed run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan, nan
from typing import Literal

from lm_eval_flips.comparison.pooling import one_row_each
from lm_eval_flips.comparison.result import Row, RunComparison
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval

Level = Literal["task", "group", "pooled"]

POOLED = "pooled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Shares lie in 0..1, distances are nats, intervals are of 95 %; undefined is nan or None.

    Names are those of the JSON document, what is nested there being joined by an underscore.
    ``level`` says whether ``task`` names a task, a group of the harness, or the pool of all tasks.
    ``token_kl_mean`` is over requests, or over first positions where only those are known.
    """

    level: Level
    task: str
    filter: str
    metric: str
    n: int
    baseline_score: float
    compressed_score: float
    score_change: float
    score_change_interval: Interval
    higher_is_better: bool
    flips: float
    flips_interval: Interval
    all_flips: float
    all_flips_interval: Interval
    correct_to_incorrect: int | None
    incorrect_to_correct: int | None
    wrong_to_wrong: int | None
    loss_share: float
    loss_share_interval: Interval
    negative_flip_rate: float
    negative_flip_rate_interval: Interval
    choice_kl_mean: float
    choice_kl_mean_interval: Interval
    choice_kl_median: float
    choice_kl_p99: float
    token_kl_mean: float
    token_kl_mean_interval: Interval
    token_kl_first_position_only: bool | None
    token_lower_bound_top: int | None
    equivalence_margin: float
    equivalence_verdict: str | None
    p_value: float
    p_loss: float
    p_holm: float
    test: str
    error_method: str

    @property
    def loss(self) -> float:
        """How much worse the score became; negative where it became better."""
        return -self.score_change if self.higher_is_better else self.score_change


def lines_of(run: RunComparison) -> Iterator[Line]:
    """A run's lines: one for each task and group, then the pool.

    A task or group of several metrics is told by its first binary one, else by its first.
    """
    for row in one_row_each(run.tasks).values():
        yield line_of(row, "task")
    for row in one_row_each(run.groups).values():
        yield line_of(row, "group")
    yield line_of(run.pooled, "pooled")


def line_of(row: Row, level: Level) -> Line:
    """A row, flat."""
    flips, direction, distances, tokens = row.flips, row.direction, row.distances, row.tokens
    first_only = None if tokens is None else isnan(tokens.token_kl.per_request_mean)
    equivalence = row.equivalence

    def interval(name: str) -> Interval:
        return row.intervals.get(name, NO_INTERVAL)

    return Line(
        level=level,
        task=POOLED if level == "pooled" else row.name,
        filter=row.filter,
        metric=row.metric,
        n=row.n,
        baseline_score=row.baseline_score,
        compressed_score=row.compressed_score,
        score_change=row.score_change,
        score_change_interval=interval("score_change"),
        higher_is_better=row.higher_is_better,
        flips=nan if flips is None else flips.flips,
        flips_interval=interval("flips"),
        all_flips=nan if flips is None else flips.all_flips,
        all_flips_interval=interval("all_flips"),
        correct_to_incorrect=None if flips is None else flips.correct_to_incorrect,
        incorrect_to_correct=None if flips is None else flips.incorrect_to_correct,
        wrong_to_wrong=None if flips is None else flips.wrong_to_wrong,
        loss_share=nan if direction is None else direction.loss_share,
        loss_share_interval=interval("loss_share"),
        negative_flip_rate=nan if direction is None else direction.negative_flip_rate,
        negative_flip_rate_interval=interval("negative_flip_rate"),
        choice_kl_mean=nan if distances is None else distances.choice_kl.mean,
        choice_kl_mean_interval=interval("choice_kl"),
        choice_kl_median=nan if distances is None else distances.choice_kl.median,
        choice_kl_p99=nan if distances is None else distances.choice_kl.p99,
        token_kl_mean=nan if tokens is None else tokens.token_kl.typical,
        token_kl_mean_interval=interval("token_kl_first_position" if first_only else "token_kl"),
        token_kl_first_position_only=first_only,
        token_lower_bound_top=None if tokens is None else tokens.top,
        equivalence_margin=nan if equivalence is None else equivalence.margin,
        equivalence_verdict=None if equivalence is None else equivalence.verdict,
        p_value=row.p_value,
        p_loss=row.p_loss,
        p_holm=row.p_holm,
        test=row.test,
        error_method=row.error_method,
    )
