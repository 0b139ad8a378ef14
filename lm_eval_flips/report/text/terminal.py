"""Comparison -> what `compare` prints: a sentence a model, then tables, then what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.comparison.row import MIXED
from lm_eval_flips.comparison.standing import closest_first, row_of
from lm_eval_flips.report.names import model_name, run_names
from lm_eval_flips.report.text.across import across_lines
from lm_eval_flips.report.text.drawn import runs_text
from lm_eval_flips.report.text.fitted_table import FittedTable
from lm_eval_flips.report.text.judgement import SIGNS, Code, Judgement
from lm_eval_flips.report.text.planned import planned_lines
from lm_eval_flips.report.text.sentences import (
    floor_lines,
    metric_name,
    run_lines,
    several_lines,
)
from lm_eval_flips.report.text.summary import (
    GROUP,
    MOST_SENTENCES,
    VERDICT,
    closest_line,
    judgements,
    model_sentence,
    models_table,
    ranking_line,
)
from lm_eval_flips.report.text.table import legend, run_table
from lm_eval_flips.report.text.warned import MOST, warned

SHOWN = 4  # warnings of many models


def printed(comparison: Comparison, *, details: bool = False, fit: bool = True) -> Group:
    """Everything `compare` prints.

    Args:
        comparison: what ``compare`` returned.
        details: the statistics in words, and the tables of more than three models.
        fit: leave out columns that a narrow terminal has no room for.
    """
    return Group(*_parts(comparison, details=details, fit=fit))


def _parts(comparison: Comparison, *, details: bool, fit: bool) -> Iterator[RenderableType]:
    few = len(comparison.compressed) <= MOST_SENTENCES
    order, names = closest_first(comparison), run_names(comparison)
    yield from _head(comparison)
    tables, verdicts = [], judgements(comparison)
    if closest := closest_line(comparison):
        yield Text(closest)
        yield Text()
    if few:
        for place in order:
            yield _sentence(names[place], comparison.compressed[place], verdicts[place])
    else:
        tables.append(models_table(comparison, fit=fit))
        yield tables[0]
    yield from _warnings(comparison, names, details=details)
    if few or details:
        for place in order:
            run = comparison.compressed[place]
            tables.append(run_table(run, fit=fit))
            name = names[place] if len(names) > 1 else None
            yield from _run(run, name, tables[-1], details=details)
    yield Text()
    if few and (line := ranking_line(comparison)):
        yield Text(line)
    if details:
        yield from map(Text, (*across_lines(comparison), *several_lines(comparison)))
    estimates = any(run.planned is not None for run in comparison.compressed)
    yield _Legend(tables=tables, estimates=estimates)
    if not details:
        rest = "statistics in words" if few else "each model's tasks, and statistics in words"
        yield Text(f"--details: {rest}", style="dim")


def _run(
    run: RunComparison, name: str | None, table: RenderableType, *, details: bool
) -> Iterator[RenderableType]:
    """A compressed run's table, under its name where there are others."""
    yield Text()
    if name is not None:
        yield Text(name, style="bold")
    yield table
    if details:
        yield from map(Text, details_of(run))


def _head(comparison: Comparison) -> Iterator[Text]:
    """What was compared."""
    rows = [row_of(run) for run in comparison.compressed]
    counts = sorted({row.n for row in rows})
    samples = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    tasks = len({row.name for run in comparison.compressed for row in run.tasks})
    metrics = dict.fromkeys(metric_name(row) for row in rows if row.metric != MIXED)
    by = f" by {', '.join(metrics)}" if len(metrics) == 1 else ""
    over = f"{samples} samples of {tasks} task{'s' * (tasks != 1)}{by}"
    name = model_name(comparison.baseline.model)
    seeds = runs_text("", others=comparison.baseline.others).strip()
    over = f"{seeds}, {over}" if seeds else over
    yield Text.assemble("baseline ", (name, "bold"), f"{' ' if seeds else ', '}{over}")
    yield from map(Text, floor_lines(comparison))
    yield Text()


def _sentence(name: str, run: RunComparison, verdict: Judgement) -> Text:
    sentence = model_sentence(name, run, verdict)
    return Text.assemble((f"{verdict.sign} ", verdict.style), (name, "bold"), sentence[len(name) :])


def _warnings(comparison: Comparison, names: Sequence[str], *, details: bool) -> Iterator[Text]:
    lines = warned(comparison, names, most=len(comparison.warnings) if details else MOST)
    many = len(names) > MOST_SENTENCES and not details
    shown = lines[:SHOWN] if many else lines
    for line in shown:
        # of many models a line each: with its way out it is in the details
        yield Text(f"warning: {line}", style="yellow", no_wrap=many, overflow="ellipsis")
    if len(shown) < len(lines):
        yield Text(f"and {len(lines) - len(shown)} more warnings", style="yellow")


def details_of(run: RunComparison) -> list[str]:
    """What is said of a run below its table, where that was asked for."""
    return list(run_lines(run) if run.planned is None else planned_lines(run.planned))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Legend:
    """What stands in the tables above, for the columns that there was room for."""

    tables: Sequence[FittedTable]
    estimates: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield it as one paragraph."""
        shown = [own for table in self.tables for own in table.fitting(options.max_width)]
        labels = list(dict.fromkeys(column.label for column in shown))
        signs = [f"{SIGNS[code]} {word}" for code, word in WORDS.items()]
        groups = ["models that share a letter are not told apart at 5 % (Holm)"]
        parts = [
            *([f"{', '.join(signs)} (Holm over the models)"] if VERDICT in labels else []),
            *(groups if GROUP in labels else []),
            *([ESTIMATES] if self.estimates else []),
            legend(labels),
        ]
        yield Text("; ".join(part for part in parts if part), style="dim")


ESTIMATES = "estimates of all documents, each sample by its weight"
WORDS: dict[Code, str] = {
    "worse": "the score got worse",
    "better": "better",
    "same": "the same within the margin",
    "open": "not told apart from the baseline's",
}
