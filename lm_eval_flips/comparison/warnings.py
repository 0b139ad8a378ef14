"""Warnings: what a reader must know because something about the runs is not as it should be.

Each is worded here, once; terminal, page, card, board and JSON show the same ones. Where they are:

- ``comparison.warnings``: all of them, run after run;
- ``run.warnings``: those of one compressed run (or of the noise floor);
- ``row.warnings``: those that concern a row's tasks.

>>> from lm_eval_flips.pairs.pairing import Dropped
>>> dropped = Dropped(task="arc", filter="none", reasons={"prompt differs": (3, 7)})
>>> warning = samples_left_out("runs/int4/results.json", dropped)
>>> warning.code, warning.place.task
('samples-left-out', 'arc')
>>> print(warning)
left out 2 samples of arc (none): prompt differs: doc 3, 7

To add one: write a function that makes it, with its words and its way out, and call it from a rule.
In ``warning_rules.py`` a rule yields the warnings of a run (``RunFacts`` in, one line in
``RUN_RULES``) or of a single row (``Row`` in, one line in ``ROW_RULES``). What ``pairs/`` finds in
the samples, a ``Finding``, is one already. Nothing else is touched: everything that shows warnings
shows it. A code is a word or a few, joined by hyphens, and stays what it is: people filter by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_eval_flips.errors import named
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.measured_answers import AnswerValues
from lm_eval_flips.pairs.mismatch import RERUN
from lm_eval_flips.pairs.pairing import Dropped, Pairs

if TYPE_CHECKING:
    from lm_eval_flips.comparison.result import Row, SettingDifference

SHOWN = 8  # names in one warning; the rest is counted
VALUE = 40  # characters of a setting's value


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a warning is about: a run, and where it is not of the whole run a task, filter, metric.

    ``run`` is the path of the run's results file.
    """

    run: str
    task: str | None = None
    filter: str | None = None
    metric: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning:  # noqa: A001  (the word for it; nothing here raises Python's)
    """A sentence about a result, with a code that stays the same and a way out.

    ``way_out`` is empty where nothing can be done, or nothing need be.
    """

    code: str
    place: Place
    text: str
    way_out: str = ""

    def __str__(self) -> str:
        return self.text


def setting_differs(difference: SettingDifference) -> Warning:
    """A setting that changes scores without changing prompts is not the same in both runs."""
    return Warning(
        code="setting-differs",
        place=Place(run=difference.run),
        text=f"{difference.setting} {difference.baseline!s:.{VALUE}} → "
        f"{difference.compressed!s:.{VALUE}}",
        way_out=f"evaluate both models with the same {difference.setting}",
    )


def samples_left_out(run: str, dropped: Dropped) -> Warning:
    """Samples that could not be paired, or that hold a nan."""
    why = "; ".join(
        f"{reason}: doc {named(list(docs))}" for reason, docs in dropped.reasons.items()
    )
    ways = list(dict.fromkeys(RERUN[reason] for reason in dropped.reasons if reason in RERUN))
    return Warning(
        code="samples-left-out",
        place=Place(run=run, task=dropped.task, filter=dropped.filter),
        text=f"left out {dropped.count} sample{'s' * (dropped.count != 1)} of {dropped.task} "
        f"({dropped.filter}): {why}",
        way_out=f"rerun with the same {', '.join(ways)}" if ways else "",
    )


def task_in_one_run(run: str, task: str, *, only_baseline: bool) -> Warning:
    """A task that only one of the runs holds: nothing to compare."""
    where, lacks = "compressed run", "baseline"
    if only_baseline:
        where, lacks = lacks, where
    return Warning(
        code="task-in-one-run",
        place=Place(run=run, task=task),
        text=f"{task} is only in the {where}",
        way_out=f"evaluate the {lacks} on {task} too, or choose tasks with --tasks",
    )


def filter_missing(run: str, task: str, wanted: str) -> Warning:
    """A task that did not log the filter that was asked for."""
    return Warning(
        code="filter-missing",
        place=Place(run=run, task=task, filter=wanted),
        text=f"{task} has no filter '{wanted}' and was left out",
        way_out="drop --filter to compare every task under its own",
    )


