"""`lm-eval-flips measure-answers` on stock runs of the tiny model and its perturbed copy.

The oracle is what flips-hf measures while it evaluates, whose tokens are those that were written;
and the texts themselves, as the stock runs logged them.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from lm_eval.api.instance import Instance

from lm_eval_flips import compare
from lm_eval_flips.harness.models.flips_hf import FlipsHF
from lm_eval_flips.logs.records import Request, request_digest
from lm_eval_flips.logs.runs import ANSWER_DISTANCES
from lm_eval_flips.scoring.answer_distances import (
    NEVER,
    StoredAnswerDistances,
    load_answer_distances,
)
from tests.conftest import LocalRuns
from tests.e2e.conftest import run

pytestmark = pytest.mark.e2e

BROKEN = "\N{REPLACEMENT CHARACTER}"  # half a character, which has no tokens of its own


class Runs(NamedTuple):
    """Copies of two stock runs, after the command, and what it printed."""

    baseline: Path
    compressed: Path
    printed: str


def lines_of(folder: Path) -> dict[int, dict[str, Any]]:
    """The samples of the generative task, by document."""
    (file,) = folder.rglob("samples_tiny_generate_*.jsonl")
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {line["doc_id"]: line for line in lines}


def arguments(runs: LocalRuns | Runs, *more: str) -> list[str]:
    """The command for two runs."""
    return [
        *(sys.executable, "-m", "lm_eval_flips", "measure-answers", str(runs.baseline)),
        *("--compressed", str(runs.compressed), "--device", "cpu", "--batch_size", "8", *more),
    ]


@pytest.fixture(scope="module")
def measured(
    local_runs: LocalRuns,
    tiny_model: Path,
    perturbed_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """The stock runs, measured by the command."""
    folder = tmp_path_factory.mktemp("measured")
    runs = Runs(folder / "baseline", folder / "compressed", "")
    for ours, theirs in zip(runs[:2], local_runs, strict=True):
        shutil.copytree(theirs, ours)
    done = run(
        arguments(
            runs,
            *("--model_args", f"pretrained={perturbed_model},dtype=float32"),
            *("--baseline_args", f"pretrained={tiny_model},dtype=float32"),
        ),
        folder,
    )
    assert done.returncode == 0, done.stdout
    return runs._replace(printed=done.stdout)


@pytest.fixture(scope="module")
def of_run(
    measured: Runs,
    tiny_model: Path,
    perturbed_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> StoredAnswerDistances:
    """What flips-hf measures of the same requests while it evaluates."""
    folder = tmp_path_factory.mktemp("run")
    given: dict[str, Any] = {"dtype": "float32", "device": "cpu", "batch_size": 8}
    requests = [
        Instance("generate_until", {}, (own["arg_0"], own["arg_1"]), 0, ("tiny_generate", doc, 1))
        for doc, line in lines_of(measured.baseline).items()
        for own in line["arguments"].values()
    ]
    FlipsHF(pretrained=str(tiny_model), record=str(folder), **given).generate_until(requests)
    FlipsHF(
        pretrained=str(perturbed_model), reference=str(folder), distances=str(folder), **given
    ).generate_until(requests)
    stored = load_answer_distances(folder / ANSWER_DISTANCES)
    assert stored is not None
    return stored


def key_of(line: dict[str, Any]) -> Any:
    """The key of a sample's request."""
    (own,) = line["arguments"].values()
    return np.frombuffer(request_digest(Request(**own)), np.uint64).reshape(1, 2)


def test_what_run_would_have_written_is_written(
    measured: Runs, of_run: StoredAnswerDistances
) -> None:
    """KL at every token of each text, and where the answers part, document by document."""
    stored = load_answer_distances(measured.compressed / ANSWER_DISTANCES)
    assert stored is not None
    compared = 0
    before, after = lines_of(measured.baseline), lines_of(measured.compressed)
    for doc, line in before.items():
        (place,), (other,) = stored.find(key_of(line)), of_run.find(key_of(line))
        text = line["resps"][0][0]
        assert (place < 0) == (BROKEN in text or not text), doc
        if place < 0:
            continue
        size = stored.starts[place + 1] - stored.starts[place]
        own = stored.values["kl"][stored.starts[place] :][:size]
        theirs = of_run.values["kl"][of_run.starts[other] :][:size]
        assert own.tolist() == pytest.approx(theirs.tolist(), abs=1e-5)
        assert (stored.partings[place] == NEVER) == (text == after[doc]["resps"][0][0])
        if stored.partings[place] != NEVER:
            assert stored.partings[place] == of_run.partings[other]
        compared += 1
    assert 0 < compared < len(before)


def test_what_cannot_be_measured_is_named(measured: Runs) -> None:
    """By task and document, with the reason; answers that are drawn too."""
    broken = [
        doc for doc, line in lines_of(measured.baseline).items() if BROKEN in line["resps"][0][0]
    ]
    assert broken
    assert "left out, as it was answered 3 times: doc 0, 1, 2" in measured.printed
    line = next(own for own in measured.printed.splitlines() if "not made again" in own)
    assert line.startswith(f"tiny_generate: {len(broken)} left out")
    assert str(broken[0]) in line


def test_compare_finds_it(measured: Runs) -> None:
    """In the compressed run's folder, beside the texts that any two runs have."""
    (row, *_) = (
        row
        for row in compare(measured.baseline, measured.compressed).compressed[0].tasks
        if row.name == "tiny_generate"
    )
    assert row.numbers["answer_kl"].value > 0
    texts = [
        [line["resps"] for _, line in sorted(lines_of(folder).items())]
        for folder in (measured.baseline, measured.compressed)
    ]
    same = np.mean([a == b for a, b in zip(*texts, strict=True)])
    assert row.numbers["same_text"].value == pytest.approx(same)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--model_args", "pretrained={model}"), "holds no recorded answers"),
        (("--model_args", "pretrained={model}", "--tasks", "tiny_cloze"), "holds generated text"),
    ],
)
def test_what_is_missing_is_said(
    more: tuple[str, ...], why: str, local_runs: LocalRuns, tiny_model: Path, tmp_path: Path
) -> None:
    """Without a traceback, and with the way out."""
    given = [part.format(model=tiny_model) for part in more]
    done = run(arguments(local_runs, *given), tmp_path)
    assert done.returncode == 2
    assert why in done.stdout
    assert "Traceback" not in done.stdout
