"""What FlipsTask adds to the wall time of the plain task, on a real model.

    python tests/benchmarks/task_overhead.py MODEL TASKS TASK BASELINE --limit 100 --rounds 5

MODEL is a model folder, TASKS an --include_path with TASK, BASELINE a run of it with the same
limit. The same process evaluates the plain task and the task under FlipsTask in turn; the model is
loaded once. Printed is the ratio round by round, and FlipsTask's own time, measured inside its
hooks.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from lm_eval_flips.harness.task import FlipsTask


def seconds(model: HFLM, manager: TaskManager, name: str, limit: int | None) -> float:
    """Wall time of one evaluation, from the requests to the aggregated results."""
    started = time.perf_counter()
    simple_evaluate(model=model, tasks=[name], task_manager=manager, limit=limit, bootstrap_iters=0)
    return time.perf_counter() - started


class Watch:
    """Adds up the time spent in FlipsTask's own steps."""

    def __init__(self) -> None:
        self.total = 0.0
        for step in ("_read_baseline", "_prove", "_compare"):
            setattr(FlipsTask, step, self._timed(getattr(FlipsTask, step)))

    def _timed(self, step: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return step(*args, **kwargs)
            finally:
                self.total += time.perf_counter() - started

        return timed


def main() -> None:
    """Print the ratio of the two wall times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "tasks", "task", "baseline"):
        parser.add_argument(name)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    model = HFLM(
        pretrained=options.model,
        device="cpu",
        dtype="bfloat16",
        softmax_dtype="float32",
        batch_size=8,
    )
    with tempfile.TemporaryDirectory() as folder:
        for file in Path(options.tasks).iterdir():
            if file.is_file():
                (Path(folder) / file.name).write_bytes(file.read_bytes())
        (Path(folder) / "flips_bench.yaml").write_text(
            f"group: flips_bench\ntask:\n  - task: {options.task}\n"
            "    class: !function lm_eval_flips.harness.task.FlipsTask\n"
        )
        manager = TaskManager(
            include_path=folder, include_defaults=False, metadata={"baseline": options.baseline}
        )
        seconds(model, manager, options.task, options.limit)  # warms up
        watch, plain, flips = Watch(), [], []
        for _ in range(options.rounds):
            plain.append(seconds(model, manager, options.task, options.limit))
            flips.append(seconds(model, manager, "flips_bench", options.limit))
    ratios = [b / a for a, b in zip(plain, flips, strict=True)]
    print(
        f"plain task {statistics.median(plain):.2f} s, FlipsTask {statistics.median(flips):.2f} s"
    )
    print(f"ratio: median {statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f})")
    share = watch.total / sum(flips)
    print(f"time inside FlipsTask's own steps: {100 * share:.2f} % of the wall time")


if __name__ == "__main__":
    main()
