"""`lm-eval-flips run` and `eval`: real command lines, a tiny model and a perturbed copy of it.

The oracles share no code with the package: the stock lm_eval runs of the same models, and sums in
float64 over the vocabulary of two transformers models.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch

from lm_eval_flips import Comparison, FlipsError, Row, compare
from lm_eval_flips.evaluation.schedule import schedule_runs
from lm_eval_flips.evaluation.state import read_state
from lm_eval_flips.logs.names import RESULTS_NAME, STATE
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.scoring.token_distances import load_distances
from tests import conftest
from tests.conftest import GENERATED, LEAVES, LOCAL_TASKS, LocalRuns, harness_environment
from tests.e2e.conftest import as_metadata, results_of, run

pytestmark = pytest.mark.e2e

SECRET = "s3cr3t-"
HARNESS = re.compile(r"Initializing flips-hf|^flips-hf \(")  # lines of its own, of its arguments
NEAR = 1e-4  # nats, float32
MEASURED = tuple(name for name in LEAVES if name not in GENERATED)
SHARED = ("tiny_choice", "tiny_rolling", "tiny_generate")
FLIPS_GROUPS = "flips_tiny_outer,flips_tiny_cloze,flips_tiny_rolling"


class Done(NamedTuple):
    """One call of `lm-eval-flips run`: its folder, exit code and what it printed."""

    folder: Path
    code: int
    printed: str

    @property
    def last_line(self) -> str:
        """The last line, on which an error stands."""
        return self.printed.rstrip().splitlines()[-1]

    @property
    def document(self) -> dict[str, Any]:
        """The result as JSON."""
        found: dict[str, Any] = json.loads((self.folder / "comparison.json").read_text())
        return found


Run = Callable[..., Done]


def as_model(folder: Path, dtype: str = "float32") -> str:
    """A model's arguments."""
    return f"pretrained={folder},dtype={dtype}"


@pytest.fixture(scope="module")
def flips(task_folder_local: Path) -> Run:
    """`lm-eval-flips run` for a baseline and compressed models, on all local tasks."""

    def call(
        output: Path,
        baseline: str,
        *compressed: str,
        tasks: str = ",".join(LOCAL_TASKS),
        **more: str,
    ) -> Done:
        models = [part for model in compressed for part in ("--compressed", model)]
        command = [
            *(sys.executable, "-m", "lm_eval_flips", "run", "--baseline", baseline, *models),
            *("--tasks", tasks, "--include_path", str(task_folder_local), "--device", "cpu"),
            *("--batch_size", "8", "--output_path", str(output)),
            *(part for flag, value in more.items() for part in (f"--{flag}", value) if part),
        ]
        done = run(command, output.parent)
        return Done(output, done.returncode, done.stdout)

    return call


