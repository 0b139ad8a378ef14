"""Comparison -> a block of Markdown for a model card, between marks, so that it can be renewed."""

from __future__ import annotations

from collections.abc import Iterator

from lm_eval_flips.comparison.numbers import one_each
from lm_eval_flips.comparison.result import Comparison, Row, RunComparison
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.report.column import Column
from lm_eval_flips.report.columns import COLUMN, columns_at
from lm_eval_flips.report.files.markdown import cell, table
from lm_eval_flips.report.names import model_name
from lm_eval_flips.report.text.sentences import metric_name
from lm_eval_flips.report.text.warned import warning_lines

BEGIN = "<!-- lm-eval-flips begin: what stands from here to the end mark is replaced -->"
END = "<!-- lm-eval-flips end -->"
SHOWN = 12  # tasks; more are folded below their groups and the pool
WITH_INTERVAL = ("score_change", "flips")


def model_card(comparison: Comparison, *, harness: str | None = None) -> str:
    """The block: for each compressed run a sentence and a table; then how it was measured.

    Args:
        comparison: the comparison.
        harness: the version of lm_eval that evaluated the models, if it is known.
    """
    baseline = cell(model_name(comparison.baseline.model))
    parts = [BEGIN, f"## Answers changed from {baseline}"]
    for run in comparison.compressed:
        if len(comparison.compressed) > 1:
            parts.append(f"### {cell(model_name(run.model))}")
        parts += [_sentence(run), *_tables(run), *_remarks(run)]
    parts += [_how(comparison, harness), END]
    return "\n\n".join(parts) + "\n"


def with_block(text: str, block: str) -> str:
    r"""A card's text with the block in the place of the one it holds, or at its end.

    Everything else stays as it is, the card's line ends too.

    Raises:
        FlipsError: one mark stands there without the other, or more than once.

    Example:
        >>> card = with_block("# Model\n", "BLOCK\n")
        >>> card
        '# Model\n\nBLOCK\n'
    """
    ends = "\r\n" if "\r\n" in text else "\n"
    fresh = block.replace("\n", ends)
    counts = (text.count(BEGIN), text.count(END))
    if counts == (0, 0):
        before = text.rstrip("\r\n")
        return f"{before}{ends}{ends}{fresh}" if before else fresh
    start, stop = text.find(BEGIN), text.find(END)
    if counts != (1, 1) or stop < start:
        raise FlipsError(
            "the model card's marks of lm-eval-flips are not one beginning and one end; remove "
            "them, and the block is put at the card's end"
        )
    return f"{text[:start]}{fresh.rstrip()}{text[stop + len(END) :]}"


def _sentence(run: RunComparison) -> str:
    row, flips = run.pooled, run.pooled.flips
    tasks = len({own.name for own in run.tasks})
    over = f"{row.n} samples of {tasks} task{'s' * (tasks != 1)}"
    change = f"{COLUMN['score_change'].text(row)} {COLUMN['score_change'].interval(row)}".rstrip()
    if flips is None:
        return f"Over {over} the score changed by {change}."
    share = f"{COLUMN['flips'].text(row)} {COLUMN['flips'].interval(row)}".rstrip()
    lost, won = flips.correct_to_incorrect, flips.incorrect_to_correct
    return (
        f"Over {over}, {share} of the answers flipped: {lost} became incorrect, {won} correct. "
        f"The score changed by {change}."
    )


def _tables(run: RunComparison) -> Iterator[str]:
    chosen = list(one_each(run.tasks).values())
    groups = one_each(run.groups).values()
    pooled = [] if len(chosen) == 1 else [run.pooled]
    if len(chosen) <= SHOWN:
        yield _table([*chosen, *groups, *pooled])
        return
    yield _table([*groups, *pooled])
    yield f"<details><summary>{len(chosen)} tasks</summary>"
    yield _table(chosen)
    yield "</details>"


def _table(rows: list[Row]) -> str:
    columns = columns_at("card", rows)
    header = ["task", "metric", *(_label(column, rows) for column in columns)]
    lines = [
        [row.name, metric_name(row), *(_number(column, row) for column in columns)] for row in rows
    ]
    cells = [[cell(text) for text in line] for line in lines]
    return table([cell(text) for text in header], cells, left=2).rstrip()


def _label(column: Column, rows: list[Row]) -> str:
    title = column.title(rows)
    return f"{title} [95 %]" if column.key in WITH_INTERVAL else title


def _number(column: Column, row: Row) -> str:
    interval = column.interval(row) if column.key in WITH_INTERVAL else ""
    return f"{column.text(row)} {interval}".rstrip()


def _remarks(run: RunComparison) -> Iterator[str]:
    """What a reader must know beside the table: the verdict, the floor, what differs or lacks."""
    found = run.pooled.equivalence
    if found is not None:
        yield f"Equivalence within ±{found.margin:g}: {found.sentence}"
    quiet = [name for name, own in run.pooled.excess.items() if own.within_floor]
    if quiet:
        names = ", ".join(name.replace("_", " ").replace("kl", "KL") for name in quiet)
        yield f"Not told apart from a second run of the baseline itself: {names}."
    for line in warning_lines(run.warnings):
        yield f"Warning: {cell(line)}."


def _how(comparison: Comparison, harness: str | None) -> str:
    version = f" {cell(harness)}" if harness else ""
    rows = [row for run in comparison.compressed for row in run.tasks]
    parts = [
        f"Measured with lm-evaluation-harness{version} and lm-eval-flips: both models answered the "
        "same samples, paired one by one (C→I: correct to incorrect, I→C: incorrect to correct)."
    ]
    if any(row.distances is not None for row in rows):
        parts.append(
            "Choice KL is KL(baseline ‖ compressed) over the choices, mean and median, in nats."
        )
    if any(row.tokens is not None for row in rows):
        parts.append("Token KL is the same over the vocabulary.")
    parts.append("Brackets are 95 % intervals.")
    return " ".join(parts)
