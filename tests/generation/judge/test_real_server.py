"""llama.cpp's own server as the judge: the protocol end to end, with a tiny model's verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_flips import compare
from tests.generation.judge.conftest import Ask, N, Runs, kept
from tests.generators.gguf_files import write_gguf
from tests.generators.judges import llama_server

SHORT = '{"type": "single", "prompt_template": "{question} {answer} Score?"}\n'


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """One that a model of few positions has room for."""
    file = tmp_path / "prompts.jsonl"
    file.write_text(SHORT)
    return file


def test_a_real_server_judges_both_runs(
    runs: Runs, ask: Ask, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """Its replies are forced to hold a score: each is one of the real protocol, with its usage."""
    with llama_server(write_gguf(tiny_model, tmp_path / "judge.gguf")) as url:
        for run in (runs.baseline, runs.compressed):
            arguments = ("--base-url", url, "--concurrency", 2, "--prompts", prompts)
            said = ask(run, *arguments)
            assert said.code == 0, said.out
            assert f"{N} of {N} have a verdict" in said.out
    judged = kept(runs.baseline)
    assert all(1 <= (own.score or 0) <= 9 for own in judged)
    assert all(own.tokens_in > 20 and 0 < own.tokens_out <= 32 for own in judged)
    row = compare(runs.baseline, runs.compressed).compressed[0].tasks[0]
    scores = [
        sum(own.score or 0 for own in kept(run)) / N for run in (runs.baseline, runs.compressed)
    ]
    assert row.numbers["judge_score_change"].value == pytest.approx(scores[1] - scores[0])


def test_a_real_server_that_says_nothing_of_use_is_counted(
    runs: Runs, ask: Ask, tiny_model: Path, prompts: Path, tmp_path: Path
) -> None:
    """Control: the same model without the grammar writes noise, which is no score."""
    with llama_server(write_gguf(tiny_model, tmp_path / "judge.gguf"), grammar="") as url:
        arguments = ("--base-url", url, "--limit", 2, "--max-tokens", 8)
        said = ask(runs.baseline, *arguments, "--prompts", prompts)
        assert "0 of 2 have a verdict" in said.out
        assert "no verdict in the reply" in said.out
        long = ask(runs.compressed, *arguments)
        assert "0 of 2 have a verdict" in long.out
        assert "exceeds the available context size" in long.out
    assert all(own.score is None and own.fault for own in kept(runs.baseline))
