"""Evaluate a model in a random order of documents until its thresholds are decided.

One process keeps the model. The run's folder holds, after every look, an ordinary run of the
documents so far, the order and the verdict; an answer is asked for once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import torch

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.evaluation.in_order import InOrder
from lm_eval_flips.gate.drawn_runs import judge_drawn, order_of
from lm_eval_flips.gate.gate import Gate
from lm_eval_flips.gate.thresholds import GateConfig, parse_rules
from lm_eval_flips.gate.undecidable import least_documents
from lm_eval_flips.harness.kept_model import KeptModel
from lm_eval_flips.logs.runs import Run, load_run
from lm_eval_flips.planning.order import Order, load_order, write_order

FIRST = 32  # documents before the first look
GROWTH = 1.25  # from look to look: each costs reading all documents so far
ANSWERS = "answers"  # the harness adds the rank and its suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The verdict after so many documents of the order."""

    count: int
    gate: Gate


def evaluate_in_order(asked: InOrder, arguments: Sequence[str]) -> Iterator[Look]:
    """Evaluate until the rules are decided, or the budget is spent; yields each look.

    Args:
        asked: what is to be decided.
        arguments: of ``lm_eval run``.

    Raises:
        FlipsError: as ``order_of`` and ``judge_drawn``; the folder holds another order; the memory
            does not suffice for a single document more.
    """
    folder, config = Path(asked.folder), parse_rules(asked.until)
    base = load_run(asked.baseline)
    drawn = order_of(base, seed=asked.seed)
    order = load_order(folder) or drawn
    if order != drawn:
        raise FlipsError(
            f"'{folder}' was evaluated in another order, or of another baseline's documents; "
            "choose another --output_path, or replace it with --overwrite"
        )
    least = least_documents(config, len(order.documents))
    if asked.budget is not None and asked.budget < least:
        raise FlipsError(
            f"a --budget of {asked.budget} questions cannot decide: {asked.until} takes {least} of "
            f"{len(order.documents)} even if nothing changes"
        )
    write_order(folder, order)
    if asked.measured:
        # an interrupted run's answers in the cache may lack the distances
        for file in folder.glob(f"{ANSWERS}*"):
            file.unlink()
    kept = KeptModel(arguments, cache=folder / ANSWERS)
    yield from _looks(asked, config, base, order, kept)


def _looks(
    asked: InOrder, config: GateConfig, base: Run, order: Order, model: KeptModel
) -> Iterator[Look]:
    most = min(asked.budget or len(order.documents), len(order.documents))
    folder, count, done = Path(asked.folder), min(FIRST, most), 0
    while True:
        try:
            model.evaluate(order.until(0, count), folder=folder)
        except (torch.OutOfMemoryError, MemoryError):
            if count - done <= 1:
                raise FlipsError(
                    f"out of memory after {done} documents; give a smaller --batch_size"
                ) from None
            count = done + (count - done) // 2
            continue
        gate, _ = judge_drawn(base, load_run(folder), order, config, **asked.options)
        yield Look(count=count, gate=gate)
        if count >= most or (gate.outcome != "undecided" and not asked.go_on):
            return
        done, count = count, min(most, max(count + FIRST, ceil(count * GROWTH)))
