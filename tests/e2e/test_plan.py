"""`plan`, then the stock `lm_eval --samples`, then `compare --plan`: real commands, tiny models."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_eval_flips import compare_planned
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.planning.plan import load_plan
from tests.conftest import LocalRuns, finished
from tests.e2e.conftest import lm_eval_command, run

pytestmark = pytest.mark.e2e


def ours(folder: Path, *arguments: object) -> Any:
    """One call of this package's command."""
    return run([sys.executable, "-m", "lm_eval_flips", *map(str, arguments)], folder)


def logged(folder: Path, task: str, label: str = "none") -> dict[int, dict[str, Any]]:
    """The records of one task in a run, by doc_id."""
    lines = load_run(folder).sample_paths[task].read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {found["doc_id"]: found for found in records if found["filter"] == label}


@pytest.fixture(scope="module")
def evaluated(
    local_runs: LocalRuns,
    perturbed_model: Path,
    task_folder_local: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A plan of 40 documents of the stock baseline run, evaluated by the stock command."""
    folder = tmp_path_factory.mktemp("plan")
    made = ours(folder, "plan", local_runs.baseline, "--budget", 40, "--output", "samples.json")
    assert made.returncode == 0, made.stdout
    assert "not planned, no metric of right and wrong: task tiny_rolling" in made.stdout
    (command,) = [line for line in made.stdout.splitlines() if line.startswith("  lm_eval run")]
    names = command.split("--tasks ")[1].split()[0]
    tasks, more = task_folder_local, ("--samples", "samples.json")
    done = run(lm_eval_command(perturbed_model, tasks, names, folder / "run", *more), folder)
    assert done.returncode == 0, done.stdout
    return folder


def test_the_harness_logs_just_the_planned_documents(evaluated: Path) -> None:
    """Under the doc_ids of the full run, in every task and under every filter."""
    plan = load_plan(evaluated / "samples.json")
    assert plan.budget == 40
    drawn = load_run(evaluated / "run")
    assert set(drawn.tasks) == set(plan.samples)
    labels = {
        "tiny_generate": ("strict-match", "flexible-extract"),
        "tiny_repeats": ("score-first", "maj@3"),
    }
    for name, docs in plan.samples.items():
        for label in labels.get(name, ("none",)):
            assert sorted(logged(evaluated / "run", name, label)) == docs
        assert drawn.results.results[name]["sample_len"] == len(docs)


def test_drawn_samples_are_answered_as_in_the_full_run(
    evaluated: Path, local_runs: LocalRuns
) -> None:
    """The same document and prompt, and the same log-likelihoods but for the batches."""
    runs = (local_runs.compressed, evaluated / "run")
    full, drawn = (logged(folder, "tiny_choice") for folder in runs)
    assert 2 <= len(drawn) < len(full)
    for doc, found in drawn.items():
        for name in ("doc_hash", "prompt_hash", "target_hash"):
            assert found[name] == full[doc][name]
        scores = [[float(pair[0]) for pair in own["filtered_resps"]] for own in (found, full[doc])]
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_estimates_are_the_full_runs_answers_weighted(
    evaluated: Path, local_runs: LocalRuns
) -> None:
    """By numpy from the logs of the two full runs and the plan's lists."""
    file = evaluated / "samples.json"
    (found,) = compare_planned(file, local_runs.baseline, evaluated / "run").compressed
    assert found.planned is not None
    for name in ("tiny_choice", "tiny_inputs", "tiny_mutual"):
        before, after = (logged(folder, name) for folder in local_runs)
        docs = load_plan(file).samples[name]
        change = [float(after[doc]["acc"]) - float(before[doc]["acc"]) for doc in docs]
        held = [found.planned.weights[name][doc] for doc in docs]
        row = next(r for r in found.planned.tasks if (r.name, r.metric) == (name, "acc"))
        expected = np.average(change, weights=held)
        flips = np.average(np.abs(change), weights=held)
        assert row.estimates["score_change"].value == pytest.approx(expected)
        assert row.estimates["flips"].value == pytest.approx(flips)
        assert row.baseline_score == pytest.approx(np.mean([own["acc"] for own in before.values()]))
        assert row.documents == len(before)


def test_compare_and_gate_print_the_estimates(evaluated: Path, local_runs: LocalRuns) -> None:
    """Exit codes, the numbers of samples, JSON; without --plan the way out is named."""
    arguments = (local_runs.baseline, evaluated / "run", "--plan", evaluated / "samples.json")
    done = ours(evaluated, "compare", *arguments, "--details", "--json", "c.json", "--overwrite")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^tiny_choice +acc .* 20 ", done.stdout, flags=re.MULTILINE), done.stdout
    assert "plain random sampling would need" in done.stdout
    document = json.loads((evaluated / "c.json").read_text())
    assert document["compressed"][0]["planned"]["pooled"]["n"] == 40
    judged = ours(evaluated, "gate", *arguments, "--max-flips", 0.9)
    assert judged.returncode == 0, judged.stdout
    alone = ours(evaluated, "compare", *arguments[:2])
    assert alone.returncode == 2
    assert "a plan's samples go with --plan" in alone.stdout


def test_an_unsorted_list_is_refused_as_the_harness_mislabels_it(
    evaluated: Path,
    perturbed_model: Path,
    task_folder_local: Path,
    local_runs: LocalRuns,
    tmp_path: Path,
) -> None:
    """The stock command takes it without a word, and logs documents under other doc_ids."""
    planned = load_plan(evaluated / "samples.json").samples["tiny_choice"]
    backwards = json.dumps({"tiny_choice": planned[::-1]})
    tasks, more = task_folder_local, ("--samples", backwards)
    command = lm_eval_command(perturbed_model, tasks, "tiny_choice", tmp_path / "run", *more)
    assert run(command, tmp_path).returncode == 0
    done = ours(
        tmp_path,
        *("compare", local_runs.baseline, tmp_path / "run", "--tasks", "tiny_choice"),
        *("--plan", evaluated / "samples.json"),
    )
    assert done.returncode == 2
    assert "which an unsorted --samples list does: sort it and rerun" in done.stdout


def test_few_shot_prompts_are_others_and_a_second_baseline_helps(
    tiny_model: Path, perturbed_model: Path, task_folder_local: Path, tmp_path: Path
) -> None:
    """The plan warns; compare refuses the full baseline, and takes one of the same samples."""

    def command(model: Path, name: str, *more: str) -> list[str]:
        shots = ("--num_fewshot", "2", *more)
        return lm_eval_command(model, task_folder_local, "tiny_choice", tmp_path / name, *shots)

    list(finished([command(tiny_model, "full")], tmp_path))
    made = ours(tmp_path, "plan", "full", "--budget", 8, "--output", "samples.json")
    assert made.returncode == 0, made.stdout
    assert "warning: few-shot examples of task tiny_choice are drawn at random" in made.stdout
    assert "--num_fewshot 2" in made.stdout
    drawn = ("--samples", "samples.json")
    both = [command(perturbed_model, "run", *drawn), command(tiny_model, "again", *drawn)]
    list(finished(both, tmp_path))
    refused = ours(tmp_path, "compare", "full", "run", "--plan", "samples.json")
    assert refused.returncode == 2
    assert "since few-shot examples are drawn anew under --samples" in refused.stdout
    done = ours(tmp_path, "compare", "again", "run", "--plan", "samples.json")
    assert done.returncode == 0, done.stdout
    assert "8 of 20" in done.stdout
