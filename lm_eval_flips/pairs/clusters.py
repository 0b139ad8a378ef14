"""Samples that share a field's value are not independent: `--cluster FIELD`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.reading import read_documents
from lm_eval_flips.logs.records import content_digest
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.task_log import TaskLog
from lm_eval_flips.pairs.pairing import Pairs

MISSING = object()


class Clusters:
    """Labels samples by a field, the same value getting the same label in all tasks.

    Args:
        base: the baseline's run, whose log holds the documents.
        field: "task", "group" (the smallest group of the harness that holds the task), or a
            document field; "doc.group" is a document field of that name, "a.b" one within another.
    """

    def __init__(self, base: Run, field: str) -> None:
        self._base, self.field = base, field
        self._labels: dict[bytes, int] = {}
        self._values: dict[str, Sequence[Any]] = {}

    def of(self, pairs: Pairs) -> Pairs:
        """The pairs with the field's values as clusters.

        Raises:
            FlipsError: documents lack the field.
        """
        task = pairs.baseline.task
        if self.field == "task":
            labels = [self._label(task.name)] * len(pairs.doc_ids)
        elif self.field == "group":
            labels = [self._label(_smallest(self._base.groups, task.name))] * len(pairs.doc_ids)
        else:
            values = self._read(task)
            labels = [self._label(values[line]) for line in pairs.baseline.line.tolist()]
        clusters = torch.tensor(labels, dtype=torch.int64, device=pairs.clusters.device)
        return replace(pairs, clusters=clusters, cluster_field=self.field)

    def refuse_one(self) -> None:
        """Refuse one cluster for everything, which shows no error.

        Raises:
            FlipsError: there is only one.
        """
        if len(self._labels) < 2:
            raise FlipsError(
                f"every sample has the same {self.field}: one cluster tells nothing of chance; "
                "name another field for --cluster, or leave it out"
            )

    def _label(self, value: Any) -> int:
        return self._labels.setdefault(content_digest(value), len(self._labels))

    def _read(self, task: TaskLog) -> Sequence[Any]:
        if task.name not in self._values:
            path = self.field.removeprefix("doc.").split(".")
            documents = read_documents(task)
            first = next(documents, {})
            values = [_value(document, path) for document in (first, *documents)]
            lacking = values.count(MISSING)
            if lacking:
                raise FlipsError(
                    f"task '{task.name}': the documents of {lacking} of {len(values)} samples have "
                    f"no field '{self.field}'; the first has {named(list(first), shown=20)}. Name "
                    "a field that all have, or choose tasks with --tasks"
                )
            self._values[task.name] = values
        return self._values[task.name]


def _value(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = document
    for name in path:
        found = found.get(name, MISSING) if isinstance(found, Mapping) else MISSING
    return found


def _smallest(groups: Mapping[str, Sequence[str]], task: str) -> str:
    """The group with the fewest tasks that holds this one; the task itself where none does."""
    holding = [name for name, leaves in groups.items() if task in leaves]
    return min(holding, key=lambda name: len(groups[name]), default=task)
