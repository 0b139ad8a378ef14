"""Over compressed runs: what tells how much their written answers lose?

Questions with given choices are quick to evaluate, but people let models write. The paper
(arXiv 2407.09141, section 5) finds that MT-Bench's score falls with the flips of choices where
accuracy does not tell. Here every distance of the choices, and those along the answers themselves,
is held against every loss of the text: rank correlations over the runs, each with its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from lm_eval_flips.comparison.across_runs import (
    FEWEST,
    choice_kl,
    rank_correlation,
    token_kl,
)
from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.comparison.result import Row, RunComparison, TextLoss
from lm_eval_flips.comparison.row import measure
from lm_eval_flips.pairs.metric import PairedMetric

WRITTEN = "text"  # kind of tasks whose answers are written


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A run's tasks apart: those with choices, those with written answers; and its pool."""

    choices: Row | None
    written: Row | None
    pooled: Row


Measure = Callable[[_Parts], float | None]


def text_losses(runs: Sequence[RunComparison]) -> tuple[TextLoss, ...]:
    """What each loss of written text goes with over the runs; nothing for fewer than three.

    A loss, or what may tell it, is left out where a run lacks it. Of tasks with choices and of
    written ones each run's samples are pooled apart.
    """
    if len(runs) < FEWEST:
        return ()
    parts = [_parts(run) for run in runs]
    told = {key: _known(of, parts) for key, of in {**CHOICES, **ALONG, **LOSSES}.items()}
    losses = []
    for loss in (*LOSSES, *JUDGED):
        values = _known({**LOSSES, **JUDGED}[loss], parts)
        # the written answers' own losses are what a judge is held against, but not each other
        others = (*CHOICES, *ALONG, *(LOSSES if loss in JUDGED else ()))
        found = {
            key: rank_correlation(list(zip(known, values, strict=True)))
            for key in others
            if values and (known := told[key])
        }
        if found:
            losses.append(TextLoss(loss=loss, told_by=found))
    return tuple(losses)


def _known(of: Measure, parts: Sequence[_Parts]) -> list[float]:
    """A number of every run; none where one of them lacks it."""
    values = [value for part in parts if (value := of(part)) is not None and not isnan(value)]
    return values if len(values) == len(parts) else []


def _parts(run: RunComparison) -> _Parts:
    chosen = primaries(run.metrics)
    written = [metric for metric in run.metrics if metric.pairs.kind == WRITTEN]
    return _Parts(
        choices=_row([m for m in chosen if m.divergence is not None], chosen, run.pooled),
        written=_row(primaries(written) if written else [], chosen, run.pooled),
        pooled=run.pooled,
    )


def _row(own: Sequence[PairedMetric], chosen: Sequence[PairedMetric], pooled: Row) -> Row | None:
    if not own:
        return None
    same = [id(metric) for metric in own] == [id(metric) for metric in chosen]
    return pooled if same else measure(own, name="part")


def _flips(row: Row | None) -> float | None:
    return None if row is None or row.flips is None else row.flips.flips


def _net_loss(row: Row | None) -> float | None:
    return None if row is None or not row.binary else -row.score_change


def _mean(row: Row | None, key: str) -> float | None:
    return None if row is None else row.means.get(key)


def _different(row: Row | None) -> float | None:
    same = _mean(row, "same_text")
    return None if same is None else 1 - same


def _judge_drop(row: Row) -> float | None:
    change = row.means.get("judge_score_change")
    return None if change is None else -change


CHOICES: Mapping[str, Measure] = {
    "choice_flips": lambda part: _flips(part.choices),
    "choice_net_loss": lambda part: _net_loss(part.choices),
    "choice_kl": lambda part: None if part.choices is None else choice_kl(part.choices),
    "token_kl": lambda part: None if part.choices is None else token_kl(part.choices),
}
ALONG: Mapping[str, Measure] = {"answer_kl": lambda part: _mean(part.written, "answer_kl")}
LOSSES: Mapping[str, Measure] = {
    "text_flips": lambda part: _flips(part.written),
    "text_net_loss": lambda part: _net_loss(part.written),
    "different_text": lambda part: _different(part.written),
}
JUDGED: Mapping[str, Measure] = {"judge_drop": lambda part: _judge_drop(part.pooled)}
