"""Finding a run on disk: every path a user may give, and every file that is not a run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import Run, load_run
from tests.conftest import LEAVES, LocalRuns
from tests.generators import logs

RECORDS = [logs.choice(i, [-1.0, -2.0]) for i in range(3)]
ARGS = {"pretrained": "org/model", "dtype": "float32"}
REPEATED = {"repeated": RECORDS}


def _message(path: Path) -> str:
    """The whole error message of loading a path."""
    with pytest.raises(FlipsError, match=".") as caught:
        load_run(path)
    return str(caught.value)


def _rewrite(file: Path, change: dict[str, Any]) -> Path:
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    return file


def test_a_folder_a_results_file_and_a_samples_file_give_the_same_run(tmp_path: Path) -> None:
    """The output path, the model's folder in it, and each file in that lead to the same run."""
    results = logs.write_run(tmp_path, REPEATED)
    samples = results.with_name(f"samples_repeated_{logs.DATE}.jsonl")
    runs = [load_run(path) for path in (tmp_path, results.parent, results, samples, str(results))]
    for run in runs:
        assert run.model == "org/model"
        assert run.date == logs.DATE
        assert dict(run.sample_paths) == {"repeated": samples}
    assert {run.path for run in runs} == {results, samples}


def test_a_run_names_its_tasks_as_the_harness_logged_them(tmp_path: Path) -> None:
    """Names with underscores and with what looks like a date stay whole, in alphabetical order."""
    names = ("z_task", "a_2025-01-01_task", "mmlu_flan_n_shot")
    run = load_run(logs.write_run(tmp_path, dict.fromkeys(names, RECORDS)))
    assert list(run.tasks) == ["a_2025-01-01_task", "mmlu_flan_n_shot", "z_task"]


def test_a_samples_file_alone_is_a_run_of_one_task(tmp_path: Path) -> None:
    """Without its results a samples file still says which task it is of; the model is its folder's."""
    folder = tmp_path / "some-model"
    folder.mkdir()
    file = logs.write_samples(folder / f"samples_my_task_{logs.DATE}.jsonl", RECORDS)
    run = load_run(file)
    task = run.tasks["my_task"]
    assert run.model == "some-model"
    assert (task.output_type, task.expected, task.delimiter) == (None, None, " ")


def test_a_samples_file_brings_no_other_task_of_its_run(tmp_path: Path) -> None:
    """One samples file of a run with two tasks is compared alone, with the results' configuration."""
    results = logs.write_run(tmp_path, {"one": RECORDS, "two": RECORDS})
    run = load_run(results.with_name(f"samples_two_{logs.DATE}.jsonl"))
    assert list(run.tasks) == ["two"]
    assert run.tasks["two"].output_type == "multiple_choice"
    assert run.tasks["two"].expected == 3


def test_an_output_path_that_ends_in_json_is_found(tmp_path: Path) -> None:
    """lm_eval then writes STEM_DATE.json with the samples beside it; file and folder both lead there."""
    written = logs.write_run(tmp_path / "elsewhere", REPEATED)
    samples = written.with_name(f"samples_repeated_{logs.DATE}.jsonl")
    results = Path(shutil.move(written, tmp_path / f"int4.v2_{logs.DATE}.json"))
    shutil.move(samples, tmp_path / samples.name)
    shutil.rmtree(tmp_path / "elsewhere")
    for path in (tmp_path, results, tmp_path / samples.name):
        run = load_run(path)
        assert run.model == "org/model"
        assert list(run.tasks) == ["repeated"]


@pytest.mark.parametrize("newer_first", [False, True])
def test_the_newest_of_repeated_runs_is_taken(tmp_path: Path, newer_first: bool) -> None:
    """By the date in the name, whatever the order in which the files were written."""
    dates = [logs.LATER, logs.DATE] if newer_first else [logs.DATE, logs.LATER]
    for date in dates:
        logs.write_run(tmp_path, REPEATED, date=date)
    assert load_run(tmp_path).date == logs.LATER


def test_the_older_of_repeated_runs_is_taken_when_named(tmp_path: Path) -> None:
    """Control for the test above: the newest is a default, not a rule."""
    older = logs.write_run(tmp_path, REPEATED, date=logs.DATE)
    logs.write_run(tmp_path, REPEATED, date=logs.LATER)
    assert load_run(older).date == logs.DATE


