"""Comparison -> what a reader needs first: each model in a sentence, the closest first."""

from __future__ import annotations

from collections.abc import Iterator

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Comparison, Row, RunComparison
from lm_eval_flips.comparison.standing import closest_first, row_of, standings_of
from lm_eval_flips.report.columns import COLUMN, columns_at
from lm_eval_flips.report.names import run_names
from lm_eval_flips.report.text.drawn import drawn_words
from lm_eval_flips.report.text.fitted_table import FittedTable, ShownColumn
from lm_eval_flips.report.text.judgement import Judgement, judged, judged_rows
from lm_eval_flips.report.text.numbers import MISSING, number
from lm_eval_flips.report.text.table import shown_column

MOST_SENTENCES = 3  # models; more have a line each
VERDICT, GROUP = "score is", "group"  # columns that are words
AnyRow = Row | PlannedRow


def judgements(comparison: Comparison) -> list[Judgement]:
    """The verdict on each model's score, adjusted over the models; in the comparison's order."""
    return judged_rows([row_of(run) for run in comparison.compressed])


def closest_line(comparison: Comparison) -> str:
    """Which model is the closest to the baseline, by which distance; "" where none is known."""
    found = standings_of(comparison, sizes={})
    if not found.distance or len(found.order) < 2:
        return ""
    column, first = COLUMN[found.distance], found.order[0]
    row = row_of(comparison.compressed[first])
    unit = " nats" if column.number(row).unit == "nats" else ""
    value = f"{column.text(row)}{unit} {column.interval(row)}".rstrip()
    return (
        f"closest to the baseline by {column.label}: {run_names(comparison)[first]}, {value}; the "
        "models follow by it"
    )


def model_sentence(name: str, run: RunComparison, verdict: Judgement | None = None) -> str:
    """What became of a model, in one sentence; by default its verdict is that of it alone."""
    row = row_of(run)
    parts = [
        _score(row, verdict or judged(row)),
        *_answers(row),
        *_distances(row),
        *floor_words(row),
    ]
    if run.planned is not None:
        parts.append(f"estimated from {row.n} of {run.planned.pooled.documents} documents")
    return f"{name}: {'; '.join(parts)}."


def _score(row: AnyRow, verdict: Judgement) -> str:
    perplexity = isinstance(row, Row) and row.perplexity is not None
    what = row.metric if perplexity else "the score"
    # bits are logarithms: their change is a difference, as of any score
    ratio = perplexity and row.metric != "bits_per_byte"
    column = COLUMN["perplexity_ratio" if ratio else "score_change"]
    change = " ".join(part for part in (column.text(row), column.interval(row)) if part)
    scores = " → ".join(COLUMN[key].text(row) for key in ("baseline_score", "compressed_score"))
    kind = "times the baseline's" if ratio else ""
    return f"{what} {verdict.words}, {scores} ({' '.join(filter(None, (change, kind)))})"


def _answers(row: AnyRow) -> Iterator[str]:
    flips = COLUMN["flips"]
    if not flips.number(row).known:
        yield from filter(None, [drawn_words(row)])
        return
    if flips.number(row).value == 0:
        yield "no answer flipped"
        return
    lost, won = (COLUMN[key].text(row) for key in ("correct_to_incorrect", "incorrect_to_correct"))
    yield f"{flips.text(row)} of the answers flipped, {lost} lost and {won} won"


def _distances(row: AnyRow) -> Iterator[str]:
    for key in ("choice_kl", "token_kl"):
        column, own = COLUMN[key], COLUMN[key].number(row)
        if not own.known:
            continue
        median = row.numbers[f"{key}_median"]
        middle = f", median {column.shown(median)}" if median.known else ""
        yield f"{column.title([row])} {column.text(row)} nats{middle}"


def floor_words(row: AnyRow) -> Iterator[str]:
    """What is beyond the noise floor, and what cannot be told apart from it."""
    if not isinstance(row, Row) or not row.excess:
        return
    beyond = [label_of(key) for key, own in row.excess.items() if not own.within_floor]
    within = [label_of(key) for key, own in row.excess.items() if own.within_floor]
    if beyond:
        yield f"beyond the noise floor in {', '.join(beyond)}"
    if within:
        floor = "it" if beyond else "the noise floor"
        yield f"not told apart from {floor} in {', '.join(within)} (n = {row.n})"


def label_of(key: str) -> str:
    """A number's label."""
    return COLUMN[key].label


def models_table(comparison: Comparison, *, fit: bool = True) -> FittedTable:
    """A line a model, the closest first: its verdict, and the numbers of all its tasks."""
    order = closest_first(comparison)
    names = run_names(comparison)
    rows = [row_of(comparison.compressed[place]) for place in order]
    found = judgements(comparison)
    verdicts = [found[place] for place in order]
    groups = () if comparison.ranking is None else comparison.ranking.letters
    columns = [
        ShownColumn(
            label=VERDICT,
            cells=[f"{own.sign} {own.short}" for own in verdicts],
            styles=[own.style for own in verdicts],
            number=False,
        )
    ]
    if groups:
        cells = [groups[place] for place in order]
        columns.append(ShownColumn(label=GROUP, cells=cells, number=False, leaves=32))
    for column in columns_at("terminal", rows):
        columns += shown_column(column, rows)
    if any(isinstance(row, Row) and row.excess for row in rows):
        cells = [_floor_cell(row) for row in rows]
        columns.append(ShownColumn(label="beyond floor", cells=cells, number=False, leaves=22))
    return FittedTable(
        label="model",
        names=[names[place] for place in order],
        columns=columns,
        styles=[None] * len(order),
        fit=fit,
    )


def _floor_cell(row: AnyRow) -> str:
    if not isinstance(row, Row) or not row.excess:
        return MISSING
    beyond = [label_of(key) for key, own in row.excess.items() if not own.within_floor]
    return ", ".join(beyond) or "not told apart"


def ranking_line(comparison: Comparison) -> str:
    """The runs from the best to the worst; > stands only where every pair across it differs."""
    ranking = comparison.ranking
    if ranking is None:
        return ""
    names = run_names(comparison)
    shown = [f"{names[run]} {number(ranking.scores[run])}" for run in ranking.order]
    lower = ranking.lower_is_better
    what = f"{ranking.metric} (lower is better)" if lower else "score"
    over = f"{what} over {ranking.n} samples: "
    if len(ranking.groups) == 1:
        return f"{over}{', '.join(shown)} (not told apart at 5 %, Holm)"
    if all(len(group) == 1 for group in ranking.groups):
        return f"{over}{(' < ' if lower else ' > ').join(shown)} (each two told apart at 5 %, Holm)"
    marked = [
        f"{text} {ranking.letters[run]}" for text, run in zip(shown, ranking.order, strict=True)
    ]
    return f"{over}{', '.join(marked)} (those that share a letter are not told apart at 5 %, Holm)"
