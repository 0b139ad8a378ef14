"""Options that several verbs share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class OnMismatch(str, Enum):
    """What to do with samples that cannot be paired."""

    error = "error"
    intersect = "intersect"


class OnNan(str, Enum):
    """What to do with samples whose numbers are nan."""

    error = "error"
    exclude = "exclude"


class JudgeBy(str, Enum):
    """What a threshold is held against."""

    interval = "interval"
    point = "point"


class Positions(str, Enum):
    """Which scored positions a reference keeps."""

    all = "all"
    last = "last"


MetricOption = Annotated[str | None, typer.Option(help="Only this metric, such as acc_norm.")]
TasksOption = Annotated[str, typer.Option(help="Glob of tasks, or a group, to compare.")]
OnNanOption = Annotated[
    OnNan, typer.Option(help="Samples with a nan or +inf: an error, or left out.")
]
IdenticalOption = Annotated[
    bool, typer.Option("--allow-identical", help="Accept two runs that agree in everything.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace output files that exist.")
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        help="Samples of the same value are not independent: task, group, or a document field."
    ),
]
BootstrapOption = Annotated[
    int | None,
    typer.Option(min=200, help="Draw the intervals of KL means and quantiles this many times."),
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
MarginOption = Annotated[
    float | None,
    typer.Option(help="Say whether scores are the same within this margin, such as 0.01."),
]
