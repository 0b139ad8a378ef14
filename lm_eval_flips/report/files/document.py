"""Comparison -> the JSON document of `--json`, version 2.

A row is flat: every number of ``comparison/numbers.py`` under its key, which means the same in
Python, CSV and Parquet, and under ``intervals`` the 95 % interval of those that have one.
Undefined and infinite numbers are null, for JSON has neither nan nor inf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite, isnan
from typing import Any

import msgspec

from lm_eval_flips.comparison.planned import Planned, PlannedRow
from lm_eval_flips.comparison.result import Comparison, Ranking, Regime, Row, RunComparison
from lm_eval_flips.comparison.spec import Number
from lm_eval_flips.measures.correlation import Spearman
from lm_eval_flips.measures.equivalence import Equivalence
from lm_eval_flips.measures.margin import Margins
from lm_eval_flips.measures.overlap import Overlap

VERSION = 2


def to_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain dicts and lists, ready for JSON.

    Example:
        >>> to_document(comparison)["version"]  # doctest: +SKIP
        2
    """
    document: dict[str, Any] = _plain(
        {
            "version": VERSION,
            "baseline": {
                "path": comparison.baseline.path,
                "model": comparison.baseline.model,
                "others": list(comparison.baseline.others),
            },
            "noise_floor": comparison.noise_floor and _run(comparison.noise_floor),
            "warnings": [asdict(warning) for warning in comparison.warnings],
            "settings_that_differ": [asdict(d) for d in comparison.settings_that_differ],
            "compressed": [_run(run) for run in comparison.compressed],
            "ranking": comparison.ranking and _ranking(comparison.ranking),
            "overlap": comparison.overlap and _overlap(comparison.overlap),
            "correlation": {
                "across_runs": {
                    name: _spearman(correlation)
                    for name, correlation in comparison.across_runs.items()
                },
                "across_runs_token_kl": {
                    name: _spearman(correlation)
                    for name, correlation in comparison.across_runs_token_kl.items()
                },
                "regimes": [_regime(correlation) for correlation in comparison.regimes],
                "text_losses": {
                    own.loss: {name: _spearman(found) for name, found in own.told_by.items()}
                    for own in comparison.text_losses
                },
            },
        }
    )
    return document


def to_json(comparison: Comparison) -> bytes:
    """The document as indented JSON, ending in a newline."""
    return msgspec.json.format(msgspec.json.encode(to_document(comparison)), indent=2) + b"\n"


def _run(run: RunComparison) -> dict[str, Any]:
    # the rows of a plan's samples as they are would be taken for all documents'
    rows = {"tasks": [], "groups": [], "pooled": None} if run.planned else _rows(run)
    return {
        "path": run.path,
        "model": run.model,
        "others": list(run.others),
        "scheme": run.scheme and asdict(run.scheme),
        **rows,
        "planned": run.planned and _planned(run.planned),
        "decisions": run.decisions and asdict(run.decisions),
        "dropped": [
            {"task": d.task, "filter": d.filter, "count": d.count, "reasons": dict(d.reasons)}
            for d in run.dropped
        ],
        "not_compared": list(run.not_compared),
        "tokens_left_out": run.tokens_left_out,
    }


def _rows(run: RunComparison) -> dict[str, Any]:
    return {
        "tasks": [{"task": row.name, **_row(row)} for row in run.tasks],
        "groups": [{"group": row.name, **_row(row)} for row in run.groups],
        "pooled": _row(run.pooled),
    }


def _ranking(ranking: Ranking) -> dict[str, Any]:
    return {
        "n": ranking.n,
        "metric": ranking.metric,
        "scores": list(ranking.scores),
        "order": list(ranking.order),
        "groups": [list(group) for group in ranking.groups],
        "letters": list(ranking.letters),
        "p_values": [{"runs": list(pair), "p": p} for pair, p in ranking.p_values.items()],
    }


def _regime(regime: Regime) -> dict[str, Any]:
    return {
        "distance": regime.distance,
        "below": regime.below,
        "flips": _spearman(regime.flips),
        "net_loss": _spearman(regime.net_loss),
    }


def _overlap(overlap: Overlap) -> dict[str, Any]:
    runs = range(len(overlap.common))
    return {
        "n": overlap.n,
        "changed_by_all": overlap.by_all,
        "changed_by_any": overlap.by_any,
        "common": [list(row) for row in overlap.common],
        "coefficient": [[overlap.coefficient(i, j) for j in runs] for i in runs],
        "jaccard": [[overlap.jaccard(i, j) for j in runs] for i in runs],
    }


def _row(row: Row) -> dict[str, Any]:
    numbers = row.numbers
    return {
        "filter": row.filter,
        "metric": row.metric,
        "higher_is_better": row.higher_is_better,
        **{key: number.value for key, number in numbers.items()},
        "token_lower_bound_top": row.tokens and row.tokens.top,
        "token_kl_first_position_only": None if row.tokens is None else row.first_positions_only,
        "equivalence": row.equivalence and _equivalence(row.equivalence),
        "excess": {
            name: {
                "value": excess.value,
                "floor": excess.floor,
                "excess": excess.excess,
                "interval": list(excess.interval),
                "n": excess.n,
                "within_floor": excess.within_floor,
                "verdict": excess.verdict,
            }
            for name, excess in row.excess.items()
        },
        "margin_bins": row.margins and _bins(row.margins),
        "intervals": _intervals(numbers),
        "error_method": row.error_method,
        "test": row.test,
        "warnings": [warning.code for warning in row.warnings],
    }


def _intervals(numbers: Mapping[str, Number]) -> dict[str, list[float]]:
    """Those of which an end is known."""
    return {
        key: list(number.interval)
        for key, number in numbers.items()
        if not all(map(isnan, number.interval))
    }


def _bins(margins: Margins) -> list[dict[str, Any]]:
    return [
        {
            "low": bin_.low,
            "high": bin_.high,
            "n": bin_.rate.n,
            "answers_changed": bin_.rate.changed,
            "answers_changed_share": bin_.rate.share,
            "interval": list(bin_.rate.interval),
        }
        for bin_ in margins.bins
    ]


def _planned(planned: Planned) -> dict[str, Any]:
    """The estimates of a plan's samples, of all documents."""
    return {
        "path": planned.path,
        "seed": planned.seed,
        "tasks": [{"task": row.name, **_planned_row(row)} for row in planned.tasks],
        "groups": [{"group": row.name, **_planned_row(row)} for row in planned.groups],
        "pooled": _planned_row(planned.pooled),
    }


def _planned_row(row: PlannedRow) -> dict[str, Any]:
    numbers = {key: number for key, number in row.numbers.items() if number.known}
    return {
        "filter": row.filter,
        "metric": row.metric,
        "higher_is_better": row.higher_is_better,
        **{key: number.value for key, number in numbers.items()},
        "estimates": {
            name: {
                "interval_of_the_full_run": list(estimate.interval),
                "plain_samples": estimate.plain_samples,
            }
            for name, estimate in row.estimates.items()
        },
        "equivalence": row.equivalence and _equivalence(row.equivalence),
        "intervals": _intervals(numbers),
    }


def _equivalence(equivalence: Equivalence) -> dict[str, Any]:
    return {
        "margin": equivalence.margin,
        "verdict": equivalence.verdict,
        "interval_90": list(equivalence.inner),
    }


def _spearman(correlation: Spearman) -> dict[str, Any]:
    return {
        "spearman": correlation.statistic,
        "n": correlation.n,
        "interval": list(correlation.interval),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
