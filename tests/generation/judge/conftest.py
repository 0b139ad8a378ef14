"""Two runs that wrote answers, and a judge to ask about them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lm_eval_flips.cli.app import app
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.judgements import Judgement, load_judgements
from tests.generators import logs

N = 12
SECRET = "sk-test-0123456789abcdef"


@dataclass(frozen=True)
class Runs:
    """A baseline's and a compressed model's output folder: the last answers are alike."""

    baseline: Path
    compressed: Path


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code; 2 with the message of an error of ours."""

    code: int
    out: str


Ask = Callable[..., Said]


def answers(model: str) -> list[str]:
    """What a model wrote: two of a dozen alike."""
    return [
        f"The answer is {i}." if i >= N - 2 else f"{model} thinks that it may be {i}." + " So." * i
        for i in range(N)
    ]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Each in a folder of its own."""
    for model in ("base", "int4"):
        records = [logs.text(i, said, target=f"{i}") for i, said in enumerate(answers(model))]
        logs.write_run(tmp_path / model, {"sums": records}, model=f"org/{model}")
    return Runs(tmp_path / "base", tmp_path / "int4")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`lm-eval-flips judge` with these arguments, a key in the environment."""
    import lm_eval_flips.cli  # noqa: F401  (its verbs)

    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for name in (
        "OPENAI_BASE_URL",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
    ):
        monkeypatch.delenv(name, raising=False)

    def judge(*arguments: object) -> Said:
        done = CliRunner().invoke(app, ["judge", *map(str, arguments), "--judge-model", "judge-1"])
        if done.exception is not None and not isinstance(done.exception, (FlipsError, SystemExit)):
            raise done.exception
        error = str(done.exception) if isinstance(done.exception, FlipsError) else ""
        return Said(2 if error else done.exit_code, done.output + error)

    return judge


def kept(run: Path) -> list[Judgement]:
    """All judgements of a run."""
    return [own for judged in load_judgements(run / "judgements") for own in judged.by_key.values()]


def written(folder: Path) -> str:
    """Everything that lies below a folder, as one text."""
    files = [Path(above) / name for above, _, names in os.walk(folder) for name in names]
    return "".join(file.read_text(encoding="utf-8") for file in files)
