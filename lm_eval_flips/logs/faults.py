"""What is wrong with a run by its own files: found while reading, judged by the rooms above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFault:
    """Something about a run's files that is not as it should be.

    ``code`` is one of a few fixed words, the same for the same kind of fault; ``task`` is the task
    it is about, None for the whole run. ``severity`` "fault" says that the run cannot be believed
    as it lies there, and a gate never passes it; "note" that a choice was made that readers should
    know of.
    """

    code: str
    task: str | None
    text: str
    way_out: str
    severity: Literal["note", "fault"] = "fault"

    def __str__(self) -> str:
        place = "" if self.task is None else f"task '{self.task}': "
        return f"{place}{self.text}; {self.way_out}"
