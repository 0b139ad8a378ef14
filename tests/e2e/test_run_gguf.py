"""A ladder of GGUF files by one real command, held against transformers and the stock harness."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from gguf.constants import GGMLQuantizationType as Type

from lm_eval_flips import compare
from tests.conftest import LOCAL_TASKS, LocalRuns
from tests.e2e.conftest import run
from tests.e2e.test_run import NEAR, Done, answers_of, as_model, rows_of
from tests.generators.gguf_files import write_gguf

pytestmark = pytest.mark.e2e

EXACT = "cache_type=f32,flash_attention=off"
SCORED = ("tiny_choice", "tiny_inputs", "tiny_cloze")


def ladder_of(folder: Path, model: Path, *kinds: str) -> None:
    """The model's files, one a type."""
    folder.mkdir()
    for kind in kinds:
        write_gguf(model, folder / f"tiny-{kind}.gguf", Type[kind])


def called(
    output: Path, tasks: Path, *given: str, names: str = ",".join(LOCAL_TASKS), limit: str = "100"
) -> Done:
    """`lm-eval-flips run` with these models."""
    command = [
        *(sys.executable, "-m", "lm_eval_flips", "run", *given, "--tasks", names),
        *("--include_path", str(tasks), "--device", "cpu", "--batch_size", "4"),
        *("--limit", limit, "--output_path", str(output)),
    ]
    done = run(command, output.parent)
    return Done(output, done.returncode, done.stdout)


@pytest.fixture(scope="module")
def ladder(
    tiny_model: Path, task_folder_local: Path, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """F32 as the baseline, and what else is in its folder, by a pattern."""
    folder = tmp_path_factory.mktemp("ladder")
    ladder_of(folder / "models", tiny_model, "F32", "Q8_0", "Q4_0")
    done = called(
        folder / "runs",
        task_folder_local,
        *("--baseline", f"gguf={folder}/models/tiny-F32.gguf,{EXACT}"),
        *("--compressed", f"gguf={folder}/models/tiny-*.gguf,{EXACT}"),
    )
    assert done.code == 0, done.printed
    return done


def test_a_pattern_is_every_file_but_the_baselines_the_largest_first(ladder: Done) -> None:
    """The names are the files'; nothing is evaluated twice."""
    paths = [Path(own["path"]) for own in ladder.document["compressed"]]
    named = [path.relative_to(ladder.folder).parts[0] for path in paths]
    assert named == ["tiny-Q8_0", "tiny-Q4_0"]
    assert [Path(own["model"]).name for own in ladder.document["compressed"]] == [
        "tiny-Q8_0.gguf",
        "tiny-Q4_0.gguf",
    ]


@pytest.mark.parametrize("task", SCORED)
def test_the_baselines_answers_are_those_of_the_stock_run(
    task: str, ladder: Done, local_runs: LocalRuns
) -> None:
    """Oracle: lm_eval's own `hf` with the same weights; control: Q4_0 answers otherwise."""
    found, expected = (
        answers_of(folder, task) for folder in (ladder.folder / "baseline", local_runs.baseline)
    )
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=NEAR)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    other = answers_of(ladder.folder / "tiny-Q4_0", task)
    assert max(abs(a - b) for (a, _), (b, _) in zip(other, expected, strict=True)) > 0.05


def test_generated_texts_are_those_of_the_stock_run(ladder: Done, local_runs: LocalRuns) -> None:
    """Oracle: transformers' own greedy search; the stop strings and lengths are the task's."""

    def texts(folder: Path) -> list[str]:
        (file,) = folder.rglob("samples_tiny_generate_*.jsonl")
        samples = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        ordered = sorted(samples, key=lambda sample: int(sample["doc_id"]))
        return [str(sample["resps"]) for sample in ordered]

    assert texts(ladder.folder / "baseline") == texts(local_runs.baseline)


def test_fewer_bits_are_farther_away(ladder: Done) -> None:
    """Every scored task has token KL; that of 4 bits is larger than that of 8.

    That the files are of other types is what is compared, and no setting that differs.
    """
    assert "settings that differ" not in ladder.printed
    for task in SCORED:
        eight, four = (rows_of(ladder.document, place)[task]["token_kl"] for place in (0, 1))
        assert 0 < eight < four


def test_files_are_measured_from_a_transformers_baseline_too(
    tiny_model: Path, task_folder_local: Path, tmp_path: Path
) -> None:
    """F32 by llama.cpp is no distance away from float32 by transformers; Q4_0 is some."""
    ladder_of(tmp_path / "models", tiny_model, "F32", "Q4_0")
    done = called(
        tmp_path / "runs",
        task_folder_local,
        *("--baseline", as_model(tiny_model)),
        *("--compressed", f"gguf={tmp_path}/models,{EXACT}"),
        names="tiny_choice",
        limit="6",
    )
    assert done.code == 0, done.printed
    exact, four = (rows_of(done.document, place)["tiny_choice"]["token_kl"] for place in (0, 1))
    assert exact < 1e-8 < 1e-4 < four
    assert compare(tmp_path / "runs" / "baseline", tmp_path / "runs" / "tiny-F32").compressed


def test_files_that_cannot_be_compared_are_refused_before_anything_is_scored(
    perturbed_model: Path, tiny_model: Path, task_folder_local: Path, tmp_path: Path
) -> None:
    """A cut file is named in one line, and no folder of runs is made."""
    ladder_of(tmp_path / "models", tiny_model, "F32", "Q8_0")
    file = tmp_path / "models" / "tiny-Q8_0.gguf"
    file.write_bytes(file.read_bytes()[:9000])
    done = called(
        tmp_path / "runs",
        task_folder_local,
        *("--baseline", f"gguf={tmp_path}/models/tiny-F32.gguf"),
        *("--compressed", f"gguf={file}"),
    )
    assert done.code == 2
    assert "tiny-Q8_0.gguf' is cut off or damaged" in done.last_line
    assert not (tmp_path / "runs" / "baseline").exists()


def test_a_scheme_of_files_is_made_and_judged(
    tiny_model: Path, task_folder_local: Path, tmp_path: Path
) -> None:
    """`--compress` of a GGUF baseline: made beside the runs, loaded by llama.cpp, known by name."""
    ladder_of(tmp_path / "models", tiny_model, "F32")
    done = called(
        tmp_path / "runs",
        task_folder_local,
        *("--baseline", f"gguf={tmp_path}/models/tiny-F32.gguf,{EXACT}"),
        *("--compress", "gguf-q8_0,gguf-q4_0"),
        names="tiny_choice",
    )
    assert done.code == 0, done.printed
    shown = [(Path(own["model"]).name, own["scheme"]) for own in done.document["compressed"]]
    assert [name for name, _ in shown] == ["tiny-F32-Q8_0.gguf", "tiny-F32-Q4_0.gguf"]
    assert [(own["family"], own["bits"]) for _, own in shown] == [("GGUF", 8.0), ("GGUF", 4.0)]
    kls = [rows["tasks"][0]["token_kl"] for rows in done.document["compressed"]]
    assert 0 < kls[0] < kls[1]
