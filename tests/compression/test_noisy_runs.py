"""Noise on log-probabilities: a run made from a run, marked, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from scipy.stats import kstest

from lm_eval_flips import compare
from lm_eval_flips.compression.log_noise import correct, noisy
from lm_eval_flips.compression.noisy_runs import NoisyRun, write_noisy_run
from lm_eval_flips.compression.run_scheme import run_scheme
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.gate.gate import judge
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds
from lm_eval_flips.gate.whole_runs import judge_whole
from lm_eval_flips.logs.made_from import made_from
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run, load_run
from tests.generators import logs

N, SIGMA = 300, 0.7
NAMED = "noise on log-probabilities"
Record = logs.Record


def tasks() -> dict[str, list[Record]]:
    """A task of each kind whose numbers can be made anew, and one of texts."""
    drawn = np.random.default_rng(0)
    options = drawn.normal(-20, 3, (N, 4))
    pages = drawn.normal(-400, 30, N)
    return {
        "arc": [logs.choice(i, options[i].tolist(), gold=i % 4) for i in range(N)],
        "lambada": [logs.cloze(i, float(options[i, 0]), greedy=i % 3 == 0) for i in range(N)],
        "wiki": [logs.rolling(i, float(pages[i]), f"page {i} " + "word " * 98) for i in range(N)],
        "gsm": [logs.text(i, "4") for i in range(3)],
    }


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of four tasks, three of them a group."""
    folder = tmp_path_factory.mktemp("runs") / "baseline"
    groups = {"all": ["arc", "lambada", "gsm"], "written": ["gsm"], "top": ["all", "written"]}
    return load_run(logs.write_run(folder, tasks(), groups=groups))


def noisy_of(
    run: Run, folder: Path, *, sigma: float = SIGMA, seed: int = 0
) -> tuple[NoisyRun, Run]:
    """A noisy run of it, and that run read anew with all checks of any other."""
    made = write_noisy_run(run, folder, sigma=sigma, seed=seed)
    return made, load_run(folder)