def test_a_newer_run_with_more_tasks_replaces_an_older_one(tmp_path: Path) -> None:
    """Nothing is lost by taking the newer."""
    logs.write_run(tmp_path, REPEATED, date=logs.DATE)
    logs.write_run(tmp_path, {**REPEATED, "more": RECORDS}, date=logs.LATER)
    assert list(load_run(tmp_path).tasks) == ["more", "repeated"]


def test_results_of_one_task_a_call_are_one_run(tmp_path: Path) -> None:
    """A loop over the tasks leaves a results file of each; the newest of each task counts."""
    first = logs.write_run(tmp_path, {"a": RECORDS, "b": RECORDS}, date=logs.DATE)
    second = logs.write_run(tmp_path, {"b": RECORDS[:2], "c": RECORDS}, date=logs.LATER)
    run = load_run(tmp_path)
    assert run.path == second
    assert run.results_paths == (first, second)
    assert {name: logs.LATER in path.name for name, path in run.sample_paths.items()} == {
        "a": False,
        "b": True,
        "c": True,
    }
    assert {name: task.expected for name, task in run.tasks.items()} == {"a": 3, "b": 2, "c": 3}
    (note,) = run.faults
    assert (note.code, note.severity) == ("several-results", "note")
    assert f"{logs.DATE} (a, b), {logs.LATER} (b, c)" in note.text


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"lm_eval_version": "0.4.12"}, "lm_eval_version"),
        ({"chat_template_sha": "abc"}, "chat_template_sha"),
        ({"config": {"model_args": ARGS, "limit": 3}}, "limit"),
    ],
)
def test_results_under_other_settings_are_not_one_run(
    tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    """Half of a run in another chat format is no run; the message names what differs."""
    older = logs.write_run(tmp_path, {"old": RECORDS}, date=logs.DATE)
    newer = logs.write_run(tmp_path, {"new": RECORDS}, date=logs.LATER, **change)
    message = _message(tmp_path)
    assert "holds 2 runs of different models or settings, and they differ in " in message
    assert name in message.split(";")[0]
    assert f"  {older}  org/model" in message
    assert f"  {newer}  org/model" in message


def test_the_newest_that_has_its_samples_is_taken(tmp_path: Path) -> None:
    """A rerun without --log_samples, or one that was killed, does not hide the run before it."""
    older = logs.write_run(tmp_path, REPEATED, date=logs.DATE)
    newer = logs.write_run(tmp_path, REPEATED, date=logs.LATER)
    newer.with_name(f"samples_repeated_{logs.LATER}.jsonl").unlink()
    run = load_run(tmp_path)
    assert run.path == older
    assert f"the newest that has all its samples is read: {logs.DATE}" in run.faults[0].text


def test_a_task_whose_samples_are_gone_is_a_fault(tmp_path: Path) -> None:
    """It has a score, and would be missing from the comparison without a word."""
    results = logs.write_run(tmp_path, {"here": RECORDS, "gone": RECORDS})
    assert load_run(tmp_path).faults == ()
    results.with_name(f"samples_gone_{logs.DATE}.jsonl").unlink()
    (fault,) = load_run(tmp_path).faults
    assert (fault.code, fault.task, fault.severity) == ("samples-missing", "gone", "fault")


def test_several_models_in_one_folder_are_an_error_that_lists_them(tmp_path: Path) -> None:
    """The message names each results file, which is what to give instead."""
    base = logs.write_run(tmp_path, REPEATED, model="org/base", date=logs.DATE)
    tuned = logs.write_run(tmp_path, REPEATED, model="org/int4", date=logs.LATER)
    assert _message(tmp_path) == (
        f"'{tmp_path}' holds 2 runs of different models or settings; name the results file of one "
        "of them:\n"
        f"  {base}  org/base  {{'pretrained': 'org/base', 'dtype': 'float32'}}  (repeated)\n"
        f"  {tuned}  org/int4  {{'pretrained': 'org/int4', 'dtype': 'float32'}}  (repeated)"
    )
    assert load_run(base).model == "org/base"


def test_one_model_with_other_arguments_is_another_run(tmp_path: Path) -> None:
    """Quantising at load time keeps the name and the folder: only the arguments tell them apart."""
    args = ({"pretrained": "m"}, {"pretrained": "m", "load_in_4bit": True})
    for date, found in zip((logs.DATE, logs.LATER), args, strict=True):
        logs.write_run(tmp_path, REPEATED, model="m", date=date, config={"model_args": found})
    message = _message(tmp_path)
    assert "holds 2 runs of different models or settings" in message
    assert "{'pretrained': 'm', 'load_in_4bit': True}" in message


def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """A typing mistake is named."""
    assert _message(tmp_path / "typo") == (
        f"'{tmp_path / 'typo'}' does not exist; give an lm_eval output folder, or a results_*.json "
        "or samples_*.jsonl in it"
    )


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    """So is one with other files in it."""
    (tmp_path / "config.json").write_text("{}")
    assert _message(tmp_path) == (
        f"'{tmp_path}' holds no results_*.json of lm_eval; run lm_eval with --log_samples "
        "--output_path and give that folder"
    )


def test_a_folder_with_samples_but_no_results_is_an_error_that_says_what_to_give(
    tmp_path: Path,
) -> None:
    """The samples file itself can be given."""
    file = logs.write_samples(tmp_path / f"samples_my_task_{logs.DATE}.jsonl", RECORDS)
    assert _message(tmp_path) == (
        f"'{tmp_path}' has samples but no results_*.json; give one samples file instead, such as "
        f"'{file}'"
    )


@pytest.mark.parametrize("name", ["notes.txt", "model.safetensors", "samples.jsonl"])
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, name: str) -> None:
    """Its content is not looked at."""
    file = tmp_path / name
    file.write_bytes(b"\x80\x04anything")
    assert _message(file) == (
        f"'{file}' is not a file that lm_eval wrote; give an output folder, or a results_*.json or "
        "samples_*.jsonl in it"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"architectures": ["LlamaForCausalLM"]}', "Object missing required field `results`"),
        (b'{"results": {}}', "Object missing required field `configs`"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b'{"results": 3, "configs": {}}', "Expected `object`, got `int` - at `$.results`"),
        (b'{"results": {"a": {"acc', "Input data was truncated"),
        (b"", "Input data was truncated"),
    ],
)
def test_json_of_another_kind_is_an_error(tmp_path: Path, content: bytes, why: str) -> None:
    """A model's config.json, a cut-off file and an empty one are named, with the reason."""
    file = tmp_path / "config.json"
    file.write_bytes(content)
    assert _message(file) == f"'{file}' is not a results file of lm_eval: {why}"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{\x00}\x00", b'{"results": NaN', b'{"results": \xff}']
)
def test_bytes_that_are_no_text_are_an_error(tmp_path: Path, content: bytes) -> None:
    """Other encodings and broken NaN files end in the same message, never in a traceback."""
    file = tmp_path / "results.json"
    file.write_bytes(content)
    assert _message(file).startswith(f"'{file}' is not a results file of lm_eval: ")


