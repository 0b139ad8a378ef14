"""A baseline's run -> a plan of as many documents as are asked for, or as an interval takes."""

from __future__ import annotations

from math import isnan

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.planning.drawing import draw_plan
from lm_eval_flips.planning.known import Known, know
from lm_eval_flips.planning.plan import Plan
from lm_eval_flips.planning.strata import minimum, stratify


def make_plan(
    base: Run,
    *,
    budget: int | None = None,
    half_width: float | None = None,
    tasks: str = "*",
    pilot: Run | None = None,
    prior: str = "4bit",
    seed: int = 0,
    first: bool = False,
) -> Plan:
    """Choose the documents on which a compressed model is evaluated, instead of on all.

    Args:
        base: the baseline's run over all documents.
        budget: how many to draw in all; None to draw as many as the half-width takes.
        half_width: half the width that the 95 % interval of all_flips may have, 0..0.5; only with
            a pilot, since built-in rates promise nothing of a model that they have not seen.
        tasks: glob of the task names, or a group.
        pilot: a compressed run, of this model or one like it, from which rates of changes are
            taken; None for built-in rates.
        prior: which built-in rates: "4bit" or "8bit".
        seed: of the draws.
        first: whether this is the first of two stages (``going_on``): narrow strata.

    Raises:
        FlipsError: see ``populations``, ``pilot_rates`` and ``stratify``; not one of budget and
            half-width is given, or the half-width has no pilot, is out of range or takes every
            document.

    Example:
        >>> plan = make_plan(load_run("runs/baseline"), budget=600)  # doctest: +SKIP
        >>> plan.plain_samples  # doctest: +SKIP
        1371
    """
    if (budget is None) == (half_width is None):
        raise FlipsError("give one of --budget and --half-width")
    before = know(base, tasks=tasks, pilot=pilot, prior=prior)
    if budget is None:
        budget = enough(before, half_width or 0.0)
        if pilot is None:
            raise FlipsError(
                "--half-width needs a --pilot: built-in rates are a guess, by which no width can "
                "be promised. Draw some with --budget 150 --first, evaluate the compressed model "
                "on them, and go on from there: --go-on PLAN --pilot RUN"
            )
    return draw_plan(before, budget=budget, seed=seed, first=first)


def enough(before: Known, half_width: float) -> int:
    """The fewest draws whose interval of all_flips is expected to be as narrow, by bisection.

    Raises:
        FlipsError: the half-width is out of range, or takes every document.
    """
    refuse_half_width(half_width)
    low, high = minimum(before.tasks) - 1, before.documents
    while high - low > 1:
        middle = (low + high) // 2
        narrow = stratify(before.tasks, before.rates, middle).half_width <= half_width
        low, high = (low, middle) if narrow else (middle, high)
    if high == before.documents:
        raise taking_everything(half_width, high)
    return high


def refuse_half_width(half_width: float) -> None:
    """Refuse what is no half of a width.

    Raises:
        FlipsError: it is out of range.
    """
    if isnan(half_width) or not 0 < half_width < 0.5:
        raise FlipsError(f"the half-width {half_width} is out of range; give a share such as 0.01")


def taking_everything(half_width: float, documents: int) -> FlipsError:
    """What to raise for a half-width that a plan does not help with."""
    return FlipsError(
        f"a half-width of {half_width:g} takes every one of the {documents} documents: evaluate "
        "them all, without --samples"
    )
