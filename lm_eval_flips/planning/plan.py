"""A plan: which documents are drawn, from which strata. Written beside the harness's own file.

`samples.json` is what `lm_eval --samples` reads: the sorted doc_ids of each task.
`samples.plan.json` has the strata, whose sizes are the weights, and the hashes of the documents, so
that a plan is never used on a run that it does not belong to.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import torch

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.measures.sampling.design import Design

VERSION = 1
SUFFIX = ".plan.json"


class Stratum(msgspec.Struct, frozen=True, kw_only=True):
    """Documents of one task that are alike beforehand, and those of them that are drawn.

    ``low`` and ``high`` bound the baseline's top margin, None where the log has no choices;
    ``correct`` is what the baseline answered and ``changed`` whether the pilot answered otherwise,
    None for both. ``all_flips``, ``lost`` and ``won`` are the rates of changes, of losses and of
    gains that were expected. ``hashes`` are those of the drawn documents, in the order of
    ``doc_ids``; ``rest`` are the others, from which a second stage draws.
    """

    low: float | None
    high: float | None
    correct: bool | None
    changed: bool | None
    documents: int
    all_flips: float
    lost: float
    won: float
    doc_ids: list[int]
    hashes: list[str]
    rest: list[int] = []


class PlannedTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task: the metric that it was planned for, and its strata.

    ``digest`` is of all its documents. ``fewshot_drawn``: its few-shot examples are drawn document
    by document, and so are others where documents are left out.
    """

    filter: str
    metric: str
    documents: int
    digest: str
    fewshot_drawn: bool
    strata: list[Stratum]

    @property
    def hashes(self) -> dict[int, str]:
        """Hash of each drawn document by its doc_id, sorted."""
        pairs = [pair for own in self.strata for pair in zip(own.doc_ids, own.hashes, strict=True)]
        return dict(sorted(pairs))

    @property
    def doc_ids(self) -> list[int]:
        """The drawn documents, sorted."""
        return list(self.hashes)

    def design(self) -> Design:
        """Which stratum each drawn document is from, in the order of doc_ids."""
        place = {doc: h for h, own in enumerate(self.strata) for doc in own.doc_ids}
        return Design(
            sizes=torch.tensor([own.documents for own in self.strata]),
            drawn=torch.tensor([len(own.doc_ids) for own in self.strata]),
            stratum=torch.tensor([place[doc] for doc in self.doc_ids]),
        )

    def expected(self, name: str) -> torch.Tensor:
        """Expected rates of the strata: of all_flips, lost or won."""
        rates = [getattr(own, name) for own in self.strata]
        return torch.tensor(rates, dtype=torch.float64)


class PlannedBaseline(msgspec.Struct, frozen=True, kw_only=True):
    """The run that was planned from: its path, and which model it is of."""

    path: str
    model: dict[str, Any]


class MarginClass(msgspec.Struct, frozen=True, kw_only=True):
    """Documents of all tasks whose top margin lies in [low, high), and how they are drawn.

    ``all_flips`` is the mean expected rate. None for both ends where the log has no choices.
    """

    low: float | None
    high: float | None
    documents: int
    drawn: int
    all_flips: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn, and what is expected of it.

    ``rates`` says where expected rates come from. ``all_flips`` is their mean, ``half_width`` that
    of its 95 % interval after this plan, and ``plain_samples`` what plain random sampling would
    need for the same. ``left_out`` are tasks without a metric that is right or wrong.
    """

    version: int
    seed: int
    rates: str
    baseline: PlannedBaseline
    all_flips: float
    half_width: float
    plain_samples: int
    margins: list[MarginClass]
    left_out: list[str]
    tasks: dict[str, PlannedTask]

    @property
    def samples(self) -> dict[str, list[int]]:
        """The harness's --samples: each task's doc_ids, sorted."""
        return {name: task.doc_ids for name, task in self.tasks.items()}

    @property
    def documents(self) -> int:
        """Number of documents of all tasks."""
        return sum(task.documents for task in self.tasks.values())

    @property
    def budget(self) -> int:
        """Number of documents that are drawn."""
        return sum(len(task.doc_ids) for task in self.tasks.values())


def plan_files(samples: Path) -> tuple[Path, Path]:
    """The harness's samples file and the plan beside it, from either.

    Example:
        >>> plan_files(Path("runs/samples.json"))[1].name
        'samples.plan.json'
    """
    if samples.name.endswith(SUFFIX):
        return samples.with_name(samples.name.removesuffix(SUFFIX) + ".json"), samples
    return samples, samples.with_name(samples.name.removesuffix(".json") + SUFFIX)


def plan_contents(plan: Plan) -> tuple[bytes, bytes]:
    """What the samples file and the plan file hold."""
    lists = json.dumps(plan.samples, indent=None).encode() + b"\n"
    return lists, msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"


def load_plan(path: str | Path) -> Plan:
    """Read a plan, by its own file or by the samples file beside it.

    Raises:
        FlipsError: it cannot be read, is no plan, or the samples file beside it is another's, or
            not sorted.
    """
    samples, own = plan_files(Path(path))
    plan: Plan = _read(own, Plan)
    if plan.version != VERSION:
        raise FlipsError(f"'{own}' is a plan of version {plan.version}; this reads {VERSION}")
    if samples.exists():
        _check_samples(samples, _read(samples, dict[str, list[int]]), plan)
    return plan


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise FlipsError(
            f"'{path}' cannot be read: {error.strerror}; give the file that lm-eval-flips plan "
            "wrote, with the other one beside it"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FlipsError(f"'{path}' is no plan of lm-eval-flips: {error}") from None


def _check_samples(path: Path, lists: dict[str, list[int]], plan: Plan) -> None:
    for name, docs in lists.items():
        if docs != sorted(set(docs)):
            raise FlipsError(
                f"'{path}': the list of task '{name}' is not sorted, from which lm_eval logs other "
                "doc_ids; draw the plan anew and rerun"
            )
    planned = plan.samples
    others = [name for name in {**planned, **lists} if planned.get(name) != lists.get(name)]
    if others:
        raise FlipsError(
            f"'{path}' is not the samples file of the plan beside it: task {named(others)} "
            "differs; draw the plan anew and rerun"
        )