def test_a_run_without_logged_samples_is_an_error(tmp_path: Path) -> None:
    """The flag that was forgotten is named, from the folder and from the file."""
    file = logs.write_run(tmp_path, {})
    _rewrite(file, {"results": {"arc": {"acc,none": 0.5}}})
    for path in (tmp_path, file):
        assert _message(path) == (
            f"'{file}' has no samples_*.jsonl of the same date beside it; rerun lm_eval with "
            "--log_samples"
        )


def test_samples_of_another_date_are_another_run(tmp_path: Path) -> None:
    """A results file never takes the samples of the run before."""
    file = logs.write_run(tmp_path, REPEATED)
    file.rename(file.with_name(f"results_{logs.LATER}.json"))
    assert "has no samples_*.jsonl of the same date beside it" in _message(tmp_path)


@pytest.mark.parametrize("version", ["0.4.6", "0.4.3", "0.3.0", "0.4.5.dev1"])
def test_a_run_of_an_old_lm_eval_is_an_error(tmp_path: Path, version: str) -> None:
    """Before 0.4.7 no filter was logged; the message says so without reading the samples."""
    file = logs.write_run(tmp_path, REPEATED, lm_eval_version=version)
    assert _message(file) == (
        f"'{file}' was written by lm_eval {version}, which does not log what pairing needs; rerun "
        "with lm_eval >= 0.4.7"
    )


@pytest.mark.parametrize("version", ["0.4.7", "0.4.10", "0.4.9.2", "0.5.0.dev1", "1.0", None])
def test_a_run_of_a_newer_lm_eval_is_read(tmp_path: Path, version: str | None) -> None:
    """Versions are compared as numbers: 0.4.10 is newer than 0.4.7; a missing one is no reason."""
    assert load_run(logs.write_run(tmp_path, REPEATED, lm_eval_version=version)).tasks


