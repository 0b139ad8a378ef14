"""Which samples are independent, and the standard errors that follow.

Within a task, samples of the same document are one cluster. Over ten or more tasks, as in MMLU's
subjects, the tasks are the clusters. Over fewer a cluster-robust error is not to be trusted; the
tasks are then strata: the errors within each are added up, and the result speaks of these tasks.
Clusters that were asked for, by a field of the documents or by group, come before all that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import mean_variances
from lm_eval_flips.pairs.metric import PairedMetric

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
        self.n = sum(len(m.clusters) for m in metrics)
        self.field = metrics[0].cluster_field
        if self.field is not None:
            numbered = [_numbered(torch.cat([m.clusters for m in metrics]))]
        else:
            numbered = [_numbered(m.clusters) for m in metrics]
        self._clusters = [clusters for clusters, _ in numbered]
        self._groups = [groups for _, groups in numbered]
        self.documents = sum(self._groups)
        self.method = self._method()
        if self.clustered_by_task:
            sizes = torch.tensor([len(m.clusters) for m in metrics])
            tasks = torch.repeat_interleave(torch.arange(len(metrics)), sizes)
            self._clusters = [tasks.to(metrics[0].clusters.device)]
            self._groups = [len(metrics)]

    def _method(self) -> str:
        tasks = len(self.metrics)
        if self.field is not None:
            return f"clustered by {self.field} ({self.documents})"
        if tasks >= ENOUGH_CLUSTERS:
            return f"clustered by task ({tasks})"
        if tasks > 1:
            return f"stratified by task ({tasks})"
        if self.documents < self.n:
            return f"clustered by document ({self.documents} of {self.n} samples)"
        return INDEPENDENT

    @property
    def clustered_by_task(self) -> bool:
        """Whether the tasks are the clusters."""
        return self.field is None and len(self.metrics) >= ENOUGH_CLUSTERS

    @property
    def by_document(self) -> bool:
        """Whether documents are what is independent, be it within each task."""
        return self.field is None and not self.clustered_by_task

    @property
    def independent(self) -> bool:
        """Whether every sample counts by itself."""
        return self.method == INDEPENDENT

    def strata(
        self, values: Sequence[Tensor], owners: Sequence[Tensor] | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """The tasks' values by stratum, each with their clusters, numbered from 0.

        Args:
            values: of each task's samples, or of things that belong to them.
            owners: the sample that each value belongs to; None for the samples themselves.
        """
        if len(self._clusters) == len(values):
            own = self._clusters
            if owners is not None:
                both = zip(own, owners, strict=True)
                own = [clusters[owner.to(clusters.device)] for clusters, owner in both]
            return list(zip(values, own, strict=True))
        (clusters,) = self._clusters
        if owners is not None:
            starts = accumulate((len(m.clusters) for m in self.metrics), initial=0)
            moved = [owner + start for owner, start in zip(owners, starts, strict=False)]
            clusters = clusters[torch.cat(moved).to(clusters.device)]
        return [(torch.cat(list(values)), clusters)]

    def of(self, values: Sequence[Tensor]) -> tuple[float, int]:
        """Standard error and degrees of freedom of the mean of the tasks' values together."""
        (error,), freedom = self.of_columns([[column] for column in values])
        return error, freedom

    def of_columns(self, values: Sequence[Sequence[Tensor]]) -> tuple[list[float], int]:
        """The standard errors of several means at once, and their degrees of freedom.

        Args:
            values: of each task several columns ``[samples]``, the same for all tasks.
        """
        whole = [torch.stack([column.double() for column in task], 1) for task in values]
        variances = [
            (len(stratum) * len(stratum)) * mean_variances(stratum, clusters, groups=groups)
            for (stratum, clusters), groups in zip(self.strata(whole), self._groups, strict=True)
        ]
        total = sum(len(task) for task in whole)
        errors = torch.stack(variances).sum(0).sqrt() / total
        return errors.tolist(), sum(groups - 1 for groups in self._groups if groups > 1)

    def sums(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The sum of each cluster, by stratum."""
        sums = []
        for (stratum, clusters), groups in zip(self.strata(values), self._groups, strict=True):
            empty = torch.zeros(groups, dtype=stratum.dtype, device=stratum.device)
            sums.append(empty.index_add_(0, clusters, stratum))
        return sums


Errors = ErrorsOf[PairedMetric]


class RowErrors:
    """The errors of a row, and of those of its metrics that have a value: built once for each set.

    Args:
        metrics: the row's metrics, one a task.
    """

    def __init__(self, metrics: Sequence[PairedMetric]) -> None:
        self._built: dict[tuple[int, ...], Errors] = {}
        self.whole = self.of(metrics)

    def of(self, metrics: Sequence[PairedMetric]) -> Errors:
        """The errors of some of the row's metrics."""
        key = tuple(map(id, metrics))
        if key not in self._built:
            self._built[key] = Errors(metrics)
        return self._built[key]


def _numbered(clusters: Tensor) -> tuple[Tensor, int]:
    """The clusters numbered from 0, and their number."""
    labels, numbered = torch.unique(clusters, return_inverse=True)
    return numbered, len(labels)
