"""Tasks whose only metric logs pairs, in the harness: flips all the same, or a refusal at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_eval_flips import FlipsError, compare

pytestmark = pytest.mark.e2e

SENTENCES = [
    {
        "sentence": f"{'The stork stood by pond' if i % 2 else 'Pond the by stood stork'} {i}.",
        "label": i % 2,
    }
    for i in range(24)
]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both tasks."""
    return write_tasks(tmp_path_factory.mktemp("tasks"))


def write_tasks(folder: Path) -> Path:
    """A task of choices with a score of pairs, one of text with a score of texts, and their groups."""
    file = folder / "sentences.jsonl"
    file.write_text("".join(json.dumps(own) + "\n" for own in SENTENCES))
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "doc_to_text": "{{sentence}} Is it well said?",
        "metadata": {"version": 1.0},
    }
    leaves: dict[str, dict[str, Any]] = {
        "said_well": {
            "output_type": "multiple_choice",
            "doc_to_target": "label",
            "doc_to_choice": ["no", "yes"],
            "metric_list": [{"metric": "brier_score"}],
        },
        "said_again": {
            "output_type": "generate_until",
            "doc_to_target": "{{sentence}}",
            "generation_kwargs": {"until": ["."]},
            "metric_list": [{"metric": "chrf"}],
        },
    }
    for name, own in leaves.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **shared, **own}))
        (folder / f"flips_{name}.yaml").write_text(
            f"group: flips_{name}\ntask:\n  - task: {name}\n"
            "    class: !function lm_eval_flips.harness.task.FlipsTask\n"
        )
    return folder


def evaluated(tasks: Path, name: str, output: Path, *, seed: int, baseline: str = "") -> Any:
    """The harness's dummy model, which answers at random, on one task; its log as it writes it."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tracker = EvaluationTracker(output_path=str(output))
    metadata = {"baseline": baseline} if baseline else {}
    results = simple_evaluate(
        model="dummy",
        tasks=[name],
        task_manager=TaskManager(
            include_path=str(tasks), include_defaults=False, metadata=metadata
        ),
        evaluation_tracker=tracker,
        log_samples=True,
        random_seed=seed,
        bootstrap_iters=0,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, own in samples.items():
        tracker.save_results_samples(task_name=task, samples=own)
    return results["results"]


def test_a_choice_task_scored_by_pairs_has_flips_and_kl(tasks: Path, tmp_path: Path) -> None:
    """The harness's own table holds what compare says of the two runs."""
    base, other = tmp_path / "base", tmp_path / "other"
    evaluated(tasks, "said_well", base, seed=1)
    found = evaluated(tasks, "flips_said_well", other, seed=2, baseline=str(base))["said_well"]
    result = compare(base, other)
    assert not any("flips" in str(told) for told in result.warnings)  # its own numbers
    (row,) = result.compressed[0].tasks
    assert row.metric == "acc"
    assert row.flips is not None
    assert row.distances is not None
    assert row.flips.flips > 0
    assert found["flips,none"] == pytest.approx(row.flips.flips)
    assert found["all_flips,none"] == pytest.approx(row.flips.all_flips)
    assert found["choice_kl,none"] == pytest.approx(row.distances.choice_kl.mean)


def test_text_scored_by_likeness_is_refused_before_the_model_runs(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No metric of it says right or wrong; the message names what it logs and what to do."""
    from lm_eval.models.dummy import DummyLM

    base = tmp_path / "base"
    evaluated(tasks, "said_again", base, seed=1)

    def unasked(*_: object, **__: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(DummyLM, "generate_until", unasked)
    message = "task 'said_again' has no metric of right or wrong but chrf, so no answer of it"
    with pytest.raises(FlipsError, match=message):
        evaluated(tasks, "flips_said_again", tmp_path / "other", seed=2, baseline=str(base))
