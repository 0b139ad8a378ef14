"""Which folders are compressed runs, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import FlipsError
from lm_eval_flips.comparison.compatibility import setting_differences
from lm_eval_flips.leaderboard.discovery import find_runs
from lm_eval_flips.leaderboard.family import other_family
from lm_eval_flips.logs.runs import load_run
from tests.generators import logs
from tests.generators.folders import write_folder, write_one


def test_every_run_is_found_at_any_depth_but_the_baseline(tmp_path: Path) -> None:
    """Direct subfolders, deeper ones, and links; folders of ours and hidden ones are no runs."""
    write_folder(tmp_path)
    write_one(tmp_path / "more" / "of them", "nf4", 0.5)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    write_one(elsewhere, "awq", 0.7)
    (tmp_path / "linked").symlink_to(elsewhere / "awq", target_is_directory=True)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    write_one(tmp_path / ".hidden", "int2", 0.7)
    (tmp_path / "int8" / "token_distances").mkdir()
    found, left_out = find_runs(tmp_path, load_run(tmp_path / "baseline"))
    assert {own.name for own in found} == {
        "int8",
        "gptq-w4a16",
        "int4",
        "more/of them/nf4",
        "linked",
    }
    assert left_out == []


def test_further_runs_of_the_baseline_are_named_and_left_out(tmp_path: Path) -> None:
    """By their folder's name or by the same model and arguments; other arguments are a new model."""
    write_folder(tmp_path, {"int8": 0.2})
    write_one(tmp_path, "noise-floor", 0.01, model="org/llama")
    write_one(tmp_path, "again", 0.01, model="org/llama")
    arguments = {"pretrained": "org/llama", "dtype": "float32", "load_in_8bit": True}
    config = {"model": "hf", "model_args": arguments}
    write_one(tmp_path, "quantised", 0.3, model="org/llama", config=config)
    found, left_out = find_runs(tmp_path, load_run(tmp_path / "baseline"))
    assert {own.name for own in found} == {"int8", "quantised"}
    reasons = {own.folder.split("/")[0]: own.reason for own in left_out}
    assert "a second run of a baseline" in reasons["noise-floor"]
    assert "the same model with the same arguments" in reasons["again"]


def test_what_cannot_be_read_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """A cut-off results file, samples alone, two models in one folder, an unfinished evaluation."""
    write_folder(tmp_path, {"int8": 0.2})
    broken = write_one(tmp_path, "broken", 0.5)
    broken.write_text(broken.read_text()[:100])
    write_one(tmp_path, "alone", 0.5).unlink()
    for model in ("a", "b"):
        logs.write_run(tmp_path / "both", {"t": [logs.choice(0, [-1.0, -2.0])]}, model=model)
        place = tmp_path / "both"
        for file in (place / model).iterdir():
            file.rename(place / f"{file.stem.replace('_', f'_{model}_', 1)}{file.suffix}")
        (place / model).rmdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "evaluation.json").write_text("{}")
    (tmp_path / "plots").mkdir()
    found, left_out = find_runs(tmp_path, load_run(tmp_path / "baseline"))
    assert [own.name for own in found] == ["int8"]
    reasons = {own.folder.split("/")[0]: own.reason for own in left_out}
    assert "is not a results file of lm_eval" in reasons["broken"]
    assert "has samples but no results" in reasons["alone"]
    assert "holds no results_*.json" in reasons["unfinished"]
    assert "plots" not in reasons
    assert "both" in reasons


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    """Nothing there, no folder, and the baseline alone."""
    base = write_one(tmp_path / "elsewhere", "baseline", 0.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FlipsError, match="holds no compressed run; run lm_eval with --log_samples"):
        find_runs(tmp_path / "empty", load_run(base))
    with pytest.raises(FlipsError, match="holds no compressed run"):
        find_runs(tmp_path / "elsewhere", load_run(base))
    with pytest.raises(FlipsError, match="is no folder"):
        find_runs(base, load_run(base))


def test_a_run_of_another_family_is_no_compression(tmp_path: Path) -> None:
    """More parameters than the baseline: left out, with both counts. Control: packed ones are not."""

    def written(name: str, parameters: int, tokenizer: str) -> Path:
        config = {
            "model": "hf",
            "model_args": {"pretrained": f"org/{name}", "tokenizer": tokenizer},
            "model_num_parameters": parameters,
        }
        return write_one(tmp_path, name, 0.1 * len(name), model=f"org/{name}", config=config)

    base = load_run(written("alpha", 1_200_000_000, "org/alpha"))
    written("alpha-packed", 400_000_000, "/models/alpha")
    written("alpha-grown", 1_210_000_000, "org/alpha")
    written("beta", 16_400_000_000, "org/beta")
    copied = load_run(written("alpha-copy", 1_200_000_000, "org/other"))
    found, left_out = find_runs(tmp_path, base)
    assert {own.name for own in found} == {"alpha-packed", "alpha-grown", "alpha-copy"}
    (other,) = left_out
    assert other.reason == (
        "it is no compression of org/alpha: it has 16,400,000,000 parameters, the baseline "
        "1,200,000,000 and its tokenizer is beta, not alpha; give its family a board of its own, "
        "with its own --baseline"
    )
    assert other_family(base, load_run(tmp_path / "beta")) is not None  # also when it is smaller
    told = {d.setting: (d.baseline, d.compressed) for d in setting_differences(base, copied)}
    assert told["tokenizer"] == ("alpha", "other")


def test_families_of_one_size_are_told_by_their_tokenizers(tmp_path: Path) -> None:
    """Its name or its last token differs, and so does the model's; neither alone is enough."""
    number = iter(range(9))

    def written(model: str, **results: Any) -> Path:
        folder = write_one(tmp_path, model, 0.1 + 0.1 * next(number), model=f"org/{model}")
        content = json.loads(folder.read_text()) | results
        folder.write_text(json.dumps(content))
        return folder

    alpha, beta = (
        {"tokenizer_eos_token": [text, number], "eot_token_id": int(number)}
        for text, number in (("</s>", "2"), ("<|end|>", "100257"))
    )
    base = load_run(written("alpha-1b", **alpha))
    written("beta-1b-int4", **beta)
    written("alpha-1b-int4", **beta)  # a copy that ends its texts otherwise
    written("beta-1b-int8", **alpha)  # a name alone
    written("alpha-1b-int8", **alpha)
    found, left_out = find_runs(tmp_path, base)
    assert {own.name for own in found} == {"alpha-1b-int4", "beta-1b-int8", "alpha-1b-int8"}
    (other,) = left_out
    assert "it is called org/beta-1b-int4" in other.reason
    assert "its texts end with token <|end|> 100257, not </s> 2" in other.reason
