"""A model that stays loaded while the harness evaluates more and more documents with it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval._cli import HarnessCLI
from lm_eval.api.registry import get_model
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.loggers import EvaluationTracker
from lm_eval.utils import setup_logging

# Importing them registers the models and the metrics.
from lm_eval_flips.errors import HarnessError, named
from lm_eval_flips.harness import plugin
from lm_eval_flips.harness.models import registered

__all__ = ["KeptModel", "plugin", "registered"]

RESULTS = ("results_*.json", "samples_*.jsonl")


class KeptModel:
    """The model and the tasks of one command line of the harness, loaded once.

    Args:
        arguments: as on the command line of ``lm_eval run``.
        cache: file for the model's answers, so that none is asked for twice.

    Raises:
        HarnessError: the harness draws answers at random, so that they cannot be asked for again.
    """

    def __init__(self, arguments: Sequence[str], *, cache: Path) -> None:
        setup_logging()
        sys.argv = ["lm_eval", "run", *arguments]  # the harness's command line reads them there
        self._config = EvaluatorConfig.from_cli(HarnessCLI().parse_args())
        self._cache = cache
        self._manager = self._config.process_tasks(self._config.metadata)
        self._tasks = self._manager.load(self._config.tasks)["tasks"]
        self._refuse_sampling()
        self._model = get_model(self._config.model).create_from_arg_obj(
            self._config.model_args,
            {
                "batch_size": self._config.batch_size,
                "max_batch_size": self._config.max_batch_size,
                "device": self._config.device,
            },
        )

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return list(self._tasks)

    def evaluate(self, samples: Mapping[str, Sequence[int]], *, folder: Path) -> None:
        """Evaluate some documents of each task, and write an ordinary run in place of the last.

        What the model answered before is taken from its answers.

        Args:
            samples: doc_ids by task, none of them empty, which the harness would take for all.
            folder: of the run.
        """
        config = self._config
        tracker = EvaluationTracker(output_path=str(folder))
        results = simple_evaluate(
            model=self._model,
            model_args=config.model_args,
            tasks=[self._tasks[name] for name in samples],
            num_fewshot=config.num_fewshot,
            batch_size=config.batch_size,
            device=config.device,
            use_cache=str(self._cache),
            samples={name: list(docs) for name, docs in samples.items()},
            log_samples=True,
            evaluation_tracker=tracker,
            system_instruction=config.system_instruction,
            apply_chat_template=config.apply_chat_template,
            fewshot_as_multiturn=config.fewshot_as_multiturn,
            gen_kwargs=config.gen_kwargs,
            task_manager=self._manager,
            random_seed=config.seed[0],
            numpy_random_seed=config.seed[1],
            torch_random_seed=config.seed[2],
            fewshot_random_seed=config.seed[3],
            confirm_run_unsafe_code=config.confirm_run_unsafe_code,
            metadata=config.metadata,
            bootstrap_iters=0,
        )
        if results is None:
            raise HarnessError("documents are evaluated in an order by one process only")
        results["config"]["model"] = config.model
        logged = results.pop("samples")
        before = [file for pattern in RESULTS for file in folder.rglob(pattern)]
        tracker.general_config_tracker.model_source = config.model
        tracker.save_results_aggregated(results=results, samples=logged)
        for name in results["configs"]:
            tracker.save_results_samples(task_name=name, samples=logged[name])
        for file in before:
            file.unlink()

    def _refuse_sampling(self) -> None:
        given = self._config.gen_kwargs or {}
        drawn = [
            name
            for name, task in self._tasks.items()
            if task.get_config("output_type") == "generate_until"
            and {**(task.get_config("generation_kwargs") or {}), **given}.get("do_sample", False)
        ]
        if drawn:
            raise HarnessError(
                f"task {named(drawn)}: its answers are drawn at random (do_sample), so that a "
                "document's answer is not the same twice; evaluate it whole, or greedily"
            )
