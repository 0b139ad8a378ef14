"""Which samples are independent, and the standard errors that follow.

Samples of the same document are one cluster, within a task and over tasks that ask the same. Over
tasks that are worth ten alike ones or more (Kish's number, as of MMLU's subjects) the tasks are the
clusters, and those that share half of their documents one; never with a smaller error than the
documents alone would have. Over fewer a cluster-robust error is not to be trusted: the tasks are
then strata, the errors within each are added up, and the result speaks of these tasks. Clusters
that were asked for, by a field of the documents or by group, come before all that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from lm_eval_flips.measures.clustered import (
    effective_clusters,
    mean_variances,
    stratified_variances,
)
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.labels import Labels, joined, labels_freedom, numbered, together

ENOUGH_CLUSTERS = 10
INDEPENDENT = "independent samples"


@runtime_checkable
class Clustered(Protocol):
    """A task's samples, by what makes them dependent: the cluster of each."""

    @property
    def clusters(self) -> Tensor:
        """One label a sample."""

    @property
    def cluster_field(self) -> str | None:
        """What was asked to make samples dependent; None where nothing was."""


M = TypeVar("M", bound=Clustered)


class ErrorsOf(Generic[M]):
    """Standard errors of means over the samples of some tasks.

    ``documents`` is the number of samples that count where none was seen to move: that tells
    nothing of how alike the samples of a cluster are, so copies of a document count once.
    """

    def __init__(self, metrics: Sequence[M]) -> None:
        self.metrics = metrics
        self.sizes = [len(m.clusters) for m in metrics]
        self.n = sum(self.sizes)
        self.field = metrics[0].cluster_field
        together = numbered(torch.cat([m.clusters for m in metrics]))
        within = [together] if self.field is not None else [numbered(m.clusters) for m in metrics]
        # a document of several tasks joins them
        self._shared = len(within) > 1 and sum(labels.groups for labels in within) > together.groups
        self._documents = [together] if self._shared else within
        self.documents = sum(labels.groups for labels in self._documents)
        self._tasks = self._as_clusters(together) if self.field is None else None
        self.method = self._method()

    def _as_clusters(self, together: Labels) -> Labels | None:
        """The tasks, where they are worth enough alike ones; None where not."""
        if len(self.metrics) < ENOUGH_CLUSTERS:
            return None
        label = list(range(len(self.metrics)))
        if self._shared:
            label = joined(
                [set(labels.tolist()) for labels in torch.split(together.clusters, self.sizes)]
            )
        sizes = [0] * (max(label) + 1)
        for number, size in zip(label, self.sizes, strict=True):
            sizes[number] += size
        self._worth = effective_clusters(sizes)
        if self._worth < ENOUGH_CLUSTERS:
            return None
        device = together.clusters.device
        of_task = torch.tensor(label, device=device)
        repeats = torch.tensor(self.sizes, device=device)
        return Labels(torch.repeat_interleave(of_task, repeats), len(sizes))

    def _method(self) -> str:
        tasks = len(self.metrics)
        if self.field is not None:
            few = ": too few to tell much" if self.documents < ENOUGH_CLUSTERS else ""
            return f"clustered by {self.field} ({self.documents}{few})"
        if self._tasks is not None:
            apart = "" if self._tasks.groups == tasks else f"{self._tasks.groups} of "
            return f"clustered by task ({apart}{tasks})"
        if self._shared:
            return f"clustered by document over {tasks} tasks ({self.documents} of {self.n})"
        if tasks >= ENOUGH_CLUSTERS:
            return f"stratified by task ({tasks}, worth {self._worth:.1f} alike ones)"
        if tasks > 1:
            return f"stratified by task ({tasks})"
        if self.documents < self.n:
            return f"clustered by document ({self.documents} of {self.n} samples)"
        return INDEPENDENT

    @property
    def clustered_by_task(self) -> bool:
        """Whether the tasks are the clusters."""
        return self._tasks is not None

    @property
    def by_document(self) -> bool:
        """Whether documents are what is independent, be it within each task."""
        return self.field is None and not self.clustered_by_task

    @property
    def independent(self) -> bool:
        """Whether every sample counts by itself."""
        return self.method == INDEPENDENT

    @property
    def tasks_independent(self) -> bool:
        """Whether no document is in two tasks."""
        return not self._shared

    def strata(
        self, values: Sequence[Tensor], owners: Sequence[Tensor] | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """The tasks' values by stratum, each with their clusters, numbered from 0.

        Args:
            values: of each task's samples, or of things that belong to them.
            owners: the sample that each value belongs to; None for the samples themselves.
        """
        labels = self._documents if self._tasks is None else [self._tasks]
        if len(labels) == len(values):
            clusters_of = [label.clusters for label in labels]
            if owners is not None:
                both = zip(clusters_of, owners, strict=True)
                clusters_of = [clusters[owner.to(clusters.device)] for clusters, owner in both]
            return list(zip(values, clusters_of, strict=True))
        clusters = labels[0].clusters
        if owners is not None:
            starts = accumulate(self.sizes, initial=0)
            moved = [owner + start for owner, start in zip(owners, starts, strict=False)]
            clusters = clusters[torch.cat(moved).to(clusters.device)]
        return [(torch.cat(list(values)), clusters)]

    def of(self, values: Sequence[Tensor]) -> tuple[float, float]:
        """Standard error and degrees of freedom of the mean of the tasks' values together."""
        (error,), freedom = self.of_columns([[column] for column in values])
        return error, freedom

    def of_each(self, values: Sequence[Sequence[Tensor]]) -> tuple[list[float], float]:
        """``of`` of several values at once, and their degrees of freedom.

        Args:
            values: of each value the tasks' columns ``[samples]``.
        """
        # each value's numbers lie together, so that they are summed up as by itself
        return self.of_rows(torch.stack([torch.cat(list(tasks)).double() for tasks in values]))

    def of_rows(self, table: Tensor) -> tuple[list[float], float]:
        """The same of values ``[values, samples]``, the tasks' samples one after the other."""
        return self._errors(table.T)

    def of_columns(self, values: Sequence[Sequence[Tensor]]) -> tuple[list[float], float]:
        """The standard errors of several means at once, and their degrees of freedom.

        Args:
            values: of each task several columns ``[samples]``, the same for all tasks.
        """
        whole = [torch.stack([column.double() for column in task], 1) for task in values]
        return self._errors(whole[0] if len(whole) == 1 else torch.cat(whole))

    def _errors(self, whole: Tensor) -> tuple[list[float], float]:
        """Of a table ``[samples, columns]``, however it is laid out in memory."""
        variances, freedom = self._by_documents(whole)
        if self._tasks is not None:
            clusters, groups = self._tasks
            variances = variances.fmax(mean_variances(whole, clusters, groups=groups))
            freedom = labels_freedom(self._tasks)
        return variances.sqrt().tolist(), freedom

    def _by_documents(self, whole: Tensor) -> tuple[Tensor, float]:
        """By the documents, or by the clusters that were asked for; tasks are strata."""
        if self._shared:
            tasks = torch.split(whole, self.sizes)
            centred = together([task - task.mean(0) for task in tasks])
            clusters, groups = self._documents[0]
            return mean_variances(centred, clusters, groups=groups), float(groups - len(tasks))
        if len(self._documents) == 1:
            clusters, groups = self._documents[0]
            return mean_variances(whole, clusters, groups=groups), labels_freedom(
                self._documents[0]
            )
        freedom = float(sum(max(0, labels.groups - 1) for labels in self._documents))
        if self.sizes == [labels.groups for labels in self._documents]:  # every sample by itself
            return stratified_variances(whole, self.sizes), freedom
        parts = [
            (len(task) / self.n) ** 2 * mean_variances(task, clusters, groups=groups)
            for task, (clusters, groups) in zip(
                torch.split(whole, self.sizes), self._documents, strict=True
            )
        ]
        return torch.stack(parts).sum(0), freedom

    def sums(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The sum of each document, or cluster that was asked for, by stratum."""
        return [sums[0] for sums in self.sums_of_rows([column[None] for column in values])]

    def sums_of_rows(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The same of tables ``[values, samples]``, one a task."""
        alone = len(self._documents) == len(values)
        whole = list(values) if alone else [torch.cat(list(values), dim=1)]
        sums = []
        for table, (clusters, groups) in zip(whole, self._documents, strict=True):
            sums.append(table.new_zeros((len(table), groups)).index_add_(1, clusters, table))
        return sums


Errors = ErrorsOf[PairedMetric]
