"""One rank of two that record a baseline and measure from it on a CPU, for test_run.py.

As in two_ranks.py the ranks are two gloo processes, the gathering done by torch.distributed.

    RANK=0 WORLD_SIZE=2 ... python two_ranks_measured.py BASELINE COMPRESSED TASKS GROUPS RUN OUTPUT

RUN is a plain run of the baseline, for FlipsTask; OUTPUT a folder for what is recorded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable

from lm_eval_flips.harness.models.flips_hf import FlipsHF
from tests.e2e.two_ranks import Ranked


class RankedFlipsHF(Ranked, FlipsHF):
    """flips-hf as one of several ranks."""


def main(baseline: str, compressed: str, tasks: str, groups: str, run: str, output: str) -> None:
    """Record the one model, measure the other; rank 0 writes results and samples of the latter."""
    dist.init_process_group("gloo")

    def evaluated(model: str, metadata: dict[str, str], **more: str) -> Any:
        given: dict[str, Any] = {"device": "cpu", "batch_size": 8, "dtype": "float32", **more}
        found = simple_evaluate(
            model=RankedFlipsHF(pretrained=model, **given),
            tasks=groups.split(","),
            task_manager=TaskManager(include_path=tasks, include_defaults=False, metadata=metadata),
            bootstrap_iters=0,
            log_samples=True,
        )
        dist.barrier()  # what one rank has written, the other one reads
        return found

    evaluated(baseline, {}, record=output)
    results = evaluated(compressed, {"baseline": run}, reference=output, distances=output)
    if dist.get_rank() == 0:
        kept = {"results": results["results"], "samples": results["samples"]}
        file = Path(output) / "out.json"
        file.write_text(json.dumps(kept, default=handle_non_serializable))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
