"""An order in which documents are evaluated, drawn at random beforehand and written down.

A verdict that is looked for after every few documents holds only in an order that knows nothing of
the answers. Every order of all documents is as likely: so the first k of all are a random sample of
all, and those of them that are of one task a random sample of that task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.output_files import write_whole
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.planning.population import documents_digest

VERSION = 1
ORDER = "order.json"  # in the folder of a run


class OrderedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task's documents: how many there are, and one hash of all of them."""

    documents: int
    digest: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """All documents of some tasks in the order in which they are evaluated.

    ``documents`` are places in ``names`` and doc_ids.
    """

    version: int = VERSION
    seed: int
    tasks: dict[str, OrderedTask]
    documents: list[tuple[int, int]]

    @property
    def names(self) -> list[str]:
        """The tasks, by the numbers that ``documents`` gives them."""
        return list(self.tasks)

    def places(self, task: str) -> dict[int, int]:
        """Each of a task's documents' place in the order, by doc_id."""
        number = self.names.index(task)
        return {doc: place for place, (of, doc) in enumerate(self.documents) if of == number}

    def until(self, first: int, last: int) -> dict[str, list[int]]:
        """The documents from one place to another, sorted, by task: as ``--samples`` takes them."""
        chosen: dict[str, list[int]] = {}
        for number, doc in self.documents[first:last]:
            chosen.setdefault(self.names[number], []).append(doc)
        return {name: sorted(docs) for name, docs in chosen.items()}


def draw_order(
    doc_ids: Mapping[str, NDArray[np.int64]], *, seed: int, digests: Mapping[str, str] | None = None
) -> Order:
    """Put the documents of some tasks in a random order.

    Args:
        doc_ids: each task's documents.
        seed: of the draw; the same documents and seed give the same order.
        digests: a hash of each task's documents, where the order is to be held against a run.

    Example:
        >>> order = draw_order({"arc": np.arange(3), "boolq": np.arange(2)}, seed=0)
        >>> order.until(0, 2)
        {'boolq': [1], 'arc': [0]}
    """
    digests = digests or {}
    tasks = {
        name: OrderedTask(documents=len(docs), digest=digests.get(name, ""))
        for name, docs in doc_ids.items()
    }
    documents = [(i, int(doc)) for i, docs in enumerate(doc_ids.values()) for doc in docs]
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randperm(len(documents), generator=generator).tolist()
    return Order(seed=seed, tasks=tasks, documents=[documents[place] for place in mixed])


def write_order(folder: Path, order: Order) -> None:
    """Write an order into a run's folder."""
    write_whole(folder / ORDER, msgspec.json.encode(order))


def load_order(folder: Path) -> Order | None:
    """The order in which a run's documents were evaluated; None where none was drawn.

    Raises:
        FlipsError: it cannot be read.
    """
    file = folder / ORDER
    if not file.exists():
        return None
    try:
        order = msgspec.json.decode(file.read_bytes(), type=Order)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FlipsError(f"'{file}' cannot be read: {error}") from None
    if order.version != VERSION:
        raise FlipsError(f"'{file}' is of version {order.version}; this reads {VERSION}")
    return order


class OrderedSamples:
    """Takes the documents that a run holds out of the baseline's: the first ones of an order.

    Args:
        order: the order.
        path: the run's folder, for messages.

    ``drawn`` holds the documents that the last run had, by task.
    """

    def __init__(self, order: Order, path: str | Path) -> None:
        self._order, self._path = order, path
        self.drawn: dict[str, set[int]] = {}

    def tasks(self, kept: Sequence[str], runs: Sequence[Run]) -> list[str]:
        """Those of some tasks that were drawn from so far.

        Raises:
            FlipsError: a task is not in the order.
        """
        foreign = [name for name in kept if name not in self._order.tasks]
        foreign += [name for run in runs for name in run.tasks if name not in self._order.tasks]
        if foreign:
            raise FlipsError(
                f"the order of '{self._path}' has no task {named(list(dict.fromkeys(foreign)))}; "
                "choose among its own with --tasks"
            )
        return [name for name in kept if any(name in run.tasks for run in runs)]

    def of(self, ours: Samples, theirs: Samples) -> Samples:
        """The baseline's samples of the documents that the run holds.

        Raises:
            FlipsError: the baseline's documents are not those that the order was drawn from.
        """
        name = ours.task.name
        if documents_digest(ours) != self._order.tasks[name].digest:
            raise FlipsError(
                f"task '{name}': the order of '{self._path}' was drawn from other documents than "
                "the baseline holds; give the baseline that it was drawn from"
            )
        self.drawn[name] = set(theirs.doc_id.tolist())
        return ours.only(theirs.doc_id)

    def refuse_gaps(self) -> int:
        """Refuse documents that are not the first of the order; how many are drawn.

        Raises:
            FlipsError: naming the task.
        """
        count = sum(map(len, self.drawn.values()))
        first = {name: set(docs) for name, docs in self._order.until(0, count).items()}
        for name in self._order.names:
            if first.get(name, set()) != self.drawn.get(name, set()):
                raise FlipsError(
                    f"task '{name}': '{self._path}' holds other documents than the first {count} "
                    "of its order; a verdict while drawing holds for those alone"
                )
        return count
