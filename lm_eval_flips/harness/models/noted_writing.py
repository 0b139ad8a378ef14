"""What the harness's `hf` model writes, noted on its way to the harness's cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lm_eval_flips.harness.answer_recording import Written
from lm_eval_flips.logs.records import Request, request_digest
from lm_eval_flips.scoring.answers import End
from lm_eval_flips.scoring.requests import Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NotedRow:
    """What one generation wrote behind a prompt."""

    prompt: Ints
    ids: Ints
    end: End
    limit: int


@dataclass(slots=True)
class Notes:
    """What the harness hands to its cache, answer by answer, in the order of the rows."""

    hook: Any
    rows: list[NotedRow] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)

    def add_partial(self, kind: str, asked: Any, answer: Any) -> None:
        """Take an answer, with what was asked, on its way to the cache."""
        self.hook.add_partial(kind, asked, answer)
        if kind != "generate_until" or not self.rows:
            return
        row = self.rows.pop(0)
        if len(row.prompt):
            self.written.append(
                Written(
                    key=request_digest(Request(*asked)),
                    prompt=row.prompt,
                    ids=row.ids,
                    end=row.end,
                    limit=row.limit,
                    text=answer,
                )
            )
