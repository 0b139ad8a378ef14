"""The action for GitHub and the job for GitLab, run as their servers would.

Only the servers' files are stood in for.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import harness_environment
from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e

ACTION = ROOT / ".github" / "actions" / "gate" / "action.yml"
LENIENT, STRICT = "max_flips = 0.9", "max_flips = 0.000001"


@pytest.fixture(scope="module")
def place(
    tiny_model: Path,
    perturbed_model: Path,
    task_folder_local: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A checkout as a server has it: the models, the tasks, thresholds, our program on the PATH."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(tiny_model, folder / "models" / "base")
    shutil.copytree(perturbed_model, folder / "models" / "compressed")
    shutil.copytree(task_folder_local, folder / "tasks")
    program = folder / "bin" / "lm-eval-flips"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lm_eval_flips "$@"\n')
    program.chmod(0o755)
    for name, rule in (("lenient", LENIENT), ("strict", STRICT)):
        (folder / f"{name}.toml").write_text(f'judge = "point"\n[pooled]\n{rule}\n')
    return folder


def shell(script: str, place: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A step, as both servers run it: bash that ends at the first failure."""
    environment = {**harness_environment(place), **more}
    environment["PATH"] = f"{place / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


ASKED = {
    "baseline": "pretrained=models/base,dtype=float32",
    "compressed": "pretrained=models/compressed,dtype=float32",
    "tasks": "tiny_choice",
    "arguments": "--include_path tasks --device cpu",
    "output": "runs",
    "package": "",
}


def act(step: dict[str, Any], place: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """A step of the action with these inputs."""
    given = {
        name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: inputs[found[1]], value)
        for name, value in step["env"].items()
    }
    files = {name: str(place / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    return shell(step["run"], place, **given, **files)


@pytest.fixture(scope="module")
def steps(place: Path) -> dict[str, dict[str, Any]]:
    """The action's steps by name, after it has evaluated."""
    action = yaml.safe_load(ACTION.read_text())
    found = {step["name"]: step for step in action["runs"]["steps"]}
    assert set(ASKED) | {"config"} == set(action["inputs"])
    done = act(found["evaluate"], place, **ASKED)
    assert done.returncode == 0, done.stdout + done.stderr
    return found


@pytest.mark.parametrize(
    ("config", "code", "outcome", "mark"),
    [("lenient.toml", 0, "pass", "✅ pass"), ("strict.toml", 1, "fail", "❌ fail")],
)
def test_the_action_says_what_the_gate_does(
    config: str, code: int, outcome: str, mark: str, place: Path, steps: dict[str, dict[str, Any]]
) -> None:
    """By its exit code, its outputs, the job's summary and the comment."""
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        (place / name).write_text("")
    done = act(steps["judge"], place, **ASKED, config=config)
    assert done.returncode == code, done.stdout + done.stderr
    told = (place / "GITHUB_OUTPUT").read_text().splitlines()
    assert told == [f"outcome={outcome}", "comment=runs/gate.md"]
    assert mark in (place / "GITHUB_STEP_SUMMARY").read_text()
    assert (place / "runs/gate.md").read_text().count("###") == 1


def test_a_gate_that_cannot_be_read_is_no_pass(
    place: Path, steps: dict[str, dict[str, Any]]
) -> None:
    """Control: without thresholds there is a verdict of its own, and no comment."""
    (place / "GITHUB_OUTPUT").write_text("")
    done = act(steps["judge"], place, **ASKED, config="none.toml")
    assert done.returncode == 2
    assert "outcome=undecided" in (place / "GITHUB_OUTPUT").read_text()


def test_inputs_are_never_part_of_a_script() -> None:
    """What somebody writes into a pull request must not be run."""
    action = yaml.safe_load(ACTION.read_text())
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_gitlab_s_job_does_the_same(place: Path, steps: dict[str, dict[str, Any]]) -> None:
    """Its script, line by line in one shell; the runs are there already, and kept."""
    assert steps
    job = yaml.safe_load((ROOT / "examples" / "gate.gitlab-ci.yml").read_text())["quality gate"]
    given = {name.upper(): ASKED[name] for name in ("baseline", "compressed", "tasks", "arguments")}
    assert {*given, "CONFIG"} == set(job["variables"])
    for config, code in (("lenient.toml", 0), ("strict.toml", 1)):
        done = shell("\n".join(job["script"]), place, **given, CONFIG=config, GITLAB_TOKEN="")
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stdout.count("finished before, kept") == 2
    assert (place / "runs/gate.xml").exists()


def test_the_workflow_gives_what_the_action_takes() -> None:
    """An input that the action does not know would be left out without a word."""
    workflow = yaml.safe_load((ROOT / "examples" / "gate.yml").read_text())
    (step,) = [own for own in workflow["jobs"]["gate"]["steps"] if own.get("id") == "gate"]
    assert set(step["with"]) <= set(yaml.safe_load(ACTION.read_text())["inputs"])