def test_results_whose_metrics_name_no_filter_are_old(tmp_path: Path) -> None:
    """Without a version the keys tell: "acc" instead of "acc,none"."""
    file = logs.write_run(
        tmp_path, REPEATED, lm_eval_version=None, results={"repeated": {"acc": 0.5}}
    )
    assert _message(file) == (
        f"'{file}' was written by lm_eval < 0.4.7, which does not log what pairing needs; rerun with "
        "lm_eval >= 0.4.7"
    )


def test_nan_and_infinity_literals_in_the_results_are_read(tmp_path: Path) -> None:
    """Python's json writes NaN, which strict JSON does not have; a stderr is nan for one sample."""
    scores = {
        "repeated": {"acc,none": 1.0, "acc_stderr,none": float("nan"), "x,none": float("inf")}
    }
    file = logs.write_run(tmp_path, REPEATED, results=scores)
    assert "NaN" in file.read_text()
    assert "Infinity" in file.read_text()
    assert list(load_run(file).tasks) == ["repeated"]


def test_model_arguments_that_are_one_string_are_split(tmp_path: Path) -> None:
    """lm_eval before 0.4.10 logged the command line's string; an `=` in a value stays there."""
    text = "pretrained=org/model,dtype=float16,tokenizer=a=b,parallelize=True"
    file = logs.write_run(tmp_path, REPEATED, config={"model_args": text})
    assert load_run(file).model_args == {
        "pretrained": "org/model",
        "dtype": "float16",
        "tokenizer": "a=b",
        "parallelize": "True",
    }


@pytest.mark.parametrize("args", [None, "", {}])
def test_a_run_may_have_no_model_arguments(tmp_path: Path, args: Any) -> None:
    """The dummy model takes none."""
    assert (
        load_run(logs.write_run(tmp_path, REPEATED, config={"model_args": args})).model_args == {}
    )


def test_groups_are_followed_down_to_their_leaves(tmp_path: Path) -> None:
    """Nested groups, a leaf in two groups, and groups of which a leaf was not logged."""
    run = load_run(
        logs.write_run(
            tmp_path,
            dict.fromkeys(("a", "b", "c"), RECORDS),
            groups={
                "outer": ["inner", "c"],
                "inner": ["a", "b"],
                "both": ["inner", "a"],
                "some": ["a", "never_logged"],
                "around": ["some", "c"],
            },
        )
    )
    assert run.groups == {"outer": ("a", "b", "c"), "inner": ("a", "b"), "both": ("a", "b")}
    # what is there of a group can still be asked for
    assert run.select("some") == ["a"]
    assert run.select("around") == ["a", "c"]


def test_a_folder_of_runs_is_an_error_that_names_them(tmp_path: Path) -> None:
    """The folder above several runs is no run: which to give is said."""
    for name in ("int8", "base"):
        logs.write_run(tmp_path / name, {"task": RECORDS})
    base, int8 = (re.escape(str(tmp_path / name)) for name in ("base", "int8"))
    with pytest.raises(FlipsError, match=f"holds several runs; give one of them: {base}, {int8}$"):
        load_run(tmp_path)


def test_a_group_that_holds_itself_ends(tmp_path: Path) -> None:
    """A results file is input: a circle in it must not hang the reader."""
    groups = {"one": ["two", "a"], "two": ["one"]}
    run = load_run(logs.write_run(tmp_path, {"a": RECORDS}, groups=groups))
    assert run.groups == {"one": ("a",), "two": ("a",)}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("*", ["mmlu_law", "mmlu_maths", "wino"]),
        ("mmlu_*", ["mmlu_law", "mmlu_maths"]),
        ("wino", ["wino"]),
        ("law_and_wino", ["mmlu_law", "wino"]),
        ("[mw]*o", ["wino"]),
    ],
)
def test_tasks_are_selected_by_name_glob_or_group(
    tmp_path: Path, wanted: str, found: list[str]
) -> None:
    """As on the command line's --tasks."""
    names = ("mmlu_law", "mmlu_maths", "wino")
    groups = {"law_and_wino": ["mmlu_law", "wino"]}
    run = load_run(logs.write_run(tmp_path, dict.fromkeys(names, RECORDS), groups=groups))
    assert run.select(wanted) == found


