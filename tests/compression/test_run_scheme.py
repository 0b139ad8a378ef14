"""A run's scheme: its files first, then the engine's log, its arguments, its names; for all alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import compare
from lm_eval_flips.compression.run_scheme import run_scheme
from lm_eval_flips.logs.runs import Run, load_run
from tests.generators import logs
from tests.generators.folders import board_of, write_one

GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}


def a_run(folder: Path, *, name: str = "run-7", model: str = "org/llama", **config: Any) -> Run:
    """A run of one sample, whose settings are these."""
    settings = {"model": "hf", "model_args": {"pretrained": model}, **config}
    records = [logs.choice(0, [-1.0, -2.0])]
    return load_run(
        logs.write_run(folder / name, {"task": records}, model=model, config=settings).parent
    )


def test_a_model_s_own_config_counts_before_names(tmp_path: Path) -> None:
    """A local model called int8 whose config says GPTQ; control: without the file it is int8."""
    model = tmp_path / "llama-int8"
    model.mkdir()
    run = a_run(tmp_path / "runs", model=str(model))
    guessed = run_scheme(run)
    assert guessed is not None
    assert (guessed.name, guessed.family, guessed.bits) == ("int8", "", 8)
    (model / "config.json").write_text(json.dumps(GPTQ))
    known = run_scheme(run)
    assert known is not None
    assert (known.name, known.family, known.bits) == ("gptq-w4a16-g128", "GPTQ", 4)


def test_a_downloaded_model_s_config_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the hub's cache, by its revision; nothing is looked up where it has no folder."""
    cache = tmp_path / "hub"
    folder = cache / "models--org--llama" / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(GPTQ))
    refs = cache / "models--org--llama" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    run = a_run(tmp_path / "runs")
    assert run_scheme(run) is None
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    known = run_scheme(run)
    assert known is not None
    assert known.family == "GPTQ"


@pytest.mark.parametrize(
    ("kind", "bits"), [("Q4_K_M", 4), ("IQ3_XXS", 3), ("Q8_0", 8), ("BF16", 16), ("TQ1_0", None)]
)
def test_a_gguf_file_s_type_is_what_the_engine_logged(
    tmp_path: Path, kind: str, bits: float | None
) -> None:
    """Whatever the file is called, with its bytes."""
    run = a_run(tmp_path, model="model.gguf", model_file_type=kind, model_bytes=123)
    known = run_scheme(run)
    assert known is not None
    assert (known.name, known.family) == (f"gguf {kind.lower()}", "GGUF")
    assert (known.bits, known.bytes) == (bits, 123)


def test_arguments_count_before_names(tmp_path: Path) -> None:
    """As loaded; and a name that tells nothing is no scheme."""
    known = run_scheme(
        a_run(tmp_path, model_args={"pretrained": "org/llama", "load_in_8bit": True})
    )
    assert known is not None
    assert (known.family, known.bits) == ("bitsandbytes", 8)
    assert run_scheme(a_run(tmp_path, name="run-8")) is None


def test_report_and_leaderboard_say_the_same(tmp_path: Path) -> None:
    """One mechanism: every run of a folder, by compare and on the board."""
    write_one(tmp_path, "baseline", 0.0, model="org/llama")
    for name, noise in {"gptq-w4a16": 0.4, "q4_k_m": 0.5, "plain": 0.6}.items():
        write_one(tmp_path, name, noise)
    board = {Path(run.folder).parts[0]: run.standing for run in board_of(tmp_path).runs}
    found = compare(tmp_path / "baseline", *(tmp_path / name for name in board))
    schemes = dict(zip(board, (run.scheme for run in found.compressed), strict=True))
    assert {name: own.scheme for name, own in board.items()} == schemes
    families = {name: own and own.family for name, own in schemes.items()}
    assert families == {"gptq-w4a16": "GPTQ", "q4_k_m": "GGUF", "plain": None}
