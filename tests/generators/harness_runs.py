"""Runs of the harness in this process, on the catalogue's own tasks with a few documents of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from lm_eval.api.model import LM

Rows = Sequence[Mapping[str, Any]]


class Scripted(LM):  # type: ignore[misc]  # lm_eval ships no types
    """A model that says what it is told to say to a document of a task."""

    def __init__(self, name: str, says: Callable[[str, dict[str, Any], int], Any]) -> None:
        super().__init__()
        self.name, self._says = name, says

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """What it says to each document, by its task, itself and its number."""
        return [self._says(own.task_name, own.doc, own.doc_id) for own in requests]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        """The same of continuations: a log-likelihood, and whether it is what it would say."""
        return [self._says(own.task_name, own.doc, own.doc_id) for own in requests]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Never asked."""
        raise NotImplementedError


def stand_in(monkeypatch: pytest.MonkeyPatch, splits: Mapping[str, Mapping[str, Rows]]) -> None:
    """Give the harness's tasks a few documents instead of the hub's data sets, by their paths."""

    def load_dataset(path: str, name: str | None = None, **_: Any) -> Any:
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_list(list(rows)) for split, rows in splits[path].items()}
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def evaluated(
    model: LM,
    tasks: list[str],
    output: Path,
    *,
    folders: Sequence[str | Path] = (),
    metadata: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A run of the harness as its command line writes it; gives what it returns.

    Args:
        model: what answers.
        tasks: names of tasks and groups of ours, and of ``folders``.
        output: where its log goes.
        folders: further folders of tasks; a name is one of the harness's own.
        metadata: as ``--metadata`` gives it.
        more: of ``simple_evaluate``.
    """
    import lm_eval.tasks
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker

    from lm_eval_flips.harness.task_folder import task_folder

    own = Path(lm_eval.tasks.__file__).parent
    paths = [own / found if isinstance(found, str) else found for found in folders]
    tracker = EvaluationTracker(output_path=str(output))
    results: dict[str, Any] = simple_evaluate(
        model=model,
        tasks=tasks,
        task_manager=lm_eval.tasks.TaskManager(
            include_path=[str(path) for path in (*paths, task_folder())],
            include_defaults=False,
            metadata=dict(metadata or {}),
        ),
        evaluation_tracker=tracker,
        log_samples=True,
        bootstrap_iters=0,
        **more,
    )
    kept = tracker.general_config_tracker
    kept.model_source = kept.model_name = kept.model_name_sanitized = getattr(model, "name", "m")
    written = {key: value for key, value in results.items() if key != "samples"}
    tracker.save_results_aggregated(results=written, samples=results["samples"])
    for task, samples in results["samples"].items():
        tracker.save_results_samples(task_name=task, samples=samples)
    return results
