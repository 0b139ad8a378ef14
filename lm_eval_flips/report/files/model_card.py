"""Comparison -> a block of Markdown for a model card, between marks, so that it can be renewed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isnan

from lm_eval_flips.comparison.pooling import one_row_each
from lm_eval_flips.comparison.result import Comparison, Row, RunComparison
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.report.files.markdown import cell, table
from lm_eval_flips.report.names import model_name
from lm_eval_flips.report.text.numbers import MISSING, nats, number, percent, signed
from lm_eval_flips.report.text.sentences import metric_name

BEGIN = "<!-- lm-eval-flips begin: what stands from here to the end mark is replaced -->"
END = "<!-- lm-eval-flips end -->"
SHOWN = 12  # tasks; more are folded below their groups and the pool
HEADER = (
    *("task", "metric", "n", "score", "change [95 %]", "flips [95 %]"),
    *("C→I", "I→C", "all flips", "choice KL", "token KL"),
)


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
        parts += [_sentence(run), *_tables(run), *_remarks(comparison, run)]
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
    change = f"{signed(row.score_change)}{_ends(row.intervals['score_change'], signed)}"
    if flips is None:
        return f"Over {over} the score changed by {change}."
    share = f"{percent(flips.flips)}{_ends(row.intervals['flips'], _hundredths)}"
    lost, won = flips.correct_to_incorrect, flips.incorrect_to_correct
    return (
        f"Over {over}, {share} of the answers flipped: {lost} became incorrect, {won} correct. "
        f"The score changed by {change}."
    )


def _tables(run: RunComparison) -> Iterator[str]:
    chosen = list(one_row_each(run.tasks).values())
    groups = one_row_each(run.groups).values()
    pooled = [] if len(chosen) == 1 else [run.pooled]
    if len(chosen) <= SHOWN:
        yield _table([*chosen, *groups, *pooled])
        return
    yield _table([*groups, *pooled])
    yield f"<details><summary>{len(chosen)} tasks</summary>"
    yield _table(chosen)
    yield "</details>"


def _table(rows: list[Row]) -> str:
    cells = [_cells(row) for row in rows]
    kept = [i for i in range(len(HEADER)) if any(own[i] != MISSING for own in cells)]
    header = [cell(HEADER[i]) for i in kept]
    return table(header, [[cell(own[i]) for i in kept] for own in cells], left=2).rstrip()


def _cells(row: Row) -> list[str]:
    flips, distances = row.flips, row.distances
    counts = (
        (MISSING, MISSING)
        if flips is None
        else (str(flips.correct_to_incorrect), str(flips.incorrect_to_correct))
    )
    return [
        row.name,
        metric_name(row),
        str(row.n),
        f"{number(row.baseline_score)} → {number(row.compressed_score)}",
        f"{signed(row.score_change)}{_ends(row.intervals['score_change'], signed)}",
        MISSING
        if flips is None
        else f"{percent(flips.flips)}{_ends(row.intervals['flips'], _hundredths)}",
        *counts,
        MISSING if flips is None else percent(flips.all_flips),
        MISSING if distances is None else nats(distances.choice_kl.mean),
        MISSING if row.tokens is None else nats(row.tokens.token_kl.typical),
    ]


def _remarks(comparison: Comparison, run: RunComparison) -> Iterator[str]:
    """What a reader must know beside the table: the verdict, the floor, what differs or lacks."""
    found = run.pooled.equivalence
    if found is not None:
        yield f"Equivalence within ±{found.margin:g}: {found.sentence}"
    quiet = [name for name, own in run.pooled.excess.items() if own.within_floor]
    if quiet:
        names = ", ".join(name.replace("_", " ").replace("kl", "KL") for name in quiet)
        yield f"Not told apart from a second run of the baseline itself: {names}."
    differing = [own for own in comparison.settings_that_differ if own.run == run.path]
    if differing:
        listing = "; ".join(
            f"{d.setting} {d.baseline!s:.40} → {d.compressed!s:.40}" for d in differing
        )
        yield f"Settings that differ: {cell(listing)}."
    left_out = sum(own.count for own in run.dropped)
    if left_out:
        yield f"Left out: {left_out} samples that could not be compared."


def _how(comparison: Comparison, harness: str | None) -> str:
    version = f" {cell(harness)}" if harness else ""
    rows = [row for run in comparison.compressed for row in run.tasks]
    parts = [
        f"Measured with lm-evaluation-harness{version} and lm-eval-flips: both models answered the "
        "same samples, paired one by one (C→I: correct to incorrect, I→C: incorrect to correct)."
    ]
    if any(row.distances is not None for row in rows):
        parts.append("Choice KL is KL(baseline ‖ compressed) over the choices, mean, in nats.")
    if any(row.tokens is not None for row in rows):
        parts.append("Token KL is the same over the vocabulary.")
    parts.append("Brackets are 95 % intervals.")
    return " ".join(parts)


def _ends(interval: Interval, show: Callable[[float], str]) -> str:
    return "" if isnan(interval.low) else f" [{', '.join(map(show, interval))}]"


def _hundredths(share: float) -> str:
    return f"{100 * share:.2f}"
