"""The job files of examples/cluster, run on this machine: a queue of our own stands in for Slurm's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_eval_flips.logs.runs import load_run
from tests.conftest import harness_environment
from tests.e2e.conftest import ROOT

JOBS = ROOT / "examples" / "cluster"
# one job after the other, an array's one by one; like Slurm's it prints a job's number
SBATCH = """#!/usr/bin/env bash
set -e
for last; do :; done
array=$(printf '%s\\n' "$@" | sed -n 's/^--array=//p')
echo "$*" >> "$QUEUE/asked"
[ -n "$array" ] || bash "$last" >> "$QUEUE/printed" 2>&1
[ -z "$array" ] || for number in $(seq "${array%-*}" "${array#*-}"); do
  SLURM_ARRAY_TASK_ID=$number bash "$last" >> "$QUEUE/printed" 2>&1
done
wc -l < "$QUEUE/asked"
"""


def kubernetes_jobs() -> list[dict[str, Any]]:
    """The jobs of the file for Kubernetes."""
    jobs: list[dict[str, Any]] = list(yaml.safe_load_all((JOBS / "kubernetes.yaml").read_text()))
    return jobs


@pytest.mark.e2e
def test_all_jobs_end_in_one_report_and_a_board(
    tiny_model: Path, perturbed_model: Path, task_folder_local: Path, tmp_path: Path
) -> None:
    """Submitted as the file says; given again, a job keeps what is finished."""
    queue = tmp_path / "bin"
    queue.mkdir()
    (queue / "sbatch").write_text(SBATCH)
    (queue / "sbatch").chmod(0o755)
    program = queue / "lm-eval-flips"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lm_eval_flips "$@"\n')
    program.chmod(0o755)
    jobs = shutil.copytree(JOBS, tmp_path / "cluster")
    twin = shutil.copytree(perturbed_model, tmp_path / "twin")
    models = [f"pretrained={perturbed_model}", f"pretrained={twin},dtype=bfloat16"]
    (jobs / "models.txt").write_text("".join(f"{model}\n" for model in models))
    environment = {
        **harness_environment(tmp_path),
        "PATH": f"{queue}:{os.environ['PATH']}",
        "QUEUE": str(queue),
        "BASELINE": f"pretrained={tiny_model},dtype=float32",
        "TASKS": "tiny_choice",
        "INCLUDE_PATH": str(task_folder_local),
        "DEVICE": "cpu",
        "LAUNCHER": "",
    }

    def submitted() -> str:
        done = subprocess.run(
            ["bash", str(jobs / "submit.sh")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = (queue / "printed").read_text()
        assert done.returncode == 0, done.stdout + done.stderr + printed
        return printed

    assert "go on with --baseline runs/baseline --compressed" in submitted()
    runs = jobs / "runs"
    assert (queue / "asked").read_text().splitlines() == [
        "--parsable baseline.sh",
        "--parsable --dependency=afterok:1 --array=0-1 compressed.sh",
        "--dependency=afterany:2 compare.sh",
    ]
    for folder in ("baseline", "noise-floor", "jobs/0/perturbed", "jobs/1/twin"):
        assert set(load_run(runs / folder).tasks) == {"tiny_choice"}
    for page in ("report.html", "leaderboard.html"):
        shown = (runs / page).read_text()
        assert "perturbed" in shown
        assert "twin" in shown
    (queue / "printed").unlink()
    assert submitted().count("finished before, kept") == 6  # each compressed run names both


def test_kubernetes_runs_the_same_scripts() -> None:
    """Every job's script is there, its settings are those of the scripts, volumes are named."""
    settings = (JOBS / "settings.sh").read_text()
    jobs = kubernetes_jobs()
    assert [job["metadata"]["labels"]["stage"] for job in jobs] == [
        *("baseline", "compressed", "compare")
    ]
    for job in jobs:
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert (JOBS / Path(container["command"][1]).name).exists()
        for setting in container["env"]:
            assert setting["name"] == "JOBS" or f"{setting['name']}=${{" in settings
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    lines = (JOBS / "models.txt").read_text().splitlines()
    assert jobs[1]["spec"]["completions"] == len(lines)
    assert jobs[1]["spec"]["completionMode"] == "Indexed"
