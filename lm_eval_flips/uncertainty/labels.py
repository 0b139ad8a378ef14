"""The clusters of samples, as numbers: what makes them dependent, and what tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lm_eval_flips.measures.clustered import freedom_of

SAME_TASK = 0.5  # of the smaller task's documents, from which two tasks are one cluster


class Labels(NamedTuple):
    """The cluster of each sample of a stratum, numbered from 0, and how many there are."""

    clusters: Tensor
    groups: int


def together(tasks: Sequence[Tensor]) -> Tensor:
    """Tables ``[samples, columns]`` below each other, laid out in memory as they are."""
    if tasks[0].is_contiguous():
        return torch.cat(list(tasks))
    return torch.cat([table.T for table in tasks], dim=1).T


def numbered(clusters: Tensor) -> Labels:
    """The clusters numbered from 0, and their number."""
    labels, numbered = torch.unique(clusters, return_inverse=True)
    return Labels(numbered, len(labels))


def labels_freedom(labels: Labels) -> float:
    """Satterthwaite's degrees of freedom, by the clusters' sizes; 0 for a single one."""
    if labels.groups < 2:
        return 0.0
    if labels.groups == len(labels.clusters):
        return float(labels.groups - 1)
    sizes = torch.bincount(labels.clusters, minlength=labels.groups).double()
    return freedom_of(sizes / sizes.sum())


def joined(documents: Sequence[set[int]]) -> list[int]:
    """The number of each task's cluster: tasks that share half of their documents are in one."""
    label = list(range(len(documents)))
    for second, of_second in enumerate(documents):
        for first, of_first in enumerate(documents[:second]):
            least = SAME_TASK * min(len(of_second), len(of_first))
            if label[first] != label[second] and len(of_second & of_first) >= least:
                old, new = label[second], label[first]
                label = [new if each == old else each for each in label]
    numbers = {each: number for number, each in enumerate(dict.fromkeys(label))}
    return [numbers[each] for each in label]