@pytest.fixture(scope="module")
def main(
    flips: Run, tiny_model: Path, perturbed_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """The tiny model as a baseline, its perturbed copy and itself in bfloat16 measured from it."""
    done = flips(
        tmp_path_factory.mktemp("run") / "runs",
        f"{as_model(tiny_model)},token={SECRET}a",
        f"{as_model(perturbed_model)},token={SECRET}b",
        as_model(tiny_model, "bfloat16"),
    )
    assert done.code == 0, done.printed
    return done


@pytest.fixture(scope="module")
def compared(main: Done) -> Comparison:
    """What `compare` says of the run folders."""
    return compare(*(main.folder / name for name in ("baseline", "perturbed", "tiny")))


def samples_of(folder: Path, task: str) -> list[dict[str, Any]]:
    """A task's logged samples, in the order of their documents."""
    (file,) = folder.rglob(f"samples_{task}_*.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda sample: int(sample["doc_id"]))


def answers_of(folder: Path, task: str) -> list[tuple[float, bool]]:
    """The logged log-likelihoods, and which are greedy (True for whole texts)."""
    found = []
    for sample in samples_of(folder, task):
        for response in sample["filtered_resps"]:
            value, greedy = response if isinstance(response, list) else (response, "True")
            assert greedy in ("True", "False")
            found.append((float(value), greedy == "True"))
    return found


def rows_of(document: dict[str, Any], run_number: int = 0) -> dict[str, dict[str, Any]]:
    """The first row of each task in the JSON result."""
    found: dict[str, dict[str, Any]] = {}
    for row in document["compressed"][run_number]["tasks"]:
        found.setdefault(row["task"], row)
    return found


def detailed(*runs: Path, options: Sequence[str] = ()) -> str:
    """What `compare --details` prints of some runs."""
    command = [sys.executable, "-m", "lm_eval_flips", "compare", *map(str, runs), "--details"]
    done = run([*command, *options], runs[0].parent)
    assert done.returncode == 0, done.stdout
    printed: str = done.stdout
    return printed


def test_nothing_that_we_write_of_a_run_holds_its_key(main: Done) -> None:
    """The harness logs the key that it was given; it is in none of our files, nor in our lines."""
    holding = [
        path.name
        for path in main.folder.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert len(holding) == 2  # control: the search finds what the harness wrote of two models
    assert all(name.startswith("results_") for name in holding)
    ours = [line for line in main.printed.splitlines() if not HARNESS.search(line)]
    assert [line for line in ours if SECRET in line] == []


def test_every_evaluation_is_announced_and_the_tables_have_token_kl(main: Done) -> None:
    """A user sees which model runs, and the distance over the vocabulary beside the flips."""
    for name in ("baseline", "perturbed", "tiny"):
        assert f"{main.folder / name}: evaluating pretrained=" in main.printed
    heads = [line for line in main.printed.splitlines() if line.startswith("task ")]
    assert ["  token KL" in head for head in heads] == [True, True]
    assert "Traceback" not in main.printed
    told = detailed(main.folder / "baseline", main.folder / "perturbed")
    assert "over the vocabulary: " in told
    assert "token KL and flips, sample by sample: " in told


@pytest.mark.parametrize("task", MEASURED)
def test_the_logged_samples_are_those_of_the_stock_run(
    task: str, main: Done, local_runs: LocalRuns
) -> None:
    """Line for line the same fields and hashes, log-likelihoods to float32's rounding."""
    for mine, stock in (("baseline", local_runs.baseline), ("perturbed", local_runs.compressed)):
        ours, theirs = (samples_of(folder, task) for folder in (main.folder / mine, stock))
        assert [list(sample) for sample in ours] == [list(sample) for sample in theirs]
        for key in ("doc_id", "arguments", "target", "doc_hash", "prompt_hash", "target_hash"):
            assert [sample[key] for sample in ours] == [sample[key] for sample in theirs]
        found, expected = answers_of(main.folder / mine, task), answers_of(stock, task)
        assert [own for own, _ in found] == pytest.approx([own for own, _ in expected], abs=NEAR)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_the_comparison_with_the_stock_samples_can_fail(main: Done, local_runs: LocalRuns) -> None:
    """Control: the other model's log-likelihoods are far off."""
    for task in MEASURED:
        both = zip(
            answers_of(main.folder / "baseline", task),
            answers_of(local_runs.compressed, task),
            strict=True,
        )
        assert max(abs(a - b) for (a, _), (b, _) in both) > 100 * NEAR


def test_the_harness_s_results_are_those_of_the_stock_run(
    main: Done, local_runs: LocalRuns
) -> None:
    """Every metric of every task and group; generated text is the harness's own."""
    for mine, stock in (("baseline", local_runs.baseline), ("perturbed", local_runs.compressed)):
        ours, theirs = results_of(main.folder / mine), results_of(stock)
        assert set(ours["results"]) == set(theirs["results"])
        for name, scores in theirs["results"].items():
            if name == "tiny_repeats":
                continue  # sampled
            for key, value in scores.items():
                if isinstance(value, float):
                    assert ours["results"][name][key] == pytest.approx(value, rel=1e-5), key
        assert ours["config"]["model"] == "flips-hf"
        assert ours["config"]["scoring"] == "packed"


def test_compare_finds_no_distance_between_ours_and_the_stock_run(
    main: Done, local_runs: LocalRuns
) -> None:
    """A run folder of ours is one like any other, and pairs with one that was made without us."""
    for mine, stock in (("baseline", local_runs.baseline), ("perturbed", local_runs.compressed)):
        (found,) = compare(stock, main.folder / mine, allow_identical=True).compressed
        assert not found.dropped
        for row in found.tasks:
            if row.flips is not None and row.name != "tiny_repeats":
                assert row.flips.flips == 0
            if row.distances is not None:
                assert row.distances.choice_kl.max < 1e-8


class Oracle:
    """Two models' distances at each position that a run's samples ask for, in float64."""

    def __init__(self, baseline: Path, compressed: Path) -> None:
        from transformers import AutoModelForCausalLM

        self._models: list[Any] = [
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            for folder in (baseline, compressed)
        ]
        self._tokenizer = conftest._tokenizer()

    def requests(self, samples: list[dict[str, Any]]) -> list[dict[str, list[float]]]:
        """The distances of each request of the samples, of acc_mutual_info's the first half."""
        found = []
        for sample in samples:
            every = list(sample["arguments"].values())
            asked = every[: len(every) // 2] if "acc_mutual_info" in sample else every
            found += [self._request(**arguments) for arguments in asked]
        return found

    def _request(self, arg_0: str, arg_1: str | None = None) -> dict[str, list[float]]:
        context, continuation = ("", arg_0) if arg_1 is None else (arg_0, arg_1)
        before = self._tokenizer.encode(context) or [1]
        after = self._tokenizer.encode(continuation)
        p, q = (self._logprobs(model, before, after) for model in self._models)
        return {
            "token_kl": (np.exp(p) * (p - q)).sum(-1).tolist(),
            "token_kl_reverse": (np.exp(q) * (q - p)).sum(-1).tolist(),
            "same_top": (p.argmax(-1) == q.argmax(-1)).tolist(),
            "logprob_change": (q - p)[np.arange(len(after)), after].tolist(),
        }

    @staticmethod
    def _logprobs(model: Any, before: list[int], after: list[int]) -> Any:
        with torch.no_grad():
            logits = model(torch.tensor([before + after[:-1]])).logits[0, -len(after) :]
        return logits.double().log_softmax(-1).numpy()


@pytest.mark.parametrize("task", MEASURED)
def test_token_kl_is_that_of_two_transformers_models(
    task: str, main: Done, tiny_model: Path, perturbed_model: Path
) -> None:
    """Mean over a request's positions, then over requests, as the paper; and the other sums."""
    requests = Oracle(tiny_model, perturbed_model).requests(
        samples_of(main.folder / "perturbed", task)
    )
    row = rows_of(main.document)[task]
    for name in ("token_kl", "token_kl_reverse", "same_top", "logprob_change"):
        own = [request[name] for request in requests]
        flat = [value for values in own for value in values]
        assert row["token_requests"] == len(own)
        assert row["token_positions"] == len(flat)
        expected = {
            name: np.mean([np.mean(values) for values in own]),
            f"{name}_per_position": np.mean(flat),
            f"{name}_max": max(flat),
            f"{name}_first_position": np.mean([values[0] for values in own]),
        }
        for key, value in expected.items():
            assert row[key] == pytest.approx(float(value), abs=1e-5), key
    assert row["token_kl"] > 0.1
    assert row["token_lower_bound_top"] is None


def test_a_small_change_is_a_small_distance(main: Done) -> None:
    """Control: the same model in bfloat16 is near, on every task, and not at 0."""
    near, far = (rows_of(main.document, number) for number in (1, 0))
    for task in MEASURED:
        small, large = (rows[task]["token_kl"] for rows in (near, far))
        assert 0 < small < large / 100


def test_generated_text_has_no_token_kl(main: Done) -> None:
    """It is null, not 0, where no log-likelihood was asked for."""
    for task in GENERATED:
        assert rows_of(main.document)[task]["token_kl"] is None


def test_what_is_written_greedily_is_measured(main: Done, local_runs: LocalRuns) -> None:
    """And is what the stock run wrote; what is drawn is not measured, and is said."""
    for mine, stock in (("baseline", local_runs.baseline), ("perturbed", local_runs.compressed)):
        ours, theirs = (
            [sample["resps"] for sample in samples_of(folder, "tiny_generate")]
            for folder in (main.folder / mine, stock)
        )
        assert ours == theirs
    rows = rows_of(main.document)
    assert rows["tiny_generate"]["answer_kl"] > 0
    assert rows["tiny_repeats"]["answer_kl"] is None
    assert rows["tiny_repeats"]["same_text"] is not None
    assert "30 answers are not measured: each question is asked 3 times" in main.printed


def _numbers(row: Row) -> dict[str, float]:
    assert row.flips is not None
    assert row.distances is not None
    assert row.tokens is not None
    return {
        "flips": row.flips.flips,
        "all_flips": row.flips.all_flips,
        "choice_kl": row.distances.choice_kl.mean,
        "token_kl": row.tokens.token_kl.per_request_mean,
    }


def test_the_json_of_run_is_what_compare_says_of_the_folders(
    main: Done, compared: Comparison
) -> None:
    """Two of the three ways: every row's flips, choice KL and token KL to 1e-9."""
    for run_found, written in zip(compared.compressed, main.document["compressed"], strict=True):
        for row, own in zip(run_found.tasks, written["tasks"], strict=True):
            assert (row.name, row.filter, row.metric) == (own["task"], own["filter"], own["metric"])
            if row.distances is None or row.tokens is None or row.flips is None:
                continue
            assert _numbers(row) == pytest.approx(
                {
                    "flips": own["flips"],
                    "all_flips": own["all_flips"],
                    "choice_kl": own["choice_kl"],
                    "token_kl": own["token_kl"],
                },
                abs=1e-9,
            )


@pytest.fixture(scope="module")
def harness_results(
    main: Done, flips_folder: Path, perturbed_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The third way: FlipsTask in the harness, its model being flips-hf with a reference."""
    output = tmp_path_factory.mktemp("eval") / "run"
    baseline = main.folder / "baseline"
    model_args = f"{as_model(perturbed_model)},reference={baseline},distances={output}"
    command = [
        *(sys.executable, "-m", "lm_eval_flips", "eval", "--model", "flips-hf"),
        *("--model_args", model_args, "--include_path", str(flips_folder)),
        *("--tasks", FLIPS_GROUPS, "--device", "cpu", "--batch_size", "8"),
        *("--output_path", str(output), "--log_samples", *as_metadata(baseline=str(baseline))),
    ]
    done = run(command, output.parent)
    assert done.returncode == 0, done.stdout
    assert "|token_kl" in done.stdout.replace(" ", "")
    return {**results_of(output), "folder": output}


@pytest.mark.parametrize("task", ["tiny_inputs", "tiny_choice"])
def test_the_three_ways_agree(
    task: str, main: Done, compared: Comparison, harness_results: dict[str, Any]
) -> None:
    """compare, run and FlipsTask on one task: flips, all_flips, choice_kl and token_kl."""
    own = rows_of(main.document)[task]
    row = next(row for row in compared.compressed[0].tasks if row.name == task)
    harness = harness_results["results"][task]
    for name, value in _numbers(row).items():
        written = own[name]
        if isinstance(written, dict):
            written = written["per_request_mean" if name == "token_kl" else "mean"]
        assert written == pytest.approx(value, abs=1e-9)
        assert harness[f"{name},none"] == pytest.approx(value, abs=1e-9)
        assert value > 0


@pytest.mark.parametrize("task", MEASURED)
def test_the_harness_s_distances_are_compare_s(
    task: str, compared: Comparison, harness_results: dict[str, Any]
) -> None:
    """Of every task: token_kl a mean over requests, choice_kl over samples."""
    paired = next(m for m in compared.compressed[0].metrics if m.pairs.task == task)
    harness = harness_results["results"][task]
    assert paired.token_kl is not None
    (row,) = [
        r for r in compared.compressed[0].tasks if (r.name, r.metric) == (task, paired.metric)
    ]
    assert row.tokens is not None
    assert harness["token_kl,none"] == pytest.approx(row.tokens.token_kl.per_request_mean, abs=1e-9)
    if paired.divergence is not None:
        assert harness["choice_kl,none"] == pytest.approx(
            float(paired.divergence.kl.mean()), abs=1e-9
        )


def test_the_harness_logs_each_sample_s_token_kl(
    compared: Comparison, harness_results: dict[str, Any]
) -> None:
    """And the distances lie beside its samples, so that compare finds them there too."""
    logged = [s["token_kl"] for s in samples_of(harness_results["folder"], "tiny_choice")]
    paired = next(m for m in compared.compressed[0].metrics if m.pairs.task == "tiny_choice")
    assert paired.token_kl is not None
    assert logged == pytest.approx(paired.token_kl.tolist(), abs=1e-9)
    assert load_distances(harness_results["folder"] / "token_distances") is not None


def test_the_same_command_keeps_what_is_finished(
    main: Done, flips: Run, tiny_model: Path, perturbed_model: Path
) -> None:
    """Nothing is evaluated, the table and the JSON are the same."""
    before = (main.folder / "comparison.json").read_bytes()
    models = (
        f"{as_model(tiny_model)},token={SECRET}c",  # another key is the same model
        f"{as_model(perturbed_model)},token={SECRET}b",
        as_model(tiny_model, "bfloat16"),
    )
    again = flips(main.folder, *models)
    assert again.code == 0, again.printed
    assert again.printed.count("finished before, kept") == 3
    assert "evaluating" not in again.printed
    assert (main.folder / "comparison.json").read_bytes() == before
    table = again.printed[again.printed.index("\nbaseline ") :].split("\nC→I")[0]
    assert table in main.printed


def test_other_flags_are_refused_with_the_difference(
    main: Done, flips: Run, tiny_model: Path, perturbed_model: Path
) -> None:
    """--limit 3 would leave runs of other samples side by side."""
    models = (f"{as_model(model)},token={SECRET}a" for model in (tiny_model, perturbed_model))
    done = flips(main.folder, *models, limit="3")
    assert done.code == 2
    assert done.last_line == (
        f"error: '{main.folder / 'baseline'}' was evaluated with --limit not given, now 3; choose "
        "another --output_path, or replace it with --overwrite"
    )


def test_a_baseline_of_other_tasks_is_refused(
    main: Done, flips: Run, perturbed_model: Path, tmp_path: Path
) -> None:
    """Its reference lacks what would be asked for."""
    baseline = str(main.folder / "baseline")
    done = flips(tmp_path / "runs", baseline, as_model(perturbed_model), tasks="tiny_cloze")
    assert done.code == 2
    assert done.last_line.startswith(f"error: the baseline '{baseline}' was evaluated with --tasks")
    assert done.last_line.endswith("now tiny_cloze; evaluate it anew")


@pytest.mark.parametrize(
    ("flag", "value"), [("use_cache", "c"), ("model_args", "a=b"), ("config", "c.yaml")]
)
def test_flags_that_would_undo_the_plan_are_refused(
    flag: str, value: str, flips: Run, tiny_model: Path, tmp_path: Path
) -> None:
    """In one line, and nothing is made."""
    done = flips(tmp_path / "runs", as_model(tiny_model), as_model(tiny_model), **{flag: value})
    assert done.code == 2
    (line,) = done.printed.splitlines()
    assert line.startswith(f"error: --{flag} cannot be used here: ")
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def odd_models(perturbed_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The perturbed model with nan for what holds a 東, and with another tokenizer."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("odd")
    model: Any = AutoModelForCausalLM.from_pretrained(perturbed_model)
    tokenizer = conftest._tokenizer()
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.encode("東")[0]] = torch.nan
    model.save_pretrained(folder / "nan")
    tokenizer.save_pretrained(folder / "nan")
    shutil.copytree(perturbed_model, folder / "other")
    tokenizer.add_tokens(["amber"])
    tokenizer.save_pretrained(folder / "other")
    return {name: folder / name for name in ("nan", "other")}


@pytest.fixture(scope="module")
def troubled(
    main: Done,
    flips: Run,
    tiny_model: Path,
    odd_models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Done:
    """From the recorded baseline: the baseline itself, a model with nan, one that cannot be."""
    return flips(
        tmp_path_factory.mktemp("troubled") / "runs",
        str(main.folder / "baseline"),
        as_model(tiny_model),
        as_model(odd_models["nan"]),
        as_model(odd_models["other"]),
    )


def test_a_recorded_baseline_is_not_evaluated_again(troubled: Done, main: Done) -> None:
    """--baseline RUN: its folder is used where it is."""
    assert f"{main.folder / 'baseline'}: finished before, kept" in troubled.printed
    assert not (troubled.folder / "baseline").exists()
    assert f"{troubled.folder / 'tiny'}: evaluating" in troubled.printed


def test_another_tokenizer_ends_the_command_in_one_line(
    troubled: Done, odd_models: dict[str, Path]
) -> None:
    """The evaluation says why, the command which; exit code 2, and no table."""
    assert troubled.code == 2
    lines = troubled.printed.splitlines()
    (why,) = [line for line in lines if "has another tokenizer than the baseline" in line]
    assert why.startswith(f"error: '{odd_models['other']}' has another tokenizer")
    assert troubled.last_line == (
        f"error: evaluating '{as_model(odd_models['other'])}' ended with exit code 2; what was "
        "finished is kept: give the same command again to go on"
    )
    assert "Traceback" not in troubled.printed
    assert not (troubled.folder / "comparison.json").exists()


def test_nan_log_likelihoods_are_warned_of_by_document(troubled: Done) -> None:
    """The evaluation goes on, and names where they are: one choice of every third question."""
    (line,) = [line for line in troubled.printed.splitlines() if "log-likelihoods are nan" in line]
    assert line.endswith(
        "15 log-likelihoods are nan: tiny_choice doc 0, tiny_choice doc 3, tiny_choice doc 6, "
        "tiny_choice doc 9, tiny_choice doc 12 and 6 more"
    )


def test_compare_refuses_nan_and_leaves_them_out_when_asked(troubled: Done, main: Done) -> None:
    """Never averaged over: an error that names the samples, or fewer samples."""
    runs = (main.folder / "baseline", troubled.folder / "nan")
    with pytest.raises(FlipsError, match=r"doc 0, 3, 6, 9, 12 and 2 more\).*--on-nan exclude"):
        compare(*runs, tasks="tiny_choice")
    (found,) = compare(*runs, on_nan="exclude").compressed
    rows = {row.name: row for row in found.tasks}
    assert rows["tiny_choice"].n == 20 - 7
    assert {dropped.task: dropped.count for dropped in found.dropped} == {
        "tiny_choice": 7,
        "tiny_mutual": 4,
    }
    whole = rows_of(main.document)
    for name in MEASURED:
        tokens = rows[name].tokens
        assert tokens is not None
        assert isfinite(tokens.token_kl.per_request_mean)
        if rows[name].n == whole[name]["n"]:
            assert tokens.token_kl.mean == pytest.approx(
                whole[name]["token_kl_per_position"], abs=1e-5
            )


def test_run_ends_at_nan_in_one_line(
    troubled: Done, main: Done, flips: Run, odd_models: dict[str, Path]
) -> None:
    """The runs are kept; the line says how to compare them."""
    done = flips(troubled.folder, str(main.folder / "baseline"), as_model(odd_models["nan"]))
    assert done.code == 2
    assert "finished before, kept" in done.printed
    assert done.last_line.startswith("error: task 'tiny_choice', filter 'none': ")
    assert "--on-nan exclude" in done.last_line
    assert "Traceback" not in done.printed


def test_a_model_that_is_its_own_baseline_is_refused(
    troubled: Done, main: Done, flips: Run, tiny_model: Path
) -> None:
    """As a compression that never engaged: they agree in every log-likelihood, to the last digit."""
    done = flips(troubled.folder, str(main.folder / "baseline"), as_model(tiny_model))
    assert done.code == 2
    assert "agrees with the baseline in every log-likelihood of every sample" in done.last_line
    assert "--allow-identical" in done.last_line


def test_a_model_is_at_no_distance_from_itself(troubled: Done, main: Done) -> None:
    """With --allow-identical: less than a millionth of a nat, one top token everywhere."""
    runs = (main.folder / "baseline", troubled.folder / "tiny")
    (found,) = compare(*runs, allow_identical=True).compressed
    for row in found.tasks:
        if row.name in GENERATED:
            continue
        assert row.tokens is not None
        for kl in (row.tokens.token_kl, row.tokens.token_kl_reverse):
            assert max(kl.per_request_mean, kl.mean, kl.max) < 1e-6
        assert row.tokens.same_top.mean == 1
        assert row.tokens.logprob_change.max == 0


@pytest.fixture(scope="module")
def swapped(
    main: Done,
    flips: Run,
    tiny_model: Path,
    perturbed_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Done, Done]:
    """The other way round, last positions only, into a folder of other runs: refused, replaced."""
    folder = tmp_path_factory.mktemp("swapped") / "runs"
    for name in ("baseline", "tiny"):
        shutil.copytree(main.folder / name, folder / name)
    models = (as_model(perturbed_model), as_model(tiny_model))
    refused = flips(folder, *models, positions="last")
    kept = results_of(folder / "tiny")
    assert kept == results_of(main.folder / "tiny")
    return refused, flips(folder, *models, positions="last", overwrite="")


def test_runs_of_other_settings_are_replaced_only_when_asked(
    swapped: tuple[Done, Done], main: Done, perturbed_model: Path
) -> None:
    """Without --overwrite they stay as they are, with it they are gone."""
    refused, replaced = swapped
    assert refused.code == 2
    assert "baseline' was evaluated with" in refused.last_line
    assert refused.last_line.endswith("or replace it with --overwrite")
    assert replaced.code == 0, replaced.printed
    assert replaced.printed.count("evaluating pretrained=") == 2
    model_args = results_of(replaced.folder / "baseline")["config"]["model_args"]
    assert model_args["pretrained"] == str(perturbed_model)
    assert results_of(main.folder / "baseline")["config"]["model_args"] != model_args


def test_swapping_the_models_swaps_forward_and_reverse(
    swapped: tuple[Done, Done], main: Done
) -> None:
    """At first positions, which both recordings hold."""
    there, back = rows_of(main.document), rows_of(swapped[1].document)
    for task in MEASURED:
        for name, other in (("token_kl", "token_kl_reverse"), ("token_kl_reverse", "token_kl")):
            assert back[task][f"{name}_first_position"] == pytest.approx(
                there[task][f"{other}_first_position"], abs=1e-5
            )
        first = [rows[task]["token_kl_first_position"] for rows in (there, back)]
        assert abs(first[0] - first[1]) > 1e-5
        assert back[task]["score_change"] == pytest.approx(-there[task]["score_change"], rel=1e-6)


def test_last_positions_give_no_mean_over_others(swapped: tuple[Done, Done]) -> None:
    """The JSON has null for what was not recorded; the table shows the first position."""
    done = swapped[1]
    for task in MEASURED:
        row = rows_of(done.document)[task]
        assert row["token_positions"] == row["token_requests"]
        assert row["token_kl_first_position_only"] is True
        assert row["token_kl"] == row["token_kl_first_position"]
        for name in ("per_position", "median", "p99", "max"):
            assert row[f"token_kl_{name}"] is None
    first = rows_of(done.document)["tiny_inputs"]["token_kl_first_position"]
    (line,) = [x for x in done.printed.splitlines() if x.startswith("tiny_inputs ")]
    assert f"{first:.4f}" in line.split()


def evaluate(model: Path, tasks: Path, output: Path, **model_args: Any) -> None:
    """Leave a run of flips-hf as lm_eval's command does, by the harness's Python API."""
    from lm_eval import simple_evaluate
    from lm_eval.api.registry import get_model
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    from lm_eval_flips.harness.models.flips_hf import FlipsHF

    assert get_model("flips-hf") is FlipsHF
    tracker = EvaluationTracker(output_path=str(output))
    results: Any = simple_evaluate(
        model="flips-hf",
        model_args={"pretrained": str(model), "dtype": "float32", **model_args},
        tasks=list(MEASURED),
        device="cpu",
        batch_size=8,
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=tasks, include_defaults=False),
        evaluation_tracker=tracker,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for name, own in samples.items():
        tracker.save_results_samples(task_name=name, samples=own)


@pytest.fixture(scope="module")
def bounded(
    tiny_model: Path,
    perturbed_model: Path,
    task_folder_local: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Done:
    """The five most likely tokens recorded instead of hidden states, and `compare` of both runs."""
    folder = tmp_path_factory.mktemp("bounded")
    baseline, compressed = str(folder / "baseline"), str(folder / "perturbed")
    evaluate(tiny_model, task_folder_local, folder / "baseline", record=baseline, top=5)
    measured = {"reference": baseline, "distances": compressed}
    evaluate(perturbed_model, task_folder_local, folder / "perturbed", **measured)
    command = [sys.executable, "-m", "lm_eval_flips", "compare", baseline, compressed]
    done = run([*command, "--json", str(folder / "comparison.json")], folder)
    assert done.returncode == 0, done.stdout
    return Done(folder, done.returncode, done.stdout)


def test_lower_bounds_are_labelled(bounded: Done, main: Done) -> None:
    """In the head of the table, below it, and in the JSON."""
    assert "token KL ≥" in bounded.printed
    runs = (bounded.folder / "baseline", bounded.folder / "perturbed")
    assert "lower bounds from the 5 likeliest tokens" in detailed(*runs)
    assert "token KL ≥" not in main.printed
    for task in MEASURED:
        assert rows_of(bounded.document)[task]["token_lower_bound_top"] == 5


def test_lower_bounds_are_below_the_whole(bounded: Done, main: Done) -> None:
    """Every sum of every task; what needs no other tokens is the same."""
    for task in MEASURED:
        low, whole = rows_of(bounded.document)[task], rows_of(main.document)[task]
        for name in ("token_kl", "token_kl_reverse", "token_jensen_shannon"):
            for key in ("", "_per_position", "_median", "_max", "_first_position"):
                assert low[name + key] <= whole[name + key] + 1e-6
        assert 0 < low["token_kl_per_position"] < 0.95 * whole["token_kl_per_position"]
        for name in ("same_top", "logprob_change", "choice_kl"):
            assert low[name] == pytest.approx(whole[name], abs=1e-5)


def test_the_bounded_reference_is_the_smaller_one(bounded: Done, main: Done) -> None:
    """No lm_head and no hidden states lie in it."""
    sizes = []
    for done in (bounded, main):
        folder = done.folder / "baseline" / "reference"
        sizes.append(sum(file.stat().st_size for file in folder.iterdir()))
    assert sizes[0] < sizes[1]
    assert not (bounded.folder / "baseline" / "reference" / "lm_head.safetensors").exists()


def test_a_model_that_cannot_be_loaded_ends_the_command_in_one_line(
    main: Done, flips: Run, tmp_path: Path
) -> None:
    """Below what the harness says of it; exit code 2, and the baseline is untouched."""
    before = sorted((main.folder / "baseline").rglob("*"))
    given = f"pretrained={tmp_path / 'nothing'}"
    done = flips(tmp_path / "runs", str(main.folder / "baseline"), given)
    assert done.code == 2
    assert done.last_line == (
        f"error: evaluating '{given}' ended with exit code 1; what was finished is kept: give the "
        "same command again to go on"
    )
    assert done.printed.count("Traceback") <= done.printed.count("OSError")
    assert sorted((main.folder / "baseline").rglob("*")) == before


def test_runs_of_another_model_type_are_compared_without_token_kl(
    flips: Run, local_runs: LocalRuns, tiny_model: Path, perturbed_model: Path, tmp_path: Path
) -> None:
    """--model hf, here runs that are finished: it says so, and the rest is there."""
    models = {"baseline": as_model(tiny_model), "compressed": [as_model(perturbed_model)]}
    plan = schedule_runs(
        **models,  # type: ignore[arg-type]  # two kinds of values
        tasks=",".join(LOCAL_TASKS),
        output_path=tmp_path / "runs",
        model="hf",
        arguments=["--device", "cpu", "--batch_size", "8"],
    )
    for evaluation, logged in zip((plan.baseline, *plan.compressed), local_runs, strict=True):
        shutil.copytree(logged, evaluation.folder)
        (evaluation.folder / STATE).write_bytes(msgspec.json.encode(evaluation.settings))
    done = flips(tmp_path / "runs", models["baseline"], *models["compressed"], model="hf")
    assert done.code == 0, done.printed
    assert done.printed.splitlines()[0] == (
        "--model hf gives no distances over the vocabulary: no token KL"
    )
    assert "choice KL" in done.printed
    assert "  token KL\n" not in done.printed
    row = rows_of(done.document)["tiny_choice"]
    assert row["token_kl"] is None
    assert row["choice_kl"] > 0


@pytest.fixture(scope="module")
def shared(main: Done, tiny_model: Path, perturbed_model: Path, task_folder_local: Path) -> Done:
    """Two processes that share the documents: `run` itself was started by torchrun."""
    output = main.folder.with_name("shared")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "lm_eval_flips", "run", "--baseline", as_model(tiny_model)),
        *("--compressed", as_model(perturbed_model), "--tasks", ",".join(SHARED)),
        *("--include_path", str(task_folder_local), "--device", "cpu", "--batch_size", "8"),
        *("--output_path", str(output)),
    ]
    done = run(command, output.parent)
    return Done(output, done.returncode, done.stdout)


@pytest.fixture(scope="module")
def split(main: Done, flips: Run, tiny_model: Path, perturbed_model: Path) -> Done:
    """Two processes over which each model is split, started by `run --launcher`."""
    models = [f"{as_model(model)},tp_plan=auto" for model in (tiny_model, perturbed_model)]
    launcher = "torchrun:--nproc-per-node 2"
    return flips(main.folder.with_name("split"), *models, tasks=",".join(SHARED), launcher=launcher)


@pytest.mark.parametrize(("name", "parts"), [("shared", 2), ("split", 1)])
def test_two_processes_log_and_measure_what_one_does(
    name: str, parts: int, main: Done, request: pytest.FixtureRequest
) -> None:
    """Samples in order and written once, log-likelihoods, texts and distances within 1e-5."""
    both: Done = request.getfixturevalue(name)
    assert both.code == 0, both.printed
    assert both.printed.count("baseline: evaluating") == 1, "one process orders the evaluations"
    for model in ("baseline", "perturbed"):
        assert len(list((both.folder / model).rglob("results_*.json"))) == 1
        for task in SHARED:
            orders = []
            for done in (main, both):
                (file,) = (done.folder / model).rglob(f"samples_{task}_*.jsonl")
                lines = map(json.loads, file.read_text().splitlines())
                orders.append([(sample["doc_id"], sample["filter"]) for sample in lines])
            assert orders[0] == orders[1]
            once, twice = (samples_of(done.folder / model, task) for done in (main, both))
            if task in GENERATED:
                assert [one["resps"] for one in twice] == [one["resps"] for one in once]
                continue
            for found, expected in zip(
                *(answers_of(done.folder / model, task) for done in (both, main)), strict=True
            ):
                assert found == (pytest.approx(expected[0], abs=1e-5), expected[1])
    stores = [both.folder / "baseline/reference", both.folder / "perturbed/token_distances"]
    assert [len(list(store.rglob("manifest.json"))) for store in stores] == [parts, parts]
    for task in SHARED[:2]:
        found, expected = (rows_of(done.document)[task]["token_kl"] for done in (both, main))
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads the processes of Linux")
def test_a_process_that_dies_ends_the_others(
    tiny_model: Path, perturbed_model: Path, task_folder_local: Path, tmp_path: Path
) -> None:
    """Within ten seconds, with an error of `run`, and nothing is taken for finished."""
    command = [
        *(
            sys.executable,
            "-m",
            "lm_eval_flips",
            "run",
            "--launcher",
            "torchrun:--nproc-per-node=2",
        ),
        *("--baseline", as_model(tiny_model), "--compressed", as_model(perturbed_model)),
        *("--include_path", str(task_folder_local), "--tasks", "tiny_choice", "--device", "cpu"),
        *("--output_path", str(tmp_path / "runs")),
    ]
    environment = harness_environment(tmp_path, preloaded=False)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        end = time.monotonic() + 120
        while len(ranks := ranks_below(tmp_path)) < 2:
            assert time.monotonic() < end, "no ranks were started"
            time.sleep(0.05)
        os.kill(ranks[1], signal.SIGKILL)
        killed = time.monotonic()
        printed, _ = process.communicate(timeout=60)
        assert time.monotonic() - killed < 10
    assert process.returncode == 2, printed
    assert "ended with exit code 1; what was finished is kept" in printed
    assert not ranks_below(tmp_path)
    state = read_state(tmp_path / "runs" / "baseline")
    assert state is not None
    assert state.finished is False


def ranks_below(folder: Path) -> dict[int, int]:
    """Processes that a launcher started for runs in a folder: their id by their rank."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            told = dict(
                part.split("=", 1)
                for part in (place / "environ").read_text().split("\0")
                if "=" in part
            )
            line = (place / "cmdline").read_text().split("\0")
        except OSError:  # it has ended meanwhile
            continue
        if "RANK" in told and any(str(folder / "runs") in part for part in line):
            found[int(told["RANK"])] = int(place.name)
    return found


def test_the_folders_hold_one_run_each(main: Done) -> None:
    """lm_eval's files, our state, and the folders of tensors: of requests, and of what is written."""
    for name, tensors in (
        ("baseline", {"reference", "greedy_answers"}),
        ("perturbed", {"token_distances", "answer_distances"}),
    ):
        folder = main.folder / name
        found = load_run(folder)
        assert set(found.tasks) == set(LEAVES)
        assert RESULTS_NAME.fullmatch(found.path.name)
        assert {p.name for p in folder.iterdir()} == {found.path.parent.name, STATE, *tensors}


def test_a_noise_floor_is_evaluated_and_held_against_the_compressed_model(
    flips: Run, tiny_model: Path, perturbed_model: Path, tmp_path: Path
) -> None:
    """A third run, of the baseline in other batches; its distances are nothing beside the others."""
    done = flips(
        tmp_path / "runs",
        as_model(tiny_model),
        as_model(perturbed_model),
        tasks="tiny_choice",
        **{"noise-floor": "", "equivalence-margin": "0.05"},
    )
    assert done.code == 0, done.printed
    assert "noise floor" in done.printed
    runs = [tmp_path / "runs" / name for name in ("baseline", "perturbed")]
    asked = ["--noise-floor", str(tmp_path / "runs" / "noise-floor"), "--tasks", "tiny_choice"]
    told = detailed(*runs, options=[*asked, "--equivalence-margin", "0.05"])
    assert "beyond the noise floor: " in told
    assert "equivalence within ±0.05" in told
    floor = done.document["noise_floor"]["pooled"]
    assert 0 <= floor["token_kl_max"] < 1e-6
    (row, *_) = done.document["compressed"][0]["tasks"]
    assert row["excess"]["token_kl"]["n"] == row["n"]
    assert row["excess"]["token_kl"]["within_floor"] is False
    assert row["excess"]["choice_kl"]["floor"] < 1e-6 < row["excess"]["choice_kl"]["value"]
