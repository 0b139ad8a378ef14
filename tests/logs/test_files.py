"""Logs as they lie on disk: packed, pointers, dumps, other line ends; and what is no file at all."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_eval_flips.comparison.compare import compare
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs import files
from lm_eval_flips.logs.prefetch import SampleReader
from lm_eval_flips.logs.reading import each_line, read_documents, read_samples
from lm_eval_flips.logs.runs import Run, load_run
from lm_eval_flips.logs.samples import Samples
from tests.generators import logs

RECORDS = [logs.choice(i, [-1.0 - i, -2.0], gold=i % 2) for i in range(5)]
BOM = b"\xef\xbb\xbf"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n"


def _run(folder: Path) -> tuple[Path, Path]:
    """A run's results file and its samples file."""
    results = logs.write_run(folder, {"task": RECORDS})
    return results, results.with_name(f"samples_task_{logs.DATE}.jsonl")


def _read(run: Run) -> Samples:
    (samples,) = read_samples(run.tasks["task"]).values()
    return samples


def _message(path: Path) -> str:
    with pytest.raises(FlipsError, match=".") as caught:
        read_samples(load_run(path).tasks["task"])
    return str(caught.value)


def _same(samples: Samples) -> None:
    """Every number is that of the records."""
    assert samples.doc_id.tolist() == list(range(5))
    assert samples.loglikelihoods.tolist() == [[-1.0 - i, -2.0] for i in range(5)]
    assert samples.metrics["acc"].tolist() == [record["acc"] for record in RECORDS]
    assert samples.faults == ()