def metric_missing(run: str, task: str, wanted: str) -> Warning:
    """A task that did not log the metric that was asked for."""
    return Warning(
        code="metric-missing",
        place=Place(run=run, task=task, metric=wanted),
        text=f"{task} has no metric '{wanted}' and was left out",
        way_out="drop --metric to compare every task by its own",
    )


def metric_in_one_run(run: str, pairs: Pairs, metric: str, *, only_baseline: bool) -> Warning:
    """A metric that only one of the runs logged for a task."""
    where = "baseline" if only_baseline else "compressed run"
    return Warning(
        code="metric-in-one-run",
        place=Place(run=run, task=pairs.task, filter=pairs.filter, metric=metric),
        text=f"{metric} of {pairs.task} is only in the {where}",
        way_out="evaluate both models with the same version of the task",
    )


def choices_differ(run: str, choices: Mapping[str, int]) -> Warning:
    """A pool of tasks with other numbers of choices: the same noise gives other distances."""
    by_count: dict[int, list[str]] = {}
    for task, count in choices.items():
        by_count.setdefault(count, []).append(task)
    told = ", ".join(f"{count} ({named(by_count[count], shown=2)})" for count in sorted(by_count))
    return Warning(
        code="choices-differ",
        place=Place(run=run),
        text=f"choice KL is pooled over tasks of {told} choices: of the same noise it is larger "
        "where there are more; read it task by task",
    )


def group_averaged(run: str, row: Row, scores: tuple[float, float]) -> Warning:
    """A group that the harness scores by the mean of its tasks, whatever their sizes."""
    before, after = scores
    return Warning(
        code="group-averaged",
        place=Place(run=run, task=row.name, filter=row.filter, metric=row.metric),
        text=f"{row.name}: the harness averages its tasks, {row.metric} {before:.4f} → "
        f"{after:.4f} ({after - before:+.4f}); the row counts every sample alike",
    )


def tokens_not_measured(run: str, why: str) -> Warning:
    """Distances over the vocabulary that the run holds but that are not of these two runs."""
    return Warning(
        code="tokens-not-measured",
        place=Place(run=run),
        text=f"no token KL: {why}",
        way_out="evaluate the compressed model with --reference of this baseline",
    )


def answers_left_out(run: str, why: str) -> Warning:
    """Distances along answers that the run holds but that are not of these two runs."""
    return Warning(
        code="answers-left-out",
        place=Place(run=run),
        text=f"no answer KL: {why}",
        way_out="evaluate the compressed model with --reference of this baseline",
    )


def answers_not_measured(run: str, pairs: Pairs, unknown: Sequence[int]) -> Warning:
    """Samples of a task of which others were measured."""
    return Warning(
        code="answers-not-measured",
        place=Place(run=run, task=pairs.task, filter=pairs.filter),
        text=f"answer KL of {pairs.task} lacks {len(unknown)} of {len(pairs.doc_ids)} samples: doc "
        f"{named(list(unknown))}",
        way_out="the command that measured says why",
    )


def near_ties(run: str, pairs: Pairs, answers: AnswerValues) -> Warning:
    """A baseline that does not choose its own answers again: where they part is not sure."""
    return Warning(
        code="near-ties",
        place=Place(run=run, task=pairs.task, filter=pairs.filter),
        text=f"{pairs.task}: at {100 * answers.near_ties:.2f} % of the positions of its own "
        "answers the baseline's choice hangs on rounding (two best tokens within "
        f"{answers.noise:.3g} nats): where answers part is not sure there",
        way_out="evaluate both models in float32",
    )


def first_positions_only(run: str, row: Row) -> Warning:
    """A token_kl that is the first positions', which alone were recorded."""
    return Warning(
        code="first-positions-only",
        place=Place(run=run, task=row.name, filter=row.filter, metric=row.metric),
        text=f"token KL of {row.name} is of first positions: no other was recorded",
        way_out="record the baseline with positions=all",
    )


def doubtful(run: str, finding: Finding) -> Warning:
    """What the samples themselves tell: a run that is doubtful, or cannot be right."""
    return Warning(
        code=finding.code,
        place=Place(run=run, task=finding.task, filter=finding.filter),
        text=f"{finding.task}: {finding.text}",
        way_out=finding.way_out,
    )
