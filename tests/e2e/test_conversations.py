"""Conversations from the question to the comparison: the harness's models, and a real judge."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import lm_eval_flips.cli  # noqa: F401  (its verbs)
from lm_eval_flips import compare
from lm_eval_flips.cli.app import app
from tests.e2e.conftest import run
from tests.generators.conversations import write_questions
from tests.generators.gguf_files import write_gguf
from tests.generators.harness_runs import evaluated
from tests.generators.judges import llama_server

pytestmark = pytest.mark.e2e

# few positions, so short ones; a file of MT-Bench's format all the same
PROMPTS = (
    {"name": "one", "type": "single", "prompt_template": "{question} {answer} Score?"},
    {
        "name": "two",
        "type": "single",
        "prompt_template": "{question_1} {answer_1} {question_2} {answer_2} Score?",
    },
)
TURNS = [
    {"question_id": i, "category": "math", "turns": [f"Say {i}.", "And again."]} for i in range(6)
]


def talk(model: Path, output: Path, questions: Path) -> dict[str, Any]:
    """A run of the harness's own `hf`, in batches of four."""
    from lm_eval.models.huggingface import HFLM

    asked = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=4)
    asked.name = output.name
    return evaluated(
        asked,
        ["flips_turns"],
        output,
        metadata={"questions": str(questions)},
        gen_kwargs={"max_gen_toks": 12},
        apply_chat_template=True,
    )


def test_two_models_talk_are_judged_and_compared(
    tiny_model: Path, perturbed_model: Path, tmp_path: Path
) -> None:
    """Two rounds in batches, each with its own history; llama.cpp's server grades them."""
    questions = write_questions(tmp_path / "data", TURNS)
    results = talk(tiny_model, tmp_path / "base", questions)
    talk(perturbed_model, tmp_path / "int4", questions)
    for sample in results["samples"]["flips_turns"]:
        first, second = (own["arg_0"] for own in sample["arguments"].values())
        said = sample["filtered_resps"][0]
        assert (
            second
            == f"{first.removesuffix('assistant: ')}assistant: {said}\nuser: And again.\nassistant: "
        )
    prompts = write_questions(tmp_path, PROMPTS, "prompts.jsonl")
    with llama_server(write_gguf(tiny_model, tmp_path / "judge.gguf")) as url:
        done = CliRunner().invoke(
            app,
            [
                *("judge", str(tmp_path / "base"), str(tmp_path / "int4")),
                *("--judge-model", "tiny", "--base-url", url, "--concurrency", "2"),
                *("--prompts", str(prompts)),
            ],
        )
    assert done.exit_code == 0, done.output
    (run,) = compare(tmp_path / "base", tmp_path / "int4").compressed
    (row,) = run.tasks
    assert (row.metric, row.n) == ("judge_score", len(TURNS))
    changes = [
        row.numbers[f"judge_{name}_turn{s}_change"] for name, s in (("first", ""), ("later", "s"))
    ]
    assert sum(own.value for own in changes) / 2 == pytest.approx(row.score_change)
    assert row.numbers["length_ratio"].known
    lines = [
        json.loads(line)
        for file in (tmp_path / "int4").rglob("judgements/*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert sorted((own["doc_id"], own["turn"]) for own in lines) == [
        (doc, turn) for doc in range(len(TURNS)) for turn in (1, 2)
    ]


def test_a_run_of_conversations_alone_says_how_to_go_on(
    tiny_model: Path, perturbed_model: Path, tmp_path: Path
) -> None:
    """All is evaluated, and nothing can be compared before a judge was asked: no error."""
    questions = write_questions(tmp_path / "data", TURNS[:2])
    tasks = run([sys.executable, "-m", "lm_eval_flips", "tasks"], tmp_path).stdout.strip()
    done = run(
        [
            *(sys.executable, "-m", "lm_eval_flips", "run", "--model", "hf"),
            *("--baseline", f"pretrained={tiny_model},dtype=float32"),
            *("--compressed", f"pretrained={perturbed_model},dtype=float32"),
            *("--tasks", "flips_turns", "--include_path", tasks, "--device", "cpu"),
            *("--metadata", json.dumps({"questions": str(questions)}), "--apply_chat_template"),
            *("--gen_kwargs", "max_gen_toks=4", "--output_path", "runs"),
        ],
        tmp_path,
    )
    assert done.returncode == 0, done.stdout
    assert "evaluated; the answers of flips_turns have no score but a judge's" in done.stdout
    last = done.stdout.splitlines()[-2:]
    assert last[0].strip() == "lm-eval-flips judge runs/baseline runs/perturbed --judge-model NAME"
    assert last[1].strip() == "lm-eval-flips compare runs/baseline runs/perturbed"
