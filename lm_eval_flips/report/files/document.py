"""Comparison -> the JSON document of `--json`, version 1.

The fields are those of the records in ``result.py``. Undefined and infinite numbers are null, for
JSON has neither nan nor inf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite, nan
from typing import Any

import msgspec

from lm_eval_flips.comparison.result import (
    Comparison,
    Ranking,
    Regime,
    Row,
    RunComparison,
)
from lm_eval_flips.measures.correlation import Auroc, SampleCorrelation, Spearman
from lm_eval_flips.measures.direction import Direction
from lm_eval_flips.measures.divergence import Distances, Summary
from lm_eval_flips.measures.equivalence import Equivalence
from lm_eval_flips.measures.margin import Margins, Rate
from lm_eval_flips.measures.overlap import Overlap
from lm_eval_flips.measures.perplexity import PerplexityChange
from lm_eval_flips.measures.tokens import TokenDistances
from lm_eval_flips.report.text.planned import planned_document

VERSION = 1


def to_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain dicts and lists, ready for JSON.

    Example:
        >>> to_document(comparison)["version"]  # doctest: +SKIP
        1
    """
    document: dict[str, Any] = _plain(
        {
            "version": VERSION,
            "baseline": {
                "path": comparison.baseline.path,
                "model": comparison.baseline.model,
            },
            "noise_floor": comparison.noise_floor and _run(comparison.noise_floor),
            "warnings": [asdict(warning) for warning in comparison.warnings],
            "settings_that_differ": [asdict(d) for d in comparison.settings_that_differ],
            "compressed": [_run(run) for run in comparison.compressed],
            "ranking": comparison.ranking and _ranking(comparison.ranking),
            "overlap": comparison.overlap and _overlap(comparison.overlap),
            "correlation": {
                "per_sample": {
                    run.path: _correlation(run.pooled.correlation)
                    for run in comparison.compressed
                    if run.planned is None
                },
                "across_runs": {
                    name: _spearman(found) for name, found in comparison.across_runs.items()
                },
                "across_runs_token_kl": {
                    name: _spearman(found)
                    for name, found in comparison.across_runs_token_kl.items()
                },
                "regimes": [_regime(found) for found in comparison.regimes],
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
        **rows,
        "planned": run.planned and planned_document(run.planned),
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


def _ranking(found: Ranking) -> dict[str, Any]:
    return {
        "n": found.n,
        "metric": found.metric,
        "scores": list(found.scores),
        "order": list(found.order),
        "groups": [list(group) for group in found.groups],
        "letters": list(found.letters),
        "p_values": [{"runs": list(pair), "p": p} for pair, p in found.p_values.items()],
    }


def _regime(found: Regime) -> dict[str, Any]:
    return {
        "distance": found.distance,
        "below": found.below,
        "flips": _spearman(found.flips),
        "net_loss": _spearman(found.net_loss),
    }


def _overlap(found: Overlap) -> dict[str, Any]:
    runs = range(len(found.common))
    return {
        "n": found.n,
        "changed_by_all": found.by_all,
        "changed_by_any": found.by_any,
        "common": [list(row) for row in found.common],
        "coefficient": [[found.coefficient(i, j) for j in runs] for i in runs],
        "jaccard": [[found.jaccard(i, j) for j in runs] for i in runs],
    }


def _row(row: Row) -> dict[str, Any]:
    flips, distances = row.flips, row.distances
    return {
        "filter": row.filter,
        "metric": row.metric,
        "n": row.n,
        "baseline_score": row.baseline_score,
        "compressed_score": row.compressed_score,
        "score_change": row.score_change,
        "higher_is_better": row.higher_is_better,
        "correct_to_incorrect": flips and flips.correct_to_incorrect,
        "incorrect_to_correct": flips and flips.incorrect_to_correct,
        "wrong_to_wrong": flips and flips.wrong_to_wrong,
        "flips": flips.flips if flips else nan,
        "all_flips": flips.all_flips if flips else nan,
        "answers_changed": flips.share(flips.answers_changed) if flips else nan,
        "direction": row.direction and _direction(row, row.direction),
        **_distances(distances),
        **_tokens(row.tokens),
        "top_margin": row.margins and _margins(row.margins),
        "correlation": _correlation(row.correlation),
        "perplexity": row.perplexity and _perplexity(row.perplexity),
        "excess": {
            name: {
                "value": found.value,
                "floor": found.floor,
                "excess": found.excess,
                "interval": list(found.interval),
                "n": found.n,
                "within_floor": found.within_floor,
            }
            for name, found in row.excess.items()
        },
        "equivalence": row.equivalence and _equivalence(row.equivalence),
        "intervals": {name: list(interval) for name, interval in row.intervals.items()},
        "error_method": row.error_method,
        "test": row.test,
        "p_value": row.p_value,
        "p_loss": row.p_loss,
        "p_holm": row.p_holm,
        "minimal_detectable_change": row.minimal_detectable_change(),
    }


def _direction(row: Row, found: Direction) -> dict[str, Any]:
    return {
        "loss_share": found.loss_share,
        "random_loss_share": found.random_loss_share,
        "p_no_preference": row.p_no_preference,
        "p_random": row.p_random,
        "negative_flip_rate": found.negative_flip_rate,
        "margin_change": found.margin_change,
    }


def _distances(found: Distances | None) -> dict[str, Any]:
    names = ("choice_kl", "choice_kl_reverse", "jensen_shannon", "total_variation")
    if found is None:
        return dict.fromkeys(names)
    summaries: dict[str, Summary] = {name: getattr(found, name) for name in names}
    return {name: {"n": found.n, **asdict(summary)} for name, summary in summaries.items()}


def _tokens(found: TokenDistances | None) -> dict[str, Any]:
    names = (
        "token_kl",
        "token_kl_reverse",
        "token_jensen_shannon",
        "token_total_variation",
        "same_top",
        "logprob_change",
    )
    if found is None:
        return {**dict.fromkeys(names), "token_lower_bound_top": None, "token_correlation": None}
    correlation = _correlation(found.correlation, "token_kl")
    return {
        **{name: asdict(getattr(found, name)) for name in names},
        "token_lower_bound_top": found.top,
        "token_correlation": correlation,
    }


def _margins(found: Margins) -> dict[str, Any]:
    return {
        "mean_correct": found.mean_correct,
        "mean_incorrect": found.mean_incorrect,
        "changed_of_correct": _rate(found.correct),
        "changed_of_incorrect": _rate(found.incorrect),
        "bins": [{"low": b.low, "high": b.high, **_rate(b.rate)} for b in found.bins],
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "n": rate.n,
        "changed": rate.changed,
        "share": rate.share,
        "interval": list(rate.interval),
    }


def _correlation(
    found: SampleCorrelation | None, distance: str = "choice_kl"
) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        f"{distance}_with_changed": _spearman(found.changed),
        f"{distance}_with_flipped": _spearman(found.flipped),
        f"{distance}_detects_flips": _auroc(found.detects_flips),
    }


def _spearman(found: Spearman) -> dict[str, Any]:
    return {"spearman": found.statistic, "n": found.n, "interval": list(found.interval)}


def _auroc(found: Auroc) -> dict[str, Any]:
    return {
        "auroc": found.statistic,
        "flipped": found.positives,
        "not_flipped": found.negatives,
        "interval": list(found.interval),
    }


def _perplexity(found: PerplexityChange) -> dict[str, Any]:
    return {
        "ratio": found.ratio,
        "ratio_interval": list(found.ratio_interval()),
        "bits_change": found.bits_change,
        "bits_interval": list(found.bits_interval()),
    }


def _equivalence(found: Equivalence) -> dict[str, Any]:
    return {
        "margin": found.margin,
        "verdict": found.verdict,
        "interval_90": list(found.inner),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
