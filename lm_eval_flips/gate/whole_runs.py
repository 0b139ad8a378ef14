"""Finished runs, judged as if their documents had been drawn one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.gate.drawn import Drawn, Whole
from lm_eval_flips.gate.gate import Gate, rows_of
from lm_eval_flips.gate.made_runs import refuse_made_runs
from lm_eval_flips.gate.policy import policy_rulings
from lm_eval_flips.gate.sequential import judge_in_order
from lm_eval_flips.gate.thresholds import GateConfig
from lm_eval_flips.planning.order import draw_order


def judge_whole(comparison: Comparison, config: GateConfig, *, seed: int) -> tuple[Gate, ...]:
    """Hold every compressed run against the thresholds, in one random order of all documents.

    Args:
        comparison: of finished runs.
        config: the thresholds.
        seed: of the order; choose it before the runs are seen.

    Raises:
        FlipsError: as ``judge_in_order``, or no model made a run.
    """
    refuse_made_runs(comparison)
    base = comparison.baseline.run
    gates = ((run, _judged(run, base.groups, config, seed=seed)) for run in comparison.compressed)
    return tuple(
        replace(gate, rulings=(*gate.rulings, *policy_rulings(config, rows_of(run), base.date)))
        for run, gate in gates
    )


def _judged(
    run: RunComparison, groups: Mapping[str, Sequence[str]], config: GateConfig, *, seed: int
) -> Gate:
    standing = primaries(run.metrics)
    order = draw_order({m.pairs.task: m.doc_ids for m in standing}, seed=seed)
    return judge_in_order(
        Drawn(
            model=run.model,
            path=run.path,
            metrics=standing,
            wholes={metric.pairs.task: Whole.of(metric) for metric in standing},
            groups=groups,
            count=len(order.documents),
            findings=run.findings,
        ),
        config,
        order,
    )
