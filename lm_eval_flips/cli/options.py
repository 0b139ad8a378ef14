"""The options of a comparison, which every verb that compares takes, and others that verbs share.

``Asked`` is the list: a field with its help is an option of all these verbs.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from lm_eval_flips.comparison.options import CompareOptions
    from lm_eval_flips.logs.runs import Run

PANEL = "Comparison"  # its place in --help


class OnMismatch(str, Enum):
    """What to do with samples that cannot be paired."""

    error = "error"
    intersect = "intersect"


class OnNan(str, Enum):
    """What to do with samples whose numbers are nan."""

    error = "error"
    exclude = "exclude"


class PairBy(str, Enum):
    """By what samples are paired that differ in form only."""

    fields = "fields"
    options = "options"
    document = "document"


def _option(*names: str, **given: Any) -> Any:
    return typer.Option(*names, rich_help_panel=PANEL, **given)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of ``compare``, under its names, as they were given."""

    tasks: Annotated[str, _option(help="Glob of tasks, or a group, to compare.")] = "*"
    metric: Annotated[str | None, _option(help="Only this metric, such as acc_norm.")] = None
    filter: Annotated[
        str | None, _option("--filter", help="Only this filter, such as strict-match.")
    ] = None
    on_mismatch: Annotated[
        OnMismatch, _option(help="Samples that differ: an error, or left out.")
    ] = OnMismatch.error
    on_nan: Annotated[OnNan, _option(help="Samples with a nan or +inf: an error, or left out.")] = (
        OnNan.error
    )
    pair_by: Annotated[
        PairBy | None,
        _option(help="Pair samples that differ in form by less; the result says by what."),
    ] = None
    right_from: Annotated[
        float | None, _option(help="Grades from this on are right, such as 60 of 100.")
    ] = None
    allow_identical: Annotated[
        bool, _option("--allow-identical", help="Accept two runs that agree in everything.")
    ] = False
    allow_implausible: Annotated[
        bool,
        _option("--allow-implausible", help="Compare runs that cannot be right; no gate passes."),
    ] = False
    noise_floor: Annotated[
        Path | None,
        _option(help="A second run of the baseline, to tell what rounding alone moves."),
    ] = None
    equivalence_margin: Annotated[
        float | None,
        _option(help="Say whether scores are the same within this margin, such as 0.01."),
    ] = None
    cluster: Annotated[
        str | None,
        _option(
            help="Samples of the same value are not independent: task, group, or a document field."
        ),
    ] = None
    bootstrap: Annotated[
        int | None,
        _option(min=200, help="Draw the intervals of KL means and quantiles this many times."),
    ] = None
    bootstrap_seed: Annotated[int, _option(help="Seed of these draws.")] = 0
    near_kl: Annotated[
        float | None,
        _option(min=0, help="Tell how KL relates to flips also of runs with a smaller mean KL."),
    ] = None
    device: Annotated[str, _option(help="Device of the computation: cpu, cuda.")] = "cpu"

    def options(self, noise_floor: Run | None = None) -> CompareOptions:
        """The same for ``compare``; only where it draws does this load torch."""
        from lm_eval_flips.comparison.options import bootstrap_of

        return {
            "tasks": self.tasks,
            "metric": self.metric,
            "filter": self.filter,
            "on_mismatch": self.on_mismatch.value,
            "on_nan": self.on_nan.value,
            "pair_by": None if self.pair_by is None else self.pair_by.value,
            "right_from": self.right_from,
            "allow_identical": self.allow_identical,
            "allow_implausible": self.allow_implausible,
            "noise_floor": noise_floor,
            "equivalence_margin": self.equivalence_margin,
            "cluster": self.cluster,
            "bootstrap": bootstrap_of(self.bootstrap, seed=self.bootstrap_seed),
            "near_kl": self.near_kl,
            "device": self.device,
        }


Verb = Callable[..., None]


def takes_options(*, without: Collection[str] = ()) -> Callable[[Verb], Verb]:
    """Make every field of ``Asked`` an option of a verb, which gets them as ``asked``.

    Args:
        without: fields that the verb does not take; they keep their defaults.
    """

    def decorate(verb: Verb) -> Verb:
        hints = get_type_hints(Asked, include_extras=True)
        names = [field.name for field in fields(Asked) if field.name not in without]
        shared = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in fields(Asked)
            if field.name in names
        ]
        signature = inspect.signature(verb, eval_str=True)
        own = [part for part in signature.parameters.values() if part.name != "asked"]

        @wraps(verb)
        def called(**given: Any) -> None:
            asked = Asked(**{name: given.pop(name) for name in names})
            verb(**given, asked=asked)

        called.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *shared]
        )
        called.__annotations__ = {part.name: part.annotation for part in (*own, *shared)}
        return called

    return decorate


def _without_colour(wanted: bool) -> None:
    if wanted:
        os.environ["NO_COLOR"] = "1"  # which rich obeys, in this process and those it starts


NoColorOption = Annotated[
    bool,
    typer.Option(
        "--no-color",
        help="Print without colours, as NO_COLOR=1 does.",
        callback=_without_colour,
        expose_value=False,
        is_eager=True,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace output files that exist.")
]
SizeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL=BYTES",
        help="Size of a model whose files are not here, such as my-model=3.9GB; repeatable.",
    ),
]
ReportOption = Annotated[
    Path | None, typer.Option(help="Write one HTML file to look at, which needs nothing else.")
]
PlanOption = Annotated[
    Path | None,
    typer.Option(help="The plan by which samples were drawn: weighted estimates of all documents."),
]
DetailsOption = Annotated[
    bool,
    typer.Option(
        "--details", help="Statistics in words, and each model's tasks where models are many."
    ),
]
WideOption = Annotated[
    bool, typer.Option("--wide", help="All columns of a table, however wide the terminal is.")
]
