"""Conversations from the question to the report: the stock command, a real judge, compare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lm_eval_flips import compare
from lm_eval_flips.cli import main
from tests.conftest import harness_environment
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


def stock_command(model: Path, questions: Path, output: Path) -> list[str]:
    """The harness's own command line with our folder of tasks."""
    from lm_eval_flips.harness.task_folder import task_folder

    return [
        *(sys.executable, "-m", "lm_eval", "run", "--model", "hf"),
        *("--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"),
        *("--include_path", str(task_folder()), "--tasks", "flips_turns"),
        *("--metadata", json.dumps({"questions": str(questions)})),
        *("--gen_kwargs", json.dumps({"max_gen_toks": 12}), "--batch_size", "4"),
        *("--output_path", str(output), "--log_samples"),
    ]


def test_two_models_talk_are_judged_and_compared(
    tiny_model: Path, perturbed_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by the stock command, one by the harness's Python API; llama.cpp's server as the judge."""
    from lm_eval.models.huggingface import HFLM

    questions = write_questions(tmp_path / "data", TURNS)
    command = [
        *stock_command(perturbed_model, questions, tmp_path / "int4"),
        "--apply_chat_template",
    ]
    other = subprocess.Popen(command, env=harness_environment(tmp_path), cwd=tmp_path)
    model = HFLM(pretrained=str(tiny_model), dtype="float32", device="cpu", batch_size=4)
    model.name = "tiny"
    results = evaluated(
        model,
        ["flips_turns"],
        tmp_path / "base",
        metadata={"questions": str(questions)},
        gen_kwargs={"max_gen_toks": 12},
        apply_chat_template=True,
    )
    assert other.wait(timeout=300) == 0
    for sample in results["samples"]["flips_turns"]:
        first, second = (own["arg_0"] for own in sample["arguments"].values())
        said = sample["filtered_resps"][0]
        assert (
            second
            == f"{first.removesuffix('assistant: ')}assistant: {said}\nuser: And again.\nassistant: "
        )
    prompts = write_questions(tmp_path, PROMPTS, "prompts.jsonl")
    with llama_server(write_gguf(tiny_model, tmp_path / "judge.gguf")) as url:
        monkeypatch.setattr(
            sys,
            "argv",
            [
                *("lm-eval-flips", "judge", str(tmp_path / "base"), str(tmp_path / "int4")),
                *("--judge-model", "tiny", "--base-url", url, "--concurrency", "2"),
                *("--prompts", str(prompts)),
            ],
        )
        with pytest.raises(SystemExit, match="0"):
            main()
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
