"""`run --until`: real command lines that stop as soon as the rules are decided, and go on."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from lm_eval_flips.errors import HarnessError
from lm_eval_flips.planning.order import load_order
from tests.conftest import WORDS
from tests.e2e.conftest import run

pytestmark = pytest.mark.e2e

CHOICES, WRITTEN = 150, 30
RULES = "max-flips=0.9,max-choice-kl=3"
NEAR = 1e-4  # nats: other batches


class Done(NamedTuple):
    """One call of the command."""

    code: int
    printed: str


class Setting(NamedTuple):
    """The models, the tasks and the folder of the runs."""

    baseline: Path
    compressed: Path
    tasks: Path

    def run(self, output: Path, *more: str, model: str = "flips-hf") -> Done:
        """`lm-eval-flips run` on both tasks."""
        command = [
            *(sys.executable, "-m", "lm_eval_flips", "run", "--model", model),
            *("--baseline", f"pretrained={self.baseline},dtype=float32,softmax_dtype=float32"),
            *("--compressed", f"pretrained={self.compressed},dtype=float32,softmax_dtype=float32"),
            *("--tasks", "drawn_choice,drawn_written", "--include_path", str(self.tasks)),
            *("--device", "cpu", "--batch_size", "8", "--output_path", str(output), *more),
        ]
        done = run(command, output.parent)
        return Done(done.returncode, done.stdout)


@pytest.fixture(scope="module")
def setting(
    tiny_model: Path, perturbed_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Setting:
    """Both models, a task of choices and one of texts."""
    folder = tmp_path_factory.mktemp("drawn_tasks")
    draw = random.Random(0)
    questions = [
        {"q": " ".join(draw.sample(WORDS, 4)), "c": draw.sample(WORDS, 3), "a": draw.randrange(3)}
        for _ in range(CHOICES)
    ]
    common = {"dataset_path": "json", "test_split": "test", "metadata": {"version": 1.0}}
    for name, docs, config in (
        (
            "drawn_choice",
            questions,
            {"output_type": "multiple_choice", "doc_to_choice": "{{c}}", "doc_to_target": "a"},
        ),
        (
            "drawn_written",
            questions[:WRITTEN],
            {
                "output_type": "generate_until",
                "doc_to_target": "{{c[a]}}",
                "generation_kwargs": {"max_gen_toks": 4, "do_sample": False},
                "metric_list": [{"metric": "exact_match"}],
            },
        ),
    ):
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
        files = {"dataset_kwargs": {"data_files": {"test": str(data)}}}
        task = {"task": name, "doc_to_text": "{{q}} is", **common, **files, **config}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return Setting(tiny_model, perturbed_model, folder)


@pytest.fixture(scope="module")
def stopped(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """Both models, the second until the rules are decided."""
    output = tmp_path_factory.mktemp("until") / "runs"
    return output, setting.run(output, "--until", RULES)


def samples(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """All logged samples by task and doc_id."""
    found = {}
    for file in folder.rglob("samples_*.jsonl"):
        task = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        for line in file.read_text().splitlines():
            sample = json.loads(line)
            found[task, sample["doc_id"]] = sample
    return found


def numbers(sample: dict[str, Any]) -> list[Any]:
    """Log-likelihoods as numbers, texts as they are."""
    answers = [answer[0] for answer in sample["resps"]]
    return [float(a[0]) if isinstance(a, list) else a for a in answers]


def test_it_stops_where_it_is_decided(stopped: tuple[Path, Done]) -> None:
    """A pass after some of the questions, which are the first ones of the order."""
    output, done = stopped
    assert done.code == 0, done.printed
    order = load_order(output / "perturbed")
    assert order is not None
    assert len(order.documents) == CHOICES + WRITTEN
    logged = samples(output / "perturbed")
    assert 32 <= len(logged) < CHOICES + WRITTEN
    names = order.names
    assert set(logged) == {(names[task], doc) for task, doc in order.documents[: len(logged)]}
    assert len(samples(output / "baseline")) == CHOICES + WRITTEN
    assert f"after 32 of {CHOICES + WRITTEN} questions" in done.printed
    assert "decided after" in done.printed


def test_its_answers_are_those_of_a_whole_run(
    stopped: tuple[Path, Done], setting: Setting, tmp_path: Path
) -> None:
    """Each logged number is the stock model's, asked all at once."""
    command = [
        *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args"),
        f"pretrained={setting.compressed},dtype=float32,softmax_dtype=float32",
        *("--tasks", "drawn_choice,drawn_written", "--include_path", str(setting.tasks)),
        *("--device", "cpu", "--batch_size", "8", "--output_path", str(tmp_path / "stock")),
        "--log_samples",
    ]
    assert run(command, tmp_path).returncode == 0
    stock = samples(tmp_path / "stock")
    for key, sample in samples(stopped[0] / "perturbed").items():
        assert numbers(sample) == pytest.approx(numbers(stock[key]), abs=NEAR), key


def test_it_is_kept_and_goes_on_when_asked(stopped: tuple[Path, Done], setting: Setting) -> None:
    """The same command keeps it, other rules are refused, --continue evaluates all."""
    output, _ = stopped
    assert "finished before, kept" in setting.run(output, "--until", RULES).printed
    other = setting.run(output, "--until", "max-flips=0.8")
    assert other.code == 2
    assert "was evaluated with --until" in other.printed.replace("\n", " ")
    before = samples(output / "perturbed")
    on = setting.run(output, "--until", RULES, "--continue")
    assert on.code == 0, on.printed
    after = samples(output / "perturbed")
    assert len(after) == CHOICES + WRITTEN
    for key, sample in before.items():
        assert numbers(sample) == numbers(after[key])


def test_a_rule_that_is_broken_fails_early(setting: Setting, tmp_path: Path) -> None:
    """By another backend, whose answers the harness keeps."""
    done = setting.run(tmp_path / "runs", "--until", "max-choice-kl=1e-9", model="hf")
    assert done.code == 1, done.printed
    assert len(samples(tmp_path / "runs" / "perturbed")) < CHOICES + WRITTEN
    assert "FAIL" in done.printed


def test_refused_in_one_line(setting: Setting, stopped: tuple[Path, Done], tmp_path: Path) -> None:
    """A budget that cannot decide, before a model is loaded; a budget of nothing."""
    output, _ = stopped
    shutil.copytree(output / "baseline", tmp_path / "runs" / "baseline")
    rules = ("--until", "max-flips=0.01", "--budget", "20")
    for more, match in ((rules, "cannot decide"), (rules[2:], "go together with --until")):
        done = setting.run(tmp_path / "runs", *more)
        assert done.code == 2
        assert match in " ".join(done.printed.split()), done.printed
        assert "Traceback" not in done.printed


def test_answers_drawn_at_random_are_refused(setting: Setting, tmp_path: Path) -> None:
    """They are not the same twice; found before the model is loaded."""
    from lm_eval_flips.harness.kept_model import KeptModel

    arguments = [
        *("--model", "hf", "--model_args", "pretrained=nothing", "--tasks", "drawn_written"),
        *("--include_path", str(setting.tasks), "--gen_kwargs", "do_sample=True"),
        *("--output_path", str(tmp_path), "--log_samples"),
    ]
    with pytest.raises(HarnessError, match="drawn at random"):
        KeptModel(arguments, cache=tmp_path / "answers")
