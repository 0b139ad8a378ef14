"""The results file of a model hub: read back by the hub's own library, number for number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.report.files.hub_results import hub_results
from tests.generators import logs

HUB: Mapping[str, Mapping[str, Any]] = {
    "arc": {"dataset_path": "allenai/ai2_arc", "dataset_name": "ARC-Challenge"},
    "law": {"dataset_path": "org/law"},
    "own": {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "q.jsonl"}}},
    "near": {"dataset_path": "data/near", "dataset_kwargs": {"data_files": {"test": "q.jsonl"}}},
}


def compared(folder: Path, configs: Mapping[str, Mapping[str, Any]], *models: str) -> Comparison:
    """Runs of eight questions a task, of which every other model answers one otherwise."""
    runs = []
    for number, model in enumerate(("org/base", *models)):
        tasks = {
            name: [
                logs.choice(i, [-1.0, -2.0 + 2 * (number > 0 and i == number)]) for i in range(8)
            ]
            for name in configs
        }
        runs.append(logs.write_run(folder / model, tasks, model=model, configs=configs))
    return compare(runs[0], *runs[1:])


def test_each_task_of_the_hub_has_its_score(tmp_path: Path) -> None:
    """Data set, part, value, time; what changed is in the notes; other tasks are named."""
    comparison = compared(tmp_path, HUB, "org/int4")
    found = hub_results(comparison, harness="0.4.13")
    first, second = parse_eval_result_entries(yaml.safe_load(found.text))
    assert (first.dataset_id, first.task_id) == ("allenai/ai2_arc", "ARC-Challenge")
    assert (second.dataset_id, second.task_id) == ("org/law", "default")
    scores = {row.name: row for row in comparison.compressed[0].tasks}
    assert first.value == scores["arc"].compressed_score != scores["arc"].baseline_score
    assert f"{first.date}" == "2026-01-02"
    assert first.notes is not None
    assert first.notes.startswith("arc, acc, 0-shot; n = 8, baseline 1.0000 of org/base; 12.50 % [")
    assert "of the answers flipped; choice KL " in first.notes
    assert "; lm_eval 0.4.13, lm-eval-flips " in first.notes
    assert sorted(found.left_out) == ["near", "own"]


@pytest.mark.parametrize(
    ("configs", "models", "why"),
    [
        ({"own": HUB["own"]}, ["org/int4"], r"no task lies on the hub \(own\)"),
        ({"law": HUB["law"]}, ["org/int4", "org/int8"], "is of one model.*give one compressed run"),
    ],
    ids=["own files", "two models"],
)
def test_what_the_hub_would_not_read_is_refused(
    configs: Mapping[str, Mapping[str, Any]], models: list[str], why: str, tmp_path: Path
) -> None:
    """In one line."""
    with pytest.raises(FlipsError, match=why):
        hub_results(compared(tmp_path, configs, *models))
