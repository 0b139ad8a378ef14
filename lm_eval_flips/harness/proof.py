"""What FlipsTask refuses before the model spends any time: a baseline of other samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.errors import FlipsError, HarnessError, named
from lm_eval_flips.harness.sample_values import deciding, sample_values
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.pairs.logged_metrics import paired_metrics
from lm_eval_flips.pairs.mismatch import differences, mismatch
from lm_eval_flips.pairs.pairing import pair
from lm_eval_flips.pairs.sample_values import AGGREGATED, MARKS


def refuse_config(config: Mapping[str, Any]) -> None:
    """Refuse a task that FlipsTask cannot be put over.

    Raises:
        HarnessError: it is built by a class of its own, or its YAML asks for a count by the name
            that stood for a share in an older version.
    """
    task = config.get("task")
    if "output_type" not in config and "dataset_path" not in config:
        raise HarnessError(
            f"task '{task}' is built by a class of its own, which FlipsTask would replace; run it "
            "as it is in both runs and use lm-eval-flips compare"
        )
    for name in (entry.get("metric") for entry in config.get("metric_list") or ()):
        if name in MARKS:
            raise HarnessError(
                f"task '{task}' asks for the metric {name}, which is a count; the harness's table "
                f"shows its share: ask for {MARKS[name]}"
            )


def refuse_other_filters(task: str, baseline: Mapping[str, Samples], filters: set[str]) -> None:
    """Refuse a baseline that was scored under other filters.

    Raises:
        HarnessError: naming both sides' filters.
    """
    if filters != set(baseline):
        raise HarnessError(
            f"task '{task}': the baseline logged the filters {named(sorted(baseline))}, this "
            f"version of the task has {named(sorted(filters))}; rerun the baseline with it"
        )


def refuse_other_samples(baseline: Samples, ours: Samples, asked: NDArray[np.int64]) -> None:
    """Refuse a baseline of other samples.

    Args:
        baseline: its samples.
        ours: those of this rank, as far as they are known before the model runs.
        asked: the numbers of the documents of all ranks.

    Raises:
        HarnessError: naming the samples that differ, and in what.
    """
    missing = {
        "only in the baseline": np.setdiff1d(baseline.doc_id, asked),
        "only in the compressed run": np.setdiff1d(asked, baseline.doc_id),
    }
    different = {reason: docs for reason, docs in missing.items() if len(docs)}
    different |= differences(baseline.only(ours.doc_id), ours)
    if different:
        raise HarnessError(mismatch(baseline, ours, different))


def refuse_no_answers(baseline: Samples) -> None:
    """Refuse generated text that no metric calls right or wrong: nothing of it could flip.

    Raises:
        HarnessError: naming what the task logs instead.
    """
    try:
        metrics = paired_metrics(pair(baseline, baseline, on_nan="exclude"))
    except FlipsError as error:
        raise HarnessError(str(error)) from None
    if not any(True for _ in sample_values(deciding(metrics), metrics)):
        logged = named(sorted({*baseline.metrics, *baseline.values} - set(AGGREGATED)))
        raise HarnessError(
            f"task '{baseline.task.name}' has no metric of right or wrong but {logged or 'none'}, "
            "so no answer of it can flip; run it as it is in both runs and use lm-eval-flips "
            "compare"
        )
