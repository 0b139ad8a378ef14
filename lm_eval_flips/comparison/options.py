"""How to compare: one typed set of options, for Python and for every verb that compares."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, cast, get_args

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import Run

if TYPE_CHECKING:
    # they load torch; this is read by processes that are forked before that
    import torch

    from lm_eval_flips.measures.bootstrap import Bootstrap

OnMismatch = Literal["error", "intersect"]
OnNan = Literal["error", "exclude"]
# Narrower proofs of pairs/proofs.py, which loads numpy and torch.
PairBy = Literal["fields", "options", "document"]


class CompareOptions(TypedDict, total=False):
    """The keyword arguments of ``compare``; what each means is said at ``Options``."""

    metric: str | None
    filter: str | None
    tasks: str
    on_mismatch: OnMismatch
    on_nan: OnNan
    pair_by: PairBy | None
    right_from: float | None
    allow_identical: bool
    allow_implausible: bool
    noise_floor: str | Path | Run | None
    equivalence_margin: float | None
    cluster: str | None
    bootstrap: Bootstrap | None
    near_kl: float | None
    device: str | torch.device


def bootstrap_of(replicates: int | None, *, seed: int) -> Bootstrap | None:
    """The bootstrap of so many draws; None of none. Only where it draws is torch loaded.

    Example:
        >>> bootstrap_of(400, seed=1)
        Bootstrap(replicates=400, seed=1)
    """
    if replicates is None:
        return None
    from lm_eval_flips.measures.bootstrap import Bootstrap

    return Bootstrap(replicates=replicates, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to compare, and how; what is left out has the defaults below.

    Args:
        metric: only this metric; None for all, the first binary one of each task being pooled.
        filter: only this filter; None for all, the first of each task being pooled.
        tasks: glob of the task names to compare, or a group.
        on_mismatch: "intersect" leaves out the samples that differ, and records them.
        on_nan: "exclude" leaves out samples with a nan or +inf log-likelihood, and records them.
        pair_by: pair samples that differ in form only by a narrower proof, which the result
            records: "fields" (prompt, target, arguments, and the fields that both documents have),
            "options" (the question and its options' texts, in any order) or "document" (document
            and target, whatever the prompt).
        right_from: the value from which an answer with a grade counts as right (up to which, where
            less is better), such as 60 of 100; None for no flips of grades.
        allow_identical: accept two runs that agree in every log-likelihood or generated text.
        allow_implausible: accept runs that cannot be right; a gate passes none of them.
        noise_floor: a second run of the baseline, with another batch size, device, kernel or dtype;
            every compressed run is held against what moved there.
        equivalence_margin: how far two scores may differ and still be equivalent, 0..1; None leaves
            that out.
        cluster: what makes samples dependent: "task", "group" or a field of the documents; None for
            equal documents, and tasks where there are ten or more.
        bootstrap: draw the intervals of KL means and quantiles; None for the usual ones.
        near_kl: runs with a smaller mean KL (nats) count as near the baseline; None for no border,
            for none fits all models: 8-bit ones lie on either side of any.
        device: where the tensors are; "cuda" for millions of samples.

    Raises:
        FlipsError: the margin is no change of a score, or a choice is none of those named.

    Example:
        >>> Options(equivalence_margin=0.01).tasks
        '*'
        >>> Options(equivalence_margin=2.0)
        Traceback (most recent call last):
        ...
        lm_eval_flips.errors.FlipsError: the equivalence margin 2.0 is no change of a score;...
    """

    metric: str | None = None
    filter: str | None = None
    tasks: str = "*"
    on_mismatch: OnMismatch = "error"
    on_nan: OnNan = "error"
    pair_by: PairBy | None = None
    right_from: float | None = None
    allow_identical: bool = False
    allow_implausible: bool = False
    noise_floor: str | Path | Run | None = None
    equivalence_margin: float | None = None
    cluster: str | None = None
    bootstrap: Bootstrap | None = None
    near_kl: float | None = None
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        margin = self.equivalence_margin
        if margin is not None and not 0 < margin < 1:
            raise FlipsError(
                f"the equivalence margin {margin} is no change of a score; give one between 0 and "
                "1, such as 0.01"
            )
        for name, known in (
            ("on_mismatch", ("error", "intersect")),
            ("on_nan", ("error", "exclude")),
            ("pair_by", (None, *get_args(PairBy))),
        ):
            if (given := getattr(self, name)) not in known:
                raise FlipsError(f"{name} '{given}' is none of: {', '.join(filter(None, known))}")

    @property
    def given(self) -> CompareOptions:
        """The same as keyword arguments of ``compare``."""
        names = (field.name for field in fields(self))
        return cast("CompareOptions", {name: getattr(self, name) for name in names})
