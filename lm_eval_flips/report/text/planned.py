"""Estimates of all documents from a plan's samples -> table, sentences and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isnan
from typing import Any

from lm_eval_flips.comparison.result import Estimate, Planned, PlannedRow
from lm_eval_flips.report.text.numbers import MISSING, nats, number, percent, signed
from lm_eval_flips.report.text.whole_table import WholeTable

COLUMNS = (
    "task",
    "metric",
    "n",
    "score",
    "change",
    "flips",
    "all flips",
    "C→I",
    "I→C",
    "choice KL",
)
LEGEND = (
    "planned samples: estimates of what all documents would show, each sample by its weight, with "
    "95 % intervals of what the full run over them would show. C→I correct to incorrect, I→C "
    "incorrect to correct, of all documents; flips = C→I + I→C, all flips + wrong to another wrong "
    "answer. choice KL: mean over the choices, token KL over the vocabulary, nats."
)


def planned_table(planned: Planned) -> WholeTable:
    """The rows of tasks, groups and the pool."""
    rows = [*planned.tasks, *planned.groups, planned.pooled]
    styles: list[str | None] = [None] * len(planned.tasks)
    styles += ["cyan"] * len(planned.groups) + ["bold"]
    if len(planned.tasks) == 1:
        rows, styles = rows[:-1], styles[:-1]
    tokens = any(_token_kl(row) is not None for row in rows)
    columns = (*COLUMNS, "token KL") if tokens else COLUMNS
    return WholeTable(
        columns=columns,
        rows=[_cells(row)[: len(columns)] for row in rows],
        styles=styles,
        numbers=columns.index("n"),
    )


def _cells(row: PlannedRow) -> list[str]:
    found = row.estimates
    plain = row.filter in ("none", row.metric)
    shares = ("flips", "all_flips", "correct_to_incorrect_share", "incorrect_to_correct_share")
    return [
        row.name,
        row.metric if plain else f"{row.metric},{row.filter}",
        f"{row.n} of {row.documents}",
        f"{number(row.baseline_score)} → {number(row.compressed_score)}",
        _shown(found.get("score_change"), signed),
        *(_shown(found.get(name), percent) for name in shares),
        _shown(found.get("choice_kl"), nats),
        _shown(_token_kl(row), nats),
    ]


def _token_kl(row: PlannedRow) -> Estimate | None:
    return row.estimates.get("token_kl", row.estimates.get("token_kl_first_position"))


def _shown(estimate: Estimate | None, show: Callable[[float], str]) -> str:
    if estimate is None or isnan(estimate.value):
        return MISSING
    low, high = estimate.interval
    if isnan(low):
        return show(estimate.value)
    ends = f"{show(low).removesuffix(' %')}, {show(high).removesuffix(' %')}"
    return f"{show(estimate.value)} [{ends}]"


def planned_lines(planned: Planned) -> Iterator[str]:
    """What is said below the table."""
    row = planned.pooled
    found = row.estimates.get("all_flips", row.estimates.get("flips"))
    if found is not None:
        what = "all flips" if "all_flips" in row.estimates else "flips"
        yield (
            f"plan {planned.path}, seed {planned.seed}: {row.n} of {row.documents} documents; "
            f"plain random sampling would need {_samples(found)} for this interval of {what}"
        )
    if (lost := row.estimates.get("negative_flip_rate")) is not None and not isnan(lost.value):
        yield f"{_shown(lost, percent)} of the baseline's correct answers lost"
    if row.equivalence is not None:
        low, high = row.equivalence.inner
        yield (
            f"equivalence within ±{row.equivalence.margin:g}: {row.equivalence.sentence} (of "
            f"questions like these: 90 % interval [{signed(low)}, {signed(high)}])"
        )


def _samples(estimate: Estimate) -> str:
    return MISSING if isnan(estimate.plain_samples) else f"{estimate.plain_samples:.0f}"


def planned_document(planned: Planned) -> dict[str, Any]:
    """The estimates as plain dicts and lists, for JSON."""
    return {
        "path": planned.path,
        "seed": planned.seed,
        "tasks": [{"task": row.name, **_row(row)} for row in planned.tasks],
        "groups": [{"group": row.name, **_row(row)} for row in planned.groups],
        "pooled": _row(planned.pooled),
    }


def _row(row: PlannedRow) -> dict[str, Any]:
    equivalence = row.equivalence
    return {
        "filter": row.filter,
        "metric": row.metric,
        "n": row.n,
        "documents": row.documents,
        "baseline_score": row.baseline_score,
        "compressed_score": row.compressed_score,
        "higher_is_better": row.higher_is_better,
        "estimates": {
            name: {
                "value": found.value,
                "interval": list(found.interval),
                "general": list(found.general),
                "plain_samples": found.plain_samples,
            }
            for name, found in row.estimates.items()
        },
        "equivalence": equivalence
        and {
            "margin": equivalence.margin,
            "verdict": equivalence.verdict,
            "interval_90": list(equivalence.inner),
        },
    }
