"""A finding: why a run is doubtful or cannot be right, with its evidence and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lm_eval_flips.errors import FlipsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Why one task of a run is doubtful, or impossible.

    ``way_out`` is empty where nothing need be done. An ``impossible`` finding refuses the
    comparison; one of either that ``keeps_from_passing`` says that a gate passes no such run,
    though it may be compared.

    Example:
        >>> Finding(
        ...     code="positive", task="arc_easy", filter="none", text="doc 3 is above 0",
        ...     way_out="Rerun it", impossible=True, keeps_from_passing=True,
        ... ).sentence
        "task 'arc_easy': doc 3 is above 0. Rerun it"
    """

    code: str
    task: str
    filter: str
    text: str
    way_out: str
    impossible: bool
    keeps_from_passing: bool

    @property
    def sentence(self) -> str:
        """The finding in words, with its place and its way out."""
        return f"task '{self.task}': {self.text}. {self.way_out}".removesuffix(". ")


def refuse_impossible(findings: Iterable[Finding], *, path: str, allowed: bool) -> None:
    """Refuse a run that cannot be right.

    Args:
        findings: what was found about the run at ``path`` and its baseline.
        path: the compressed run.
        allowed: whether it was asked to compare nevertheless.

    Raises:
        FlipsError: a finding is impossible, and that is not allowed.

    Example:
        >>> refuse_impossible([], path="runs/int4", allowed=False)
    """
    impossible = [finding for finding in findings if finding.impossible]
    if not impossible or allowed:
        return
    told = list(dict.fromkeys(f"task '{found.task}': {found.text}" for found in impossible))
    raise FlipsError(
        f"the runs cannot both be right ('{path}' against its baseline): "
        f"{'; '.join(told[:3])}{f' and {len(told) - 3} more' if len(told) > 3 else ''}. "
        f"{impossible[0].way_out}, or compare them as they are with --allow-implausible: no gate "
        "passes them"
    )