def _gzipped(file: Path) -> Path:
    packed = file.with_name(file.name + ".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    return packed


def test_gzipped_samples_are_read(tmp_path: Path) -> None:
    """From the folder, and given by name; their lines and documents too."""
    results, file = _run(tmp_path)
    packed = _gzipped(file)
    for path in (tmp_path, results, packed):
        run = load_run(path)
        assert run.sample_paths == {"task": packed}
        _same(_read(run))
    task = load_run(packed).tasks["task"]
    assert dict(each_line(task, {3}))[3]["doc_id"] == 3
    assert len(list(read_documents(task))) == 5


def test_progress_over_packed_samples_ends_at_their_size(tmp_path: Path) -> None:
    """Bytes on disk, so that a bar over the files' sizes ends at its end."""
    packed = _gzipped(_run(tmp_path)[1])
    sizes: list[int] = []
    read_samples(load_run(packed).tasks["task"], progress=sizes.append)
    assert sum(sizes) == packed.stat().st_size


def test_a_packed_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    """An upload that broke: our error, not the library's."""
    packed = _gzipped(_run(tmp_path)[1])
    packed.write_bytes(packed.read_bytes()[:-12])
    message = _message(tmp_path)
    assert message.startswith(f"'{packed}' cannot be unpacked (")
    assert message.endswith("): it was cut off or damaged; fetch it again")


def test_samples_packed_by_zstd_are_read(tmp_path: Path) -> None:
    """With the library that tests have."""
    zstd = importlib.import_module("zstandard")
    _, file = _run(tmp_path)
    packed = file.with_name(file.name + ".zst")
    packed.write_bytes(zstd.ZstdCompressor().compress(file.read_bytes()))
    file.unlink()
    _same(_read(load_run(tmp_path)))
    whole = packed.read_bytes()
    packed.write_bytes(whole + zstd.ZstdCompressor().compress(b"\n"))  # a frame more
    _same(_read(load_run(tmp_path)))
    for damaged in (b"damaged" * 9, whole[: len(whole) // 2], whole[:-3], whole + b"junk"):
        packed.write_bytes(damaged)
        assert "it was cut off or damaged" in _message(tmp_path)


def test_zstd_without_a_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ways out: the library, or unpacking by hand."""
    monkeypatch.setattr(files, "ZSTD_LIBRARIES", ("no_such_library",))
    _, file = _run(tmp_path)
    packed = file.rename(file.with_name(file.name + ".zst"))
    message = _message(tmp_path)
    assert "`pip install zstandard`" in message
    assert f"`zstd -d '{packed}'`" in message


def test_the_plain_file_is_read_where_both_are(tmp_path: Path) -> None:
    """Unpacked beside the packed one: it is the one people look at."""
    _, file = _run(tmp_path)
    file.with_name(file.name + ".gz").write_bytes(b"")
    assert load_run(tmp_path).sample_paths == {"task": file}


@pytest.mark.parametrize("which", [0, 1])
def test_a_pointer_of_git_lfs_says_how_to_fetch_the_file(tmp_path: Path, which: int) -> None:
    """Rerunning costs hours, `git lfs pull` seconds."""
    pointer = _run(tmp_path)[which]
    pointer.write_text(POINTER)
    assert _message(tmp_path) == (
        f"'{pointer}' is a pointer of git-lfs, not the file itself: fetch it with `git lfs pull` in "
        "that repository"
    )


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "bom": lambda content: BOM + content,
    "crlf": lambda content: content.replace(b"\n", b"\r\n"),
    "blank lines": lambda content: b"\n" + content.replace(b"\n", b"\n\n  \n\r\n"),
    "all": lambda content: BOM + b"\r\n" + content.replace(b"\n", b"\r\n\r\n"),
    "no last newline": lambda content: content.removesuffix(b"\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_marks_blank_lines_and_other_line_ends_change_nothing(tmp_path: Path, change: str) -> None:
    """As editors and Windows leave them; each sample's line is still that of the file."""
    results, file = _run(tmp_path)
    file.write_bytes(CHANGES[change](file.read_bytes()))
    results.write_bytes(BOM + results.read_bytes())
    run = load_run(tmp_path)
    samples = _read(run)
    _same(samples)
    again = dict(each_line(run.tasks["task"], set(samples.line.tolist())))
    assert [again[line]["doc_id"] for line in samples.line.tolist()] == samples.doc_id.tolist()
    assert len(list(read_documents(run.tasks["task"]))) == 5


def test_an_error_names_the_line_of_the_file_and_not_of_the_sample(tmp_path: Path) -> None:
    """Blank lines count."""
    _, file = _run(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"\n\n" + lines[1].replace(b'"acc": ', b'"acc": 7') + lines[2])
    assert f"'{file}' line 4, filter 'none', doc 1: acc is 7" in _message(tmp_path)


def _dump(folder: Path, tasks: dict[str, list[logs.Record]], **changes: Any) -> Path:
    """What ``simple_evaluate`` returns, as people dump it: requests as lists, numbers as numbers."""
    results = json.loads(logs.write_run(folder / "as_logged", tasks, **changes).read_text())
    for key in ("model_name", "model_name_sanitized", "model_source"):
        del results[key]
    results["samples"] = {
        name: [
            {
                **record,
                "arguments": [list(request.values()) for request in record["arguments"].values()],
                "filtered_resps": [[float(v), g == "True"] for v, g in record["filtered_resps"]],
                "resps": [[[float(v), g == "True"] for v, g in r] for r in record["resps"]],
            }
            for record in records
        ]
        for name, records in tasks.items()
    }
    file = folder / "dump.json"
    file.write_text(json.dumps(results))
    return file


def test_a_dump_of_simple_evaluate_is_a_run(tmp_path: Path) -> None:
    """Its samples pair with those that the command logged, to the last number."""
    tasks = {"task": RECORDS, "other": RECORDS[:3]}
    dump = load_run(_dump(tmp_path, tasks))
    logged = load_run(tmp_path / "as_logged")
    assert dump.model == "org/model"
    assert list(dump.tasks) == ["other", "task"]
    _same(_read(dump))
    comparison = compare(logged, dump, allow_identical=True)
    flips = comparison.compressed[0].pooled.flips
    assert flips is not None
    assert (flips.n, flips.flips) == (8, 0)
    with SampleReader(workers=1) as read:
        read.prefetch(dump.tasks.values())
        assert [len(read(task)["none"]) for task in dump.tasks.values()] == [3, 5]


def test_a_dump_in_a_folder_is_named_as_what_to_give(tmp_path: Path) -> None:
    """A folder is searched by the names that the harness gives."""
    dump = _dump(tmp_path / "made", {"task": RECORDS})
    shutil.rmtree(tmp_path / "made" / "as_logged")
    with pytest.raises(FlipsError, match=f"give that file: {re.escape(str(dump))}"):
        load_run(tmp_path / "made")


def test_samples_of_the_first_versions_are_named_as_such(tmp_path: Path) -> None:
    """Up to 0.4.3 they were one JSON array, without filters and metrics: rerun, do not look."""
    results, file = _run(tmp_path)
    old = file.rename(file.with_suffix(".json"))
    old.write_text(json.dumps(RECORDS))
    for path in (tmp_path, results, old):
        with pytest.raises(FlipsError, match=r"written by lm_eval <= 0\.4\.3 .* >= 0\.4\.7"):
            load_run(path)
    results.unlink()
    with pytest.raises(FlipsError, match=r"written by lm_eval <= 0\.4\.3 .* >= 0\.4\.7"):
        load_run(old.parent)


def _folder(file: Path) -> None:
    file.mkdir()


def _pipe(file: Path) -> None:
    os.mkfifo(file)


def _nothing(file: Path) -> None:
    file.symlink_to("nowhere")


def _loop(file: Path) -> None:
    file.symlink_to(file.name)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("make", "what"),
    [(_folder, "a folder"), (_pipe, "no file"), (_nothing, "a link to nothing"), (_loop, "a link")],
)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, which: int, make: Callable[[Path], None], what: str
) -> None:
    """A pipe would be waited for without an end."""
    file = _run(tmp_path)[which]
    file.unlink()
    make(file)
    message = _message(tmp_path)
    assert message.startswith(f"'{file}' ")
    assert what in message or "cannot be read" in message


@pytest.mark.parametrize("name", ["a" * 300, "b" * 300 + ".json", "\ud800"])
def test_a_name_that_no_file_can_have_is_an_error(tmp_path: Path, name: str) -> None:
    """Our error, whatever the system says."""
    with pytest.raises(FlipsError, match=r"cannot be read|does not exist"):
        load_run(tmp_path / name)


def test_a_newline_in_a_task_s_name_is_part_of_it(tmp_path: Path) -> None:
    """The file is seen, and is that task's."""
    results, file = _run(tmp_path)
    file.rename(file.with_name(f"samples_ta\nsk_{logs.DATE}.jsonl"))
    assert list(load_run(results).tasks) == ["ta\nsk"]


@pytest.mark.parametrize(
    "change",
    [
        {"n_shot": {"task": "none"}},
        {"n_shot": {"task": float("inf")}},
        {"configs": {"task": {"metric_list": 1}}},
        {"configs": {"task": {"output_type": 5}}},
        {"configs": {"task": {"target_delimiter": None}}},
        {"higher_is_better": {"task": {"acc": "yes"}}},
        {"results": {"task": {"acc,none": 0.4, "sample_len": "5"}}},
        {"results": {"task": {"acc,none": 0.4, "sample_len": True}}},
        {"model_name": "half \ud800 a pair"},
        {"group_subtasks": {"all": "task"}},
    ],
)
def test_results_of_another_type_are_an_error_that_names_the_file(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    """One malformed run must not end a board of many with a traceback."""
    results, _ = _run(tmp_path)
    content = json.loads(results.read_text())
    for key, value in change.items():
        key = {"n_shot": "n-shot"}.get(key, key)
        if key == "configs":
            content["configs"]["task"] |= value["task"]
        else:
            content[key] = value
    results.write_text(json.dumps(content))
    with pytest.raises(FlipsError, match=f"^'{re.escape(str(results))}' is not a results file"):
        load_run(tmp_path)


@pytest.mark.parametrize("depth", [900, 1100, 100_000])
def test_what_is_nested_too_deep_is_refused_or_skipped(tmp_path: Path, depth: int) -> None:
    """In the results and in a line; never the parser's own error."""
    results, file = _run(tmp_path)
    nested = "[" * depth + "]" * depth
    file.write_text(file.read_text().replace("{", '{"deep": ' + nested + ", ", 1))
    try:
        _same(_read(load_run(tmp_path)))
    except FlipsError as error:
        assert f"'{file}' line 1" in str(error)  # noqa: PT017  (either is right)
    results.write_text(results.read_text().replace("{", '{"deep": ' + nested + ", ", 1))
    try:
        load_run(tmp_path)
    except FlipsError as error:
        assert f"'{results}' is not a results file" in str(error)  # noqa: PT017


def test_deep_and_doubled_groups_take_no_time(tmp_path: Path) -> None:
    """3,000 groups below each other, and 40 levels in which each names the next one twice."""
    chain = {f"g{i}": [f"g{i + 1}"] for i in range(2999)} | {"g2999": ["task"]}
    doubled = {f"d{i}": [f"d{i + 1}", f"d{i + 1}"] for i in range(39)} | {"d39": ["task"]}
    results, _ = _run(tmp_path)
    content = json.loads(results.read_text())
    content["group_subtasks"] = chain | doubled
    results.write_text(json.dumps(content))
    run = load_run(tmp_path)
    assert set(run.groups.values()) == {("task",)}
    assert len(run.groups) == 3040


def test_metrics_that_the_results_name_are_in_every_line(tmp_path: Path) -> None:
    """Named twice, not at all, under another name, or held without being named: file and line."""
    _, file = _run(tmp_path)
    whole = file.read_text()
    faults = {
        '"metrics": ["acc", "acc"]': "names a metric twice",
        '"metrics": []': "logs no metric",
        '"metrics": ["acc", "abc_norm"]': "logs the metric 'abc_norm', which the results do not",
        '"metrics": ["acc"]': "lacks the metric 'acc_norm' that the results score",
    }
    for changed, why in faults.items():
        lines = whole.splitlines(keepends=True)
        lines[2] = lines[2].replace('"metrics": ["acc", "acc_norm"]', changed)
        file.write_text("".join(lines))
        message = _message(tmp_path)
        assert message.startswith(f"'{file}' line 3, filter 'none': it {why}"), message


def test_answers_that_are_not_the_responses_are_named(tmp_path: Path) -> None:
    """The filter takes the first response: another number is an edit."""
    _, file = _run(tmp_path)
    lines = file.read_text().splitlines(keepends=True)
    changed = lines[1].replace('"filtered_resps": [["-2.0"', '"filtered_resps": [["-2.5"')
    assert changed != lines[1]
    file.write_text("".join([lines[0], changed, *lines[2:]]))
    assert f"'{file}' line 2, doc 1: its filtered_resps are not its resps" in _message(tmp_path)


@pytest.mark.parametrize(
    ("record", "change", "why"),
    [
        (logs.cloze(0, -1.0, greedy=True), {"perplexity": -2.0}, "perplexity is not that of the"),
        (logs.cloze(0, -1.0, greedy=True), {"perplexity": False}, "perplexity is False"),
        (logs.cloze(0, -1.0, greedy=True), {"acc": 0}, "acc is not that of the logged response"),
        (logs.rolling(0, -9.0, "a b"), {"word_perplexity": [-8.0, 2]}, "word_perplexity is not"),
        (logs.rolling(0, -9.0, "a b"), {"word_perplexity": -9.0}, "which is no value"),
        (logs.rolling(0, -9.0, "a b"), {"word_perplexity": [-9.0, -2]}, "word_perplexity is a"),
    ],
)
def test_a_value_that_is_not_its_response_s_is_named(
    tmp_path: Path, record: logs.Record, change: dict[str, Any], why: str
) -> None:
    """What the harness makes of one response can be made again."""
    other = logs.cloze(1, -2.0, greedy=False) if "acc" in record else logs.rolling(1, -7.0, "a b c")
    file = logs.write_run(tmp_path, {"task": [record, other]})
    assert len(_read(load_run(file))) == 2
    samples = file.with_name(f"samples_task_{logs.DATE}.jsonl")
    logs.write_samples(samples, [{**record, **change}, other])
    message = _message(tmp_path)
    assert f"'{samples}' line " in message
    assert why in message


@pytest.mark.parametrize("doc_id", [2**63, -1, 10**30, 1.5])
def test_a_doc_id_that_cannot_be_is_named(tmp_path: Path, doc_id: Any) -> None:
    """Beyond 64 bits, below 0, or no whole number."""
    _, file = _run(tmp_path)
    logs.write_samples(file, [RECORDS[0], {**RECORDS[1], "doc_id": doc_id}])
    assert _message(tmp_path).startswith(f"'{file}' line 2 is not a sample of lm_eval: Expected")


@pytest.mark.parametrize(
    "arguments", [5, [], {"gen_args_0": 5}, {"gen_args_0": {"arg_0": "Q", "arg_1": 5}}, {}]
)
def test_arguments_of_another_type_are_named(tmp_path: Path, arguments: Any) -> None:
    """A request has a context and a text that goes on from it."""
    _, file = _run(tmp_path)
    logs.write_samples(file, [RECORDS[0], {**RECORDS[1], "arguments": arguments}])
    message = _message(tmp_path)
    assert f"'{file}' line 2" in message or "doc 1" in message


def test_the_scores_of_pairs_are_made_again(tmp_path: Path) -> None:
    """Matthews' correlation and F1 by scikit-learn; a score that is another one is a fault."""
    from sklearn.metrics import f1_score, matthews_corrcoef

    draw = np.random.default_rng(5)
    gold, given = draw.integers(0, 2, (2, 40))
    records = [
        logs.choice(
            i, [-1.0, -2.0], metrics=("mcc", "f1"), mcc=[int(g), int(p)], f1=[int(g), int(p)]
        )
        for i, (g, p) in enumerate(zip(gold, given, strict=True))
    ]
    scores = {
        "sample_len": 40,
        "mcc,none": float(matthews_corrcoef(gold, given)),
        "f1,none": float(f1_score(gold, given)),
    }
    right = load_run(logs.write_run(tmp_path / "1", {"task": records}, results={"task": scores}))
    assert _read(right).faults == ()
    for name in ("mcc,none", "f1,none"):
        other = {"task": {**scores, name: scores[name] + 1e-3}}
        run = load_run(logs.write_run(tmp_path / name, {"task": records}, results=other))
        (fault,) = _read(run).faults
        assert fault.code == "score-differs"