def written(folder: Path) -> dict[str, bytes]:
    """The content of each file of a run."""
    return {file.name: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_its_numbers_are_numpy_s(baseline: Run, tmp_path: Path) -> None:
    """Oracle: log-likelihoods, right answers and scores counted from the lines by numpy alone."""
    made, run = noisy_of(baseline, tmp_path / "noisy")
    assert made.tasks == ("arc", "lambada", "wiki")
    options = np.random.default_rng(0).normal(-20, 3, (N, 4))
    noise = np.random.default_rng([0, crc32(b"arc")]).standard_normal((N, 4))
    expected = options + SIGMA * noise
    place = made.results.parent
    lines = [json.loads(line) for line in (place / f"samples_arc_{logs.DATE}.jsonl").open()]
    found = np.array([[float(own[0]) for own in line["filtered_resps"]] for line in lines])
    assert found == pytest.approx(expected)
    assert [own[0][0] for own in lines[0]["resps"]] == [
        own[0] for own in lines[0]["filtered_resps"]
    ]
    best = expected.argmax(1)
    lengths = [len(text) for text in ("oak", "elm", "ash", "fir")]
    right = best == np.arange(N) % 4
    assert [line["acc"] for line in lines] == right.tolist()
    by_length = (expected / lengths).argmax(1) == np.arange(N) % 4
    assert [line["acc_norm"] for line in lines] == by_length.tolist()
    scores = json.loads(made.results.read_text())["results"]
    assert scores["arc"]["acc,none"] == pytest.approx(right.mean())
    error = right.std(ddof=1) / N**0.5
    assert scores["arc"]["acc_stderr,none"] == pytest.approx(error)
    assert scores["all"] == {}
    cloze = read_samples(run.tasks["lambada"])["none"].metrics["perplexity"]
    assert scores["lambada"]["perplexity,none"] == pytest.approx(np.exp(-cloze.mean()))


def test_a_text_has_the_noise_of_its_words(baseline: Run, tmp_path: Path) -> None:
    """Of 100 words ten times sigma; of a choice sigma, both Gaussian; control: not twice as much."""
    _, run = noisy_of(baseline, tmp_path / "noisy")
    for task, size in (("wiki", 10 * SIGMA), ("lambada", SIGMA)):
        before, after = (
            read_samples(own.tasks[task])["none"].loglikelihoods[:, 0] for own in (baseline, run)
        )
        assert kstest((after - before) / size, "norm").pvalue > 0.01
        assert kstest((after - before) / (2 * size), "norm").pvalue < 1e-6


def test_perplexity_stays_while_answers_flip(baseline: Run, tmp_path: Path) -> None:
    """The paper's point: of the same noise, in its own comparison."""
    _, run = noisy_of(baseline, tmp_path / "noisy")
    (compared,) = compare(baseline, run).compressed
    rows = {(row.name, row.metric): row for row in compared.tasks}
    row = rows["wiki", "word_perplexity"]
    assert row.compressed_score == pytest.approx(row.baseline_score, rel=0.02)
    assert rows["arc", "acc"].numbers["flips"].value > 0.03


def test_the_same_seed_gives_the_same_run(baseline: Run, tmp_path: Path) -> None:
    """To the byte; control: another seed another one, of every task."""
    folders = [tmp_path / name for name in ("one", "two", "other")]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        write_noisy_run(baseline, folder, sigma=SIGMA, seed=seed)
    one, two, other = map(written, folders)
    assert one == two
    assert one.keys() == other.keys()
    assert not [name for name, content in one.items() if content == other[name]]


def test_no_noise_gives_the_same_numbers(baseline: Run, tmp_path: Path) -> None:
    """Identity: every log-likelihood, metric and score that is kept; it is marked all the same."""
    _, run = noisy_of(baseline, tmp_path / "none", sigma=0.0)
    for task in ("arc", "lambada", "wiki"):
        before, after = (read_samples(own.tasks[task])["none"] for own in (baseline, run))
        assert np.array_equal(before.loglikelihoods, after.loglikelihoods)
        for name, values in after.metrics.items():
            assert np.array_equal(values, before.metrics[name])
            key = f"{name},none"
            scores = (own.results.results[task][key] for own in (baseline, run))
            assert next(scores) == pytest.approx(next(scores))
    (row, *_) = compare(baseline, run, allow_identical=True).compressed[0].tasks
    assert row.numbers["flips"].value == 0
    assert made_from(run.results) is not None


def test_what_cannot_be_made_anew_is_named(baseline: Run, tmp_path: Path) -> None:
    """A task of texts, and whether a continuation was the likeliest; the groups lose them."""
    made, run = noisy_of(baseline, tmp_path / "noisy")
    assert made.left_out == (
        "gsm: texts are generated, which noise on log-probabilities does not write anew",
        "lambada: acc cannot be made anew from log-likelihoods alone",
    )
    assert list(read_samples(run.tasks["lambada"])["none"].metrics) == ["perplexity"]
    assert run.results.group_subtasks == {"all": ["arc", "lambada"], "top": ["all"]}
    with pytest.raises(FlipsError, match="has no task to be made anew: gsm: texts are generated"):
        write_noisy_run(baseline, tmp_path / "texts", sigma=1.0, tasks="gsm")
    assert not (tmp_path / "texts").exists()


def test_a_rule_of_a_task_s_own_is_left_out(tmp_path: Path) -> None:
    """Right by another rule, or what is right is not logged; control: by the harness's it is kept."""
    records = [logs.choice(i, [-1.0 - i / 9, -2.0], acc=0.0) for i in range(9)]
    contexts = [logs.inputs(i, [-1.0 - i / 9, -1.5]) for i in range(9)]
    run = load_run(logs.write_run(tmp_path / "run", {"own": records, "winogrande": contexts}))
    made = write_noisy_run(run, tmp_path / "noisy", sigma=1.0)
    assert made.tasks == ("own",)
    assert made.left_out == (
        "own: acc is not what its log-likelihoods say by the harness's own rule",
        "winogrande: acc cannot be made anew from log-likelihoods alone",
    )
    assert list(read_samples(load_run(tmp_path / "noisy").tasks["own"])["none"].metrics) == [
        "acc_norm"
    ]


def test_it_is_no_model_s_run(baseline: Run, tmp_path: Path) -> None:
    """Named so as model and scheme, warned of, and refused by both gates and as its own source."""
    made, run = noisy_of(baseline, tmp_path / "noisy")
    assert run.model == f"{NAMED} 0.7 of model"
    assert "pretrained" not in run.model_args
    assert run.parameters is None
    assert "org/model" not in made.results.read_text()
    scheme = run_scheme(run)
    assert scheme is not None
    assert (scheme.name, scheme.family, scheme.bits) == (f"{NAMED} 0.7", NAMED, None)
    comparison = compare(baseline, run)
    (own,) = comparison.compressed
    assert [told.code for told in own.warnings if "control, which no model made" in told.text] == [
        "made-from-run"
    ]
    limits = GateConfig(pooled=Thresholds(max_flips=1.0))
    with pytest.raises(FlipsError, match=f"no model's run, but {NAMED} of .*a gate judges models"):
        judge(comparison, limits)
    with pytest.raises(FlipsError, match="a gate judges models"):
        judge_whole(comparison, limits, seed=0)
    with pytest.raises(FlipsError, match="no model's run.*give the run it was made from"):
        write_noisy_run(run, tmp_path / "twice", sigma=1.0)


def test_secrets_and_the_model_s_names_are_not_written(tmp_path: Path) -> None:
    """A key among the arguments and in a task's metadata; the dtype, which scores, stays."""
    arguments = {"pretrained": "org/model", "api_key": "sk-123", "dtype": "float32"}
    file = logs.write_run(
        tmp_path / "run",
        {"arc": tasks()["arc"]},
        config={"model": "hf", "model_args": arguments, "model_sha": "abc"},
        configs={"arc": {"metadata": {"version": 1.0, **arguments}}},
    )
    made, run = noisy_of(load_run(file), tmp_path / "noisy")
    text = made.results.read_text()
    assert "sk-123" not in text
    assert "org/model" not in text
    assert "abc" not in text
    assert run.model_args["dtype"] == "float32"


def test_what_it_cannot_be_made_with_is_refused(baseline: Run, tmp_path: Path) -> None:
    """Sizes and seeds that are none, and a folder that holds something, which stays as it is."""
    for sigma in (-0.1, float("nan"), float("inf")):
        with pytest.raises(FlipsError, match="give a standard deviation in nats"):
            write_noisy_run(baseline, tmp_path / "out", sigma=sigma)
    with pytest.raises(FlipsError, match="the seed is -1; give a number from 0"):
        write_noisy_run(baseline, tmp_path / "out", sigma=1.0, seed=-1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FlipsError, match="holds something already; name a new folder"):
        write_noisy_run(baseline, tmp_path / "out", sigma=1.0)
    with pytest.raises(FlipsError, match="is no folder; name a new one"):
        write_noisy_run(baseline, tmp_path / "out" / "mine.txt", sigma=1.0)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]
    with pytest.raises(FlipsError, match="cannot be written: Not a directory"):
        write_noisy_run(baseline, tmp_path / "out" / "mine.txt" / "in", sigma=1.0)


def test_no_log_probability_rises_above_0() -> None:
    """It stays at 0, and is counted; -inf stays; ties go to the first choice."""
    values = np.array([[-0.1, -0.1, -np.inf]] * 100)
    found = noisy(values, sizes=np.ones(100), seed=[0])
    assert found.max() == 0
    assert np.isneginf(found[:, 2]).all()
    assert np.array_equal(found == 0, (found >= 0) & ~np.isneginf(values))
    own = np.ones((1, 2), bool)
    assert correct(np.zeros((1, 2)), np.array([[True, False]]), own).tolist() == [1]
    assert correct(np.zeros((1, 2)), np.array([[False, True]]), own).tolist() == [0]
