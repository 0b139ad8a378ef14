"""A run that no model made, but we from another run: what its results JSON says of that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from lm_eval_flips.logs.faults import RunFault
from lm_eval_flips.logs.results import Results

MADE_FROM = "made_from"  # the key, which the harness never writes


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFrom:
    """How a run was made from another.

    Args:
        what: was done to the other run, such as "noise on log-probabilities".
        run: the other run, as it was named.
        sigma: standard deviation of the noise, nats; None of a way without.
        seed: of what was drawn; None where nothing was.
    """

    what: str
    run: str
    sigma: float | None = None
    seed: int | None = None

    @property
    def sentence(self) -> str:
        """What it is, in a few words."""
        size = "" if self.sigma is None else f" (sigma {self.sigma:g})"
        return f"no model's run, but {self.what} of '{self.run}'{size}"


def made_from(results: Results) -> MadeFrom | None:
    """What a run was made from; None of a run that a model made."""
    given = results.made_from
    if given is None:
        return None
    sigma, seed = _number(given.get("sigma")), _number(given.get("seed"))
    return MadeFrom(
        what=str(given.get("what", "something")),
        run=str(given.get("run", "another run")),
        sigma=sigma,
        seed=None if seed is None else int(seed),
    )


def made_faults(results: Results) -> Iterator[RunFault]:
    """What readers of such a run should know."""
    made = made_from(results)
    if made is not None:
        yield RunFault(
            code="made-from-run",
            task=None,
            text=f"it is {made.sentence}: a control, which no model made",
            way_out="hold it beside the compressed runs, and ship none by it",
            severity="note",
        )


def _number(value: Any) -> float | None:
    """A number that can be one; anyone may have edited the file."""
    known = isinstance(value, (int, float)) and isfinite(value)
    return float(value) if known else None
