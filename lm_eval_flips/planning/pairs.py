"""The drawn samples of a plan: that a run holds them and no others, and their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.planning.plan import Plan, PlannedTask
from lm_eval_flips.planning.population import document_hashes, documents_digest, identity


class PlannedSamples:
    """Takes a plan's samples out of the baseline's run, and proves that a run holds just them.

    The baseline's run is the one that was planned from, with all documents, or a second one of the
    drawn documents only, as few-shot examples may make necessary.

    Args:
        plan: the plan.
        path: its file, for messages.
        base: the baseline's run.

    Raises:
        FlipsError: the baseline is of another model than the plan's.
    """

    def __init__(self, plan: Plan, path: str | Path, base: Run) -> None:
        self.plan, self._path = plan, path
        self._scores: dict[tuple[str, str, str], float] = {}
        if identity(base) != plan.baseline.model:
            raise self._foreign(
                f"it was made from {plan.baseline.model['model']}, the baseline is {base.model}; "
                f"give the run '{plan.baseline.path}'"
            )

    def tasks(self, kept: Sequence[str], runs: Sequence[Run]) -> list[str]:
        """Those tasks that are planned, which every run has to hold, and no others.

        Raises:
            FlipsError: a run lacks a planned task, or holds one that is not planned.
        """
        planned = [name for name in kept if name in self.plan.tasks]
        if not planned:
            raise self._foreign(
                f"it has the tasks {named(list(self.plan.tasks), shown=10)}, of which none is "
                "compared"
            )
        for run in runs:
            lacking = [name for name in planned if name not in run.tasks]
            other = [name for name in kept if name in run.tasks and name not in planned]
            if lacking or other:
                what = "lacks" if lacking else "also holds"
                raise self._foreign(
                    f"'{run.path}' {what} the task {named(lacking or other)}; evaluate just "
                    "the planned tasks, or choose among them with --tasks"
                )
        return planned

    def of(self, ours: Samples, theirs: Samples) -> Samples:
        """The baseline's samples of the drawn documents, after both runs are held to the plan.

        Raises:
            FlipsError: the documents of either run are not those of the plan, or their prompts
                differ as few-shot examples were drawn anew.
        """
        task = self.plan.tasks[ours.task.name]
        self._check_drawn(theirs, task)
        if len(ours) == len(task.doc_ids):
            self._check_drawn(ours, task)
            if len(ours) == task.documents:
                self._note_scores(ours)
            return ours
        if documents_digest(ours) != task.digest:
            raise self._foreign(
                f"task '{ours.task.name}' of the baseline holds {len(ours)} documents that are not "
                f"the {task.documents} it was made from; give the run '{self.plan.baseline.path}'"
            )
        self._note_scores(ours)
        drawn = ours.only(np.array(task.doc_ids))
        self._check_prompts(drawn, theirs, task)
        return drawn

    def score(self, task: str, label: str, metric: str) -> float | None:
        """The baseline's score over all documents; None where only the drawn ones are known."""
        return self._scores.get((task, label, metric))

    def _note_scores(self, samples: Samples) -> None:
        for metric, values in samples.metrics.items():
            key = (samples.task.name, samples.filter, metric)
            self._scores[key] = float(values.mean())

    def _check_drawn(self, samples: Samples, task: PlannedTask) -> None:
        name, found = samples.task.name, set(samples.doc_id.tolist())
        hashes = task.hashes
        lacking, other = sorted(set(hashes) - found), sorted(found - set(hashes))
        if lacking or other:
            parts = [
                f"{len(docs)} {what} (doc {named(docs)})"
                for what, docs in (("are missing", lacking), ("are not planned", other))
                if docs
            ]
            raise self._foreign(f"task '{name}', of its samples {' and '.join(parts)}")
        logged = dict(zip(samples.doc_id.tolist(), document_hashes(samples), strict=True))
        wrong = [doc for doc, own in hashes.items() if logged[doc] != own]
        if wrong:
            same = sorted(logged.values()) == sorted(hashes.values())
            why = (
                "they stand under other doc_ids, which an unsorted --samples list does: sort it "
                "and rerun"
                if same
                else "it was made from another version of the task or of its data set"
            )
            raise self._foreign(
                f"task '{name}', {len(wrong)} documents differ (doc {named(wrong)}): {why}"
            )

    def _check_prompts(self, ours: Samples, theirs: Samples, task: PlannedTask) -> None:
        differ = (ours.hashes["prompt"] != theirs.hashes["prompt"]).any(-1)
        if task.fewshot_drawn and differ.any():
            raise FlipsError(
                f"task '{ours.task.name}': {int(differ.sum())} prompts differ from the baseline's, "
                "since few-shot examples are drawn anew under --samples; evaluate the baseline "
                "too with the same --samples file, and give that run as the baseline"
            )

    def _foreign(self, why: str) -> FlipsError:
        return FlipsError(f"the plan '{self._path}' does not belong to these runs: {why}")


def sample_weights(plan: Plan) -> Mapping[str, Mapping[int, float]]:
    """How many documents each drawn sample stands for, by task and doc_id."""
    return {
        name: dict(zip(task.doc_ids, task.design().weights.tolist(), strict=True))
        for name, task in plan.tasks.items()
    }