def test_a_task_that_the_run_lacks_is_an_error_that_lists_what_it_has(tmp_path: Path) -> None:
    """Case counts, as in the harness."""
    file = logs.write_run(tmp_path, {"arc": RECORDS, "boolq": RECORDS})
    with pytest.raises(FlipsError, match="matches") as caught:
        load_run(file).select("ARC")
    assert str(caught.value) == f"no task of '{file}' matches 'ARC'; it holds arc, boolq"


def test_settings_hold_what_changes_scores_and_not_which_model_it_is(tmp_path: Path) -> None:
    """The model's own name differs between the runs by design."""
    config = {"model_args": {"pretrained": "m", "peft": "p", "add_bos_token": True}, "limit": 5.0}
    file = logs.write_run(
        tmp_path,
        REPEATED,
        config=config,
        max_length=2048,
        chat_template_sha="abc",
        n_shot={"repeated": 5},
    )
    settings = load_run(file).settings
    assert settings["model_args.add_bos_token"] is True
    assert settings["limit"] == 5.0
    assert settings["max_length"] == 2048
    assert settings["chat_template_sha"] == "abc"
    assert settings["version.repeated"] == 1.0
    assert settings["num_fewshot.repeated"] == 5
    assert settings["lm_eval_version"] == "0.4.13"
    assert not {name for name in settings if "pretrained" in name or "peft" in name}


def _task(folder: Path, *, chat: str | None = None, **config: Any) -> Any:
    file = logs.write_run(folder, REPEATED, configs={"repeated": config}, chat_template=chat)
    return load_run(file).tasks["repeated"]


@pytest.mark.parametrize(
    ("chat", "config", "delimiter"),
    [
        (None, {}, " "),
        (None, {"target_delimiter": "\n"}, "\n"),
        (None, {"target_delimiter": ""}, ""),
        ("{{ chat }}", {}, ""),
        ("{{ chat }}", {"gen_prefix": "Answer:"}, " "),
        ("{{ chat }}", {"gen_prefix": "Answer: "}, ""),
        ("{{ chat }}", {"gen_prefix": "Answer:\n"}, ""),
        (None, {"gen_prefix": "Answer:"}, " "),
    ],
)
def test_the_delimiter_before_a_choice_follows_the_harness(
    tmp_path: Path, chat: str | None, config: dict[str, Any], delimiter: str
) -> None:
    """A chat template drops it, unless the answer goes on from a prefix without a space."""
    assert _task(tmp_path, chat=chat, **config).delimiter == delimiter


def test_a_task_says_how_it_was_scored(tmp_path: Path) -> None:
    """Own process_results, shots, the number of samples, and metrics where less is better."""
    file = logs.write_run(
        tmp_path,
        REPEATED,
        configs={"repeated": {"process_results": "def f(doc, results): ..."}},
        n_shot={"repeated": 5},
        n_samples={"repeated": {"original": 100, "effective": 3}},
        higher_is_better={"repeated": {"acc": True, "wer": False, "odd": None}},
    )
    task = load_run(file).tasks["repeated"]
    assert not task.standard_scoring
    assert (task.num_fewshot, task.expected) == (5, 3)
    assert task.lower_is_better == {"wer"}
    assert _task(tmp_path / "standard").standard_scoring


def test_a_real_run_is_read_whole(local_runs: LocalRuns, tiny_model: Path) -> None:
    """The stock harness's own output: every leaf, the nested groups, the settings."""
    run = load_run(local_runs.baseline)
    assert isinstance(run, Run)
    assert run.model == str(tiny_model)
    assert set(run.tasks) == set(LEAVES)
    assert run.groups == {
        "tiny_outer": ("tiny_choice", "tiny_inputs", "tiny_mutual"),
        "tiny_group": ("tiny_choice", "tiny_inputs"),
    }
    assert run.settings["model_args.softmax_dtype"] == "float32"
    assert run.settings["max_length"] == 512
    assert str(run.settings["batch_size"]) == "8"
    assert {name: task.output_type for name, task in run.tasks.items()} == {
        "tiny_choice": "multiple_choice",
        "tiny_inputs": "multiple_choice",
        "tiny_mutual": "multiple_choice",
        "tiny_cloze": "loglikelihood",
        "tiny_generate": "generate_until",
        "tiny_repeats": "generate_until",
        "tiny_rolling": "loglikelihood_rolling",
    }
    assert run.tasks["tiny_rolling"].lower_is_better == {
        "word_perplexity",
        "byte_perplexity",
        "bits_per_byte",
    }
