"""One rank of a two-process evaluation on a CPU, for test_harness_task.py.

lm_eval's hf backend splits work over GPUs only, so its ranks are set here: two gloo processes, the
gathering done by torch.distributed. Everything else is the harness's own.

    RANK=0 WORLD_SIZE=2 ... python two_ranks.py MODEL TASKS GROUPS BASELINE OUTPUT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable


class Ranked:
    """A model of the harness as one of several ranks."""

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def world_size(self) -> int:
        return dist.get_world_size()

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        parts = [torch.zeros_like(tensor.reshape(-1)) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor.reshape(-1))
        return torch.cat(parts)

    def barrier(self) -> None:
        dist.barrier()


class RankedLM(Ranked, HFLM):  # type: ignore[misc]  # lm_eval ships no types
    """The hf backend as one of several ranks."""


def main(model: str, tasks: str, groups: str, baseline: str, output: str) -> None:
    """Evaluate the groups on this rank; rank 0 writes the results and the samples."""
    dist.init_process_group("gloo")
    results = simple_evaluate(
        model=RankedLM(pretrained=model, device="cpu", batch_size=8, softmax_dtype="float32"),
        tasks=groups.split(","),
        task_manager=TaskManager(
            include_path=tasks, include_defaults=False, metadata={"baseline": baseline}
        ),
        bootstrap_iters=0,
        log_samples=True,
    )
    if dist.get_rank() == 0:
        kept = {"results": results["results"], "samples": results["samples"]}
        Path(output).write_text(json.dumps(kept, default=handle_non_serializable))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
