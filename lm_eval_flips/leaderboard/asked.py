"""What a board is asked for: the options of ``compare`` that its numbers depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Options of ``compare``, under the same names."""

    metric: str | None = None
    filter: str | None = None
    tasks: str = "*"
    on_mismatch: Literal["error", "intersect"] = "error"
    on_nan: Literal["error", "exclude"] = "error"
    allow_identical: bool = False
    equivalence_margin: float | None = None
    cluster: str | None = None
