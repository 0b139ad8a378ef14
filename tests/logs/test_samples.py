"""Reading samples: every number as logged, every malformed line named, nothing executed."""

from __future__ import annotations

import gc
import json
import pickle
import random
import struct
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.prefetch import SampleReader
from lm_eval_flips.logs.reading import each_line, read_documents, read_samples
from lm_eval_flips.logs.records import Request, arguments_digest
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog
from tests.conftest import LEAVES, LocalRuns
from tests.generators import logs

OWN_RULE = {"process_results": "def process_results(doc, results): ..."}


def _task(folder: Path, records: Sequence[logs.Record], **more: Any) -> TaskLog:
    return load_run(logs.write_run(folder, {"task": records}, **more)).tasks["task"]


def _alone(folder: Path, records: Sequence[logs.Record]) -> TaskLog:
    """The same samples without a results JSON beside them."""
    file = logs.write_samples(folder / f"samples_task_{logs.DATE}.jsonl", records)
    return load_run(file).tasks["task"]


def _read(folder: Path, records: Sequence[logs.Record], **more: Any) -> Samples:
    found = read_samples(_task(folder, records, **more))
    assert len(found) == 1
    return next(iter(found.values()))


def _broken(task: TaskLog) -> str:
    """The whole message of the error that reading a task ends in."""
    with pytest.raises(FlipsError, match=".") as caught:
        read_samples(task)
    return str(caught.value)


def _doubles(count: int) -> list[float]:
    """Finite doubles with random bits, the smallest and the largest among them."""
    generator = random.Random(7)
    found = [5e-324, -5e-324, 2.2250738585072014e-308, -1.7976931348623157e308, 0.1 + 0.2, -0.0]
    while len(found) < count:
        (value,) = struct.unpack("d", generator.randbytes(8))
        if value == value and abs(value) != inf:
            found.append(value)
    return found


def _equal(left: Samples, right: Samples, *, but: Sequence[str] = ()) -> None:
    """Hold every column of two readings equal, nan to nan."""
    for name in Samples.__dataclass_fields__:
        ours, theirs = getattr(left, name), getattr(right, name)
        if name in but:
            continue
        if isinstance(ours, Mapping):
            assert list(ours) == list(theirs), name
            for key in ours:
                np.testing.assert_array_equal(ours[key], theirs[key], err_msg=f"{name} {key}")
        elif isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        else:
            assert ours == theirs, name


# The synthetic format is the harness's


def _rebuilt(real: logs.Record) -> logs.Record:
    """A real record made again by ``logs.record`` from what it says itself."""
    return logs.record(
        real["doc_id"],
        doc=real["doc"],
        target=real["target"],
        requests=[list(request.values()) for request in real["arguments"].values()],
        responses=real["resps"],
        filtered=real["filtered_resps"],
        metrics={name: real[name] for name in real["metrics"]},
        filter=real["filter"],
    )


def test_synthetic_records_are_the_harness_s_to_the_last_hash(local_runs: LocalRuns) -> None:
    """Keys, their order, hashes and strings of every record of every kind of the real runs."""
    files = sorted(local_runs.baseline.rglob("samples_*.jsonl"))
    assert len(files) == len(LEAVES)
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            real = json.loads(line)
            assert json.dumps(_rebuilt(real), ensure_ascii=False) == line


def test_the_format_check_can_fail() -> None:
    """Control for the test above: a document that its hash does not belong to is seen."""
    sample = logs.choice(0, [-1.0, -2.0])
    assert _rebuilt(sample) == sample
    edited = {**sample, "doc": {**sample["doc"], "question": "edited"}}
    assert _rebuilt(edited) != edited


# Numbers


def test_log_likelihoods_are_read_without_loss(tmp_path: Path) -> None:
    """Logged as strings of all digits: what repr wrote comes back to the last bit."""
    values = _doubles(1000)
    records = [logs.choice(i, values[4 * i : 4 * i + 4]) for i in range(250)]
    for task in (_task(tmp_path, records), _alone(tmp_path, records)):
        found = read_samples(task)["none"]
        assert [repr(v) for v in found.loglikelihoods.ravel().tolist()] == [repr(v) for v in values]


def test_the_loss_check_can_fail() -> None:
    """Control for the test above: float32 would lose the digits of most of these numbers."""
    values = np.array(_doubles(1000))
    with np.errstate(over="ignore"):
        assert (values.astype(np.float32).astype(float) != values).mean() > 0.9


def test_minus_infinity_stays_and_pads_samples_with_fewer_choices(tmp_path: Path) -> None:
    """A choice that the model rules out is no missing choice: ``choices`` counts it."""
    found = _read(tmp_path, [logs.choice(0, [-inf, -1.0]), logs.choice(1, [-3.0, -1.0, -2.0])])
    assert found.loglikelihoods.tolist() == [[-inf, -1.0, -inf], [-3.0, -1.0, -2.0]]
    assert found.choices.tolist() == [2, 3]
    assert not found.unusable


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([-1.0, nan], "a log-likelihood is nan"),
        ([-inf, nan], "a log-likelihood is nan"),
        ([-1.0, inf], "a log-likelihood is +inf"),
        ([-inf, -inf], "no log-likelihood is finite"),
        ([inf, nan], "a log-likelihood is nan"),
    ],
)
@pytest.mark.parametrize("with_results", [True, False])
def test_samples_with_unusable_numbers_are_named(
    tmp_path: Path, values: list[float], reason: str, with_results: bool
) -> None:
    """By doc_id, whatever their place in the file; the samples beside them are usable."""
    records = [logs.choice(9, [-1.0, -2.0]), logs.choice(5, values), logs.choice(7, [-inf, -1.0])]
    task = _task(tmp_path, records) if with_results else _alone(tmp_path, records)
    assert read_samples(task)["none"].unusable == {5: reason}


def test_a_nan_metric_is_named_and_told_from_one_that_was_not_logged(tmp_path: Path) -> None:
    """Written by Python as NaN, which is not JSON; the line and the ones after it are still read."""
    records = [logs.choice(i, [-1.0, -2.0]) for i in range(3)]
    records[1]["acc"] = nan
    task = _task(tmp_path, records)
    assert '"acc": NaN' in task.path.read_text()
    found = read_samples(task)["none"]
    assert found.nan_metrics() == {1: "acc is nan"}
    assert not found.unusable
    assert found.metrics["acc"][[0, 2]].tolist() == [1.0, 1.0]
    assert found.metrics["acc_norm"].tolist() == [1.0, 1.0, 1.0]


def test_infinite_literals_are_read(tmp_path: Path) -> None:
    """-Infinity is the log-likelihood that a cloze task logs as its perplexity metric."""
    records = [logs.cloze(0, -inf, greedy=False), logs.cloze(1, -2.5, greedy=True)]
    task = _task(tmp_path, records)
    assert '"perplexity": -Infinity' in task.path.read_text()
    found = read_samples(task)["none"]
    assert found.metrics["perplexity"].tolist() == [-inf, -2.5]
    assert found.unusable == {0: "no log-likelihood is finite"}


@pytest.mark.parametrize(
    ("logged", "numbers"),
    [
        ([1, 0], [1.0, 0.0]),
        ([True, False], [1.0, 0.0]),
        (["True", "False"], [1.0, 0.0]),
        (["1.0", "0.25"], [1.0, 0.25]),
        ([0.1 + 0.2, 1e-320], [0.30000000000000004, 1e-320]),
    ],
)
def test_metrics_are_read_as_numbers_however_they_were_logged(
    tmp_path: Path, logged: list[Any], numbers: list[float]
) -> None:
    """The numpy's and torch's scalars end up as strings in some versions."""
    records = [
        logs.choice(i, [-1.0, -2.0], metrics=("graded",), graded=value)
        for i, value in enumerate(logged)
    ]
    assert _read(tmp_path, records).metrics["graded"].tolist() == numbers


@pytest.mark.parametrize(
    ("logged", "kind", "numbers"),
    [
        ([[0, 1], [1, 1]], "pair", [[0, 1], [1, 1]]),
        ([[True, False, True], [False]], "list", [[1, 0, 1], [0, nan, nan]]),
        ([[], [0.5]], "list", [[nan], [0.5]]),
        ([[1, [0.2, 0.8]], [0, [0.5, 0.25]]], "label and list", [[1, 0.2, 0.8], [0, 0.5, 0.25]]),
        (
            [[1, "[0.2 0.8]"], [0, "[1.5e-03 -inf]"]],
            "label and list",
            [[1, 0.2, 0.8], [0, 0.0015, -inf]],
        ),
        ([["a b", "a c"], ["1", "2"]], "text", [[], []]),
        (["(0, array([0.2, 0.8]))", "tensor([1., 2.])"], "text", [[], []]),
        ([{"precision": 1.0}, {"precision": 2.0}], "other", [[], []]),
        (["__import__('os').getcwd()"] * 2, "text", [[], []]),
    ],
)
def test_metrics_that_are_no_numbers_are_kept_as_what_they_are(
    tmp_path: Path, logged: list[Any], kind: str, numbers: list[list[float]]
) -> None:
    """Pairs, lists and labels keep their numbers, texts a digest; the other metrics stay."""
    metrics = ("acc", "graded")
    records = [
        logs.choice(i, [-1.0, -2.0], metrics=metrics, graded=value)
        for i, value in enumerate(logged)
    ]
    found = _read(tmp_path, list(reversed(records)))
    assert list(found.metrics) == ["acc"]
    values = found.values["graded"]
    assert values.kind == kind
    np.testing.assert_array_equal(values.numbers, numbers)
    assert values.counts.tolist() == [np.isfinite(row).sum() + row.count(-inf) for row in numbers]
    alike = logged[0] == logged[1]
    assert (values.digests[0] == values.digests[1]).all() == alike
    assert not found.unusable
    assert not found.opaque


@pytest.mark.parametrize(
    ("logged", "why"),
    [
        (None, "acc is None, which is no value"),
        ("", "acc is '', which is no value"),
        ({}, "acc is {}, which is no value"),
        ([0, 1], "acc is a list here and a number elsewhere"),
        ("right", "acc is a text here and a number elsewhere"),
        (3, "acc is 3.0, and can only be 0 or 1"),
        (-1, "acc is -1.0, and can only be 0 or 1"),
        (0.5, "acc is 0.5, and can only be 0 or 1"),
        (inf, "acc is inf, and can only be 0 or 1"),
        (10**400, "which is no value"),
    ],
)
@pytest.mark.parametrize("line", [0, 2, 4])
def test_a_value_that_is_none_is_named_with_its_line(
    tmp_path: Path, logged: Any, why: str, line: int
) -> None:
    """One bad value must not take its metric, or its task, out of a comparison."""
    records = [logs.choice(i, [-1.0, -2.0]) for i in range(5)]
    records[line]["acc"] = logged
    task = _task(tmp_path, records)
    message = _broken(task)
    assert message.startswith(f"'{task.path}' line {line + 1}, filter 'none', doc {line}: ")
    assert why in message


def test_a_task_s_own_rule_may_log_sentinels(tmp_path: Path) -> None:
    """RULER logs -1 under every length but the document's own; that is for its aggregation."""
    records = [
        {**logs.text(i, "a"), "metrics": ["4096"], "4096": -1.0 if i % 2 else 1.0} for i in range(4)
    ]
    found = _read(tmp_path, records, configs={"task": OWN_RULE})
    assert found.metrics["4096"].tolist() == [1.0, -1.0, 1.0, -1.0]


def test_a_metric_that_some_samples_lack_is_nan_there_and_no_fault(tmp_path: Path) -> None:
    """Tasks such as MuSR's or ifeval's log a metric only where it applies."""
    records = [
        logs.text(0, "a", exact_match=1.0),
        logs.text(1, "b", exact_match=0.0, extra=0.5),
        logs.text(2, "c", exact_match=1.0),
        logs.text(3, "d", extra=0.25),
    ]
    found = _read(tmp_path, records, configs={"task": OWN_RULE})
    np.testing.assert_array_equal(found.metrics["exact_match"], [1.0, 0.0, 1.0, nan])
    np.testing.assert_array_equal(found.metrics["extra"], [nan, 0.5, nan, 0.25])
    assert not found.unusable


# The four output types


def test_multiple_choice_gives_one_row_of_choices(tmp_path: Path) -> None:
    """Log-likelihoods, lengths in characters and bytes, and which choice is right."""
    found = _read(
        tmp_path, [logs.choice(3, [-1.5, -2.5, -0.5], gold=2, choices=("ä東", "b", "ccc"))]
    )
    assert found.kind == "choices"
    assert found.doc_id.tolist() == [3]
    assert found.loglikelihoods.tolist() == [[-1.5, -2.5, -0.5]]
    assert found.chars.tolist() == [[2, 1, 3]]
    assert found.bytes.tolist() == [[5, 1, 3]]
    assert found.gold.tolist() == [[False, False, True]]
    assert {name: values.tolist() for name, values in found.metrics.items()} == {
        "acc": [1.0],
        "acc_norm": [1.0],
    }


def test_cloze_gives_one_log_likelihood(tmp_path: Path) -> None:
    """The metrics are the log-likelihood, called perplexity, and whether it was greedy."""
    found = _read(tmp_path, [logs.cloze(0, -3.25, greedy=True), logs.cloze(1, -7.5, greedy=False)])
    assert found.kind == "cloze"
    assert found.loglikelihoods.tolist() == [[-3.25], [-7.5]]
    assert found.metrics["perplexity"].tolist() == [-3.25, -7.5]
    assert found.metrics["acc"].tolist() == [1.0, 0.0]


def test_rolling_gives_log_likelihood_and_units(tmp_path: Path) -> None:
    """A perplexity is logged as (log-likelihood, words or bytes)."""
    found = _read(
        tmp_path, [logs.rolling(0, -20.5, "drei graue Mäuse"), logs.rolling(1, -9.0, "a b")]
    )
    assert found.kind == "rolling"
    assert found.loglikelihoods.tolist() == [[-20.5], [-9.0]]
    assert {name: values.tolist() for name, values in found.units.items()} == {
        "word_perplexity": [3, 2],
        "byte_perplexity": [17, 3],
        "bits_per_byte": [17, 3],
    }
    for values in found.metrics.values():
        assert values.tolist() == [-20.5, -9.0]


def test_texts_of_more_than_one_block_are_read(tmp_path: Path) -> None:
    """A file is read in pieces of 256 kB: pages of a later one are of the same kind as the first."""
    pages = [logs.rolling(i, -1.0 - i, "words " * 2000) for i in range(40)]
    found = _read(tmp_path, pages)
    assert found.units["word_perplexity"].tolist() == [2000] * 40
    assert found.metrics["word_perplexity"].tolist() == [-1.0 - i for i in range(40)]


def test_an_empty_answer_is_not_its_target(tmp_path: Path) -> None:
    """Scored as right against a word, it cannot be; against nothing, or as wrong, it can."""
    honest = [
        logs.text(0, "4"),
        logs.text(1, "", said=["no"], exact_match=0.0),
        logs.text(2, "", target="", said=["."], exact_match=1.0),
    ]
    assert not _read(tmp_path / "honest", honest).unusable
    damaged = [*honest, logs.text(3, "", said=["4"], exact_match=1.0)]
    with pytest.raises(FlipsError, match=r"doc 3: its answer is empty, and exact_match .* is 1"):
        _read(tmp_path / "damaged", damaged)


def test_generated_text_gives_answers_that_can_only_be_compared(tmp_path: Path) -> None:
    """Equal answers have equal digests, other answers others; there is no log-likelihood."""
    found = _read(tmp_path, [logs.text(0, "4"), logs.text(1, "4"), logs.text(2, "four")])
    assert found.kind == "text"
    assert found.loglikelihoods.shape == (3, 0)
    assert (found.answer[0] == found.answer[1]).all()
    assert (found.answer[0] != found.answer[2]).any()
    assert found.metrics["exact_match"].tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        (logs.choice(0, [-1.0, -2.0]), "choices"),
        (logs.inputs(0, [-1.0, -2.0]), "choices"),
        (logs.cloze(0, -1.0, greedy=True), "cloze"),
        (logs.rolling(0, -1.0, "page"), "rolling"),
        (logs.text(0, "4"), "text"),
    ],
)
def test_without_results_the_requests_tell_the_kind(
    tmp_path: Path, sample: logs.Record, kind: str
) -> None:
    """A samples file alone is read like one with its results beside it."""
    alone = read_samples(_alone(tmp_path, [sample]))["none"]
    whole = read_samples(_task(tmp_path, [sample]))["none"]
    assert alone.kind == whole.kind == kind
    _equal(alone, whole, but=["task"])


def test_filters_are_kept_apart_in_logged_order(tmp_path: Path) -> None:
    """As gsm8k's two filters: the same documents twice, one Samples each."""
    strict = [logs.text(i, "4", filter="strict-match") for i in range(3)]
    loose = [logs.text(i, "5", filter="flexible-extract") for i in range(3)]
    found = read_samples(_task(tmp_path, [*strict, *loose]))
    assert list(found) == ["strict-match", "flexible-extract"]
    assert found["strict-match"].metrics["exact_match"].tolist() == [1.0, 1.0, 1.0]
    assert found["flexible-extract"].metrics["exact_match"].tolist() == [0.0, 0.0, 0.0]
    assert found["flexible-extract"].line.tolist() == [3, 4, 5]


def _filtered(changed: Callable[[logs.Record], None]) -> list[logs.Record]:
    """Two documents under two filters; the last record is changed."""
    records = [
        logs.text(i, "4", filter=name)
        for name in ("strict-match", "flexible-extract")
        for i in (0, 1)
    ]
    changed(records[-1])
    return records


def test_a_sample_that_lacks_what_the_model_wrote_is_refused(tmp_path: Path) -> None:
    """Lengths and equal texts are counted of it."""
    records = _filtered(lambda record: record.pop("resps"))
    with pytest.raises(FlipsError, match="line 4, .* lacks resps, and others log them"):
        read_samples(_task(tmp_path, records))


def test_another_text_under_another_filter_is_a_fault(tmp_path: Path) -> None:
    """All filters are given what the model wrote once."""
    records = _filtered(lambda record: record.update(resps=[["5, no: 4"]]))
    found = read_samples(_task(tmp_path, records))
    assert found["strict-match"].faults == ()
    (fault,) = found["flexible-extract"].faults
    assert fault.severity == "fault"
    assert "'strict-match' and 'flexible-extract' the model wrote other texts (doc 1)" in str(fault)


@pytest.mark.parametrize("name", ["\x1b]0;t\x07", 'a"b', "a\nb"])
def test_a_metric_with_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    """Control characters and quotes: no field can be called so."""
    records = [logs.choice(i, [-1.0, -2.0]) for i in range(2)]
    records[1]["metrics"] = ["acc", name]
    with pytest.raises(FlipsError, match="line 2 is not a sample of lm_eval: a metric is called"):
        read_samples(_alone(tmp_path, records))


def test_one_text_under_all_filters_is_read(tmp_path: Path) -> None:
    """Control, also where no record has it, as a cut-down log does."""
    whole = read_samples(_task(tmp_path / "whole", _filtered(lambda record: None)))
    assert [own.faults for own in whole.values()] == [(), ()]
    bare = _filtered(lambda record: None)
    for record in bare:
        del record["resps"]
        record["filtered_resps"] = [record["filter"]]
    found = read_samples(_task(tmp_path / "bare", bare))
    assert [own.faults for own in found.values()] == [(), ()]


def test_repeats_are_one_sample_with_the_filtered_answer(tmp_path: Path) -> None:
    """What was said three times and voted on is judged by the vote, not by the first response."""
    voted = logs.text(0, "4", said=["5", "4", "4"])
    assert voted["resps"] == [["5", "4", "4"]]
    once = logs.text(1, "4")
    found = _read(tmp_path, [voted, once])
    assert len(found) == 2
    assert (found.answer[0] == found.answer[1]).all()


def test_mutual_information_splits_off_the_unconditional_half(tmp_path: Path) -> None:
    """acc_mutual_info doubles the requests; the second half has no context."""
    metrics = ("acc", "acc_mutual_info")
    found = _read(
        tmp_path,
        [
            logs.choice(0, [-4.0, -5.0], unconditional=[-3.0, -9.0], metrics=metrics),
            logs.choice(1, [-4.0, -5.0, -6.0], unconditional=[-1.0, -2.0, -3.0], metrics=metrics),
        ],
    )
    assert found.choices.tolist() == [2, 3]
    assert found.loglikelihoods.tolist() == [[-4.0, -5.0, -inf], [-4.0, -5.0, -6.0]]
    assert found.unconditional is not None
    assert found.unconditional.tolist() == [[-3.0, -9.0, 0.0], [-1.0, -2.0, -3.0]]
    assert found.chars.tolist()[1] == [3, 3, 3]


def test_other_tasks_have_no_unconditional_half(tmp_path: Path) -> None:
    """Control for the test above: an even number of choices is not halved."""
    found = _read(tmp_path, [logs.choice(0, [-4.0, -5.0, -3.0, -9.0])])
    assert found.unconditional is None
    assert found.choices.tolist() == [4]


# Lengths and right choices


@pytest.mark.parametrize(
    ("written", "configured", "chat"),
    [
        (" ", {}, None),
        ("", {}, "{{ chat }}"),
        (" ", {"gen_prefix": "So:"}, "{{ chat }}"),
        ("\n", {"target_delimiter": "\n"}, None),
    ],
)
def test_lengths_leave_the_delimiter_out(
    tmp_path: Path, written: str, configured: dict[str, Any], chat: str | None
) -> None:
    """The harness normalises by the choice alone; a chat template drops the space before it."""
    found = _read(
        tmp_path,
        [logs.choice(0, [-1.0, -2.0], choices=(" größe", "b"), delimiter=written)],
        configs={"task": configured},
        chat_template=chat,
    )
    assert found.chars.tolist() == [[6, 1]]
    assert found.bytes.tolist() == [[8, 1]]


def test_lengths_are_unknown_where_the_delimiter_is_not_what_was_logged(tmp_path: Path) -> None:
    """A guess would be off by one for every choice; nan stops length-normalised measures."""
    found = _read(tmp_path, [logs.choice(0, [-1.0, -2.0], gold=1, delimiter="")])
    assert np.isnan(found.chars).all()
    assert np.isnan(found.bytes).all()
    assert not found.gold.any()


def test_choices_that_are_contexts_have_no_known_length(tmp_path: Path) -> None:
    """As in winogrande: the continuation is the same, its length is not the choice's."""
    found = _read(tmp_path, [logs.inputs(0, [-1.0, -2.0], gold=1)])
    assert found.choices.tolist() == [2]
    assert np.isnan(found.chars).all()
    assert np.isnan(found.bytes).all()
    assert not found.gold.any()


@pytest.mark.parametrize(
    ("target", "choices", "gold"),
    [
        (1, ("yes", "no"), [1]),
        ("no", ("yes", "no"), [1]),
        ([0, 2], ("a", "b", "c"), [0, 2]),
        ("1", ("0", "1"), [1]),  # index and text agree
        ("1", ("1", "2"), []),  # index says 2, text says 1
        ("7", ("5", "7"), [1]),  # no such index: a text
        ("2", ("5", "7"), []),
        (-100, ("a", "b"), []),
        (-1, ("a", "b"), []),
        ("True", ("False", "True"), [1]),
        ("maybe", ("yes", "no"), []),
        ("", ("yes", "no"), []),
        ("[0]", ("a", "b"), [0]),
        ([], ("a", "b"), []),
        ([0, 5], ("a", "b"), []),
        ("1.0", ("a", "b"), []),
        ("{0}", ("a", "b"), []),
        ("東", ("木", "東"), [1]),
    ],
)
def test_the_right_choices_come_from_the_target(
    tmp_path: Path, target: Any, choices: tuple[str, ...], gold: list[int]
) -> None:
    """An index, a list of them, or a text; digits that could be either tell nothing."""
    found = _read(tmp_path, [logs.choice(0, [-1.0] * len(choices), choices=choices, target=target)])
    assert np.flatnonzero(found.gold[0]).tolist() == gold


@pytest.mark.parametrize(
    "target",
    [
        "(" * 300,
        "[" * 100_000,
        "-" * 6000 + "1",
        "+" * 100_000 + "1",
        "9" * 5000,
        "'\\d'",
        "\0",
        "'''",
    ],
    ids=["parentheses", "brackets", "signs", "many signs", "digits", "escape", "null", "quotes"],
)
def test_a_target_that_strains_a_parser_is_text(tmp_path: Path, target: str) -> None:
    """Nesting, length and bad escapes end in neither an error nor a warning."""
    found = _read(tmp_path, [logs.choice(0, [-1.0, -2.0], choices=("a", target), target=target)])
    assert found.gold.tolist() == [[False, True]]


def test_the_harness_s_rules_give_the_logged_metrics_back(local_runs: LocalRuns) -> None:
    """Lengths, right choices and halves as read reproduce acc, acc_norm, acc_bytes and MI of a run."""
    run = load_run(local_runs.baseline)
    checked = 0
    for name in ("tiny_choice", "tiny_mutual"):
        found = read_samples(run.tasks[name])["none"]
        scores = found.loglikelihoods
        compared = {
            "acc": scores,
            "acc_norm": scores / found.chars,
            "acc_bytes": scores / found.bytes,
            "acc_mutual_info": scores - (0 if found.unconditional is None else found.unconditional),
        }
        for metric, logged in found.metrics.items():
            best = np.where(np.isfinite(compared[metric]), compared[metric], -inf).argmax(-1)
            right = found.gold[np.arange(len(best)), best]
            assert right.tolist() == (logged == 1).tolist(), metric
            checked += len(best)
    assert checked == 3 * 20 + 2 * 12


# Order, places and digests


def _kinds(count: int) -> dict[str, list[logs.Record]]:
    generator = random.Random(3)
    return {
        "choices": [
            logs.choice(
                i,
                [-10 * generator.random() for _ in range(2 + i % 3)],
                gold=i % 2,
                metrics=("acc", "acc_mutual_info"),
                unconditional=[-generator.random() for _ in range(2 + i % 3)],
            )
            for i in range(count)
        ],
        "inputs": [logs.inputs(i, [-i - 1.0, -2.5]) for i in range(count)],
        "cloze": [logs.cloze(i, -i - 0.5, greedy=i % 2 == 0) for i in range(count)],
        "text": [logs.text(i, str(i % 5)) for i in range(count)],
        "rolling": [logs.rolling(i, -i - 0.5, "word " * (i + 1)) for i in range(count)],
    }


@pytest.mark.parametrize("kind", sorted(_kinds(1)))
def test_the_order_of_the_file_does_not_matter(tmp_path: Path, kind: str) -> None:
    """Two ranks' samples are gathered as 0, 2, 4, 1, 3, 5: all columns come out sorted by doc_id."""
    records = _kinds(6)[kind]
    ranked = [records[i] for i in (0, 2, 4, 1, 3, 5)]
    straight, gathered = _read(tmp_path / "1", records), _read(tmp_path / "2", ranked)
    assert straight.doc_id.tolist() == gathered.doc_id.tolist() == [0, 1, 2, 3, 4, 5]
    assert gathered.line.tolist() == [0, 3, 1, 4, 2, 5]
    _equal(straight, gathered, but=["task", "line"])


def test_the_order_check_can_fail(tmp_path: Path) -> None:
    """Control for the test above: two documents with their numbers exchanged are seen."""
    records = _kinds(6)["choices"]
    exchanged = [dict(found) for found in records]
    exchanged[2]["doc_id"], exchanged[4]["doc_id"] = 4, 2
    straight, mixed = _read(tmp_path / "1", records), _read(tmp_path / "2", exchanged)
    with pytest.raises(AssertionError, match="hashes document"):
        _equal(straight, mixed, but=["task", "line"])


def test_the_lines_of_samples_can_be_read_again(tmp_path: Path) -> None:
    """``line`` counts from 0 and leads to the record, text and all."""
    records = [logs.text(i, f"Größe {i}") for i in (4, 2, 9)]
    task = _task(tmp_path, records)
    found = read_samples(task)["none"]
    lines = dict(each_line(task, set(found.line[1:].tolist())))
    assert lines == {0: records[0], 2: records[2]}
    assert [lines[line]["doc_id"] for line in found.line[1:].tolist()] == [4, 9]


def test_documents_are_read_line_by_line(tmp_path: Path) -> None:
    """Every line's document, in the order of the lines that the samples name; of both filters."""
    records = [
        logs.text(i, f"Größe {i}", filter=name) for name in ("strict", "loose") for i in (4, 2, 9)
    ]
    task = _task(tmp_path, records)
    documents = list(read_documents(task))
    assert documents == [found["doc"] for found in records]
    for found in read_samples(task).values():
        said = [documents[line]["question"] for line in found.line.tolist()]
        assert said == [f"Problem {doc}" for doc in found.doc_id.tolist()]


def test_documents_are_read_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is longer than a block, and a last one without its end: none is lost."""
    records = [
        logs.choice(i, [-1.0, -2.0], question=f"{i} " + "ü" * (i % 7 * 50)) for i in range(40)
    ]
    task = _task(tmp_path, records)
    task.path.write_text(task.path.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    monkeypatch.setattr("lm_eval_flips.logs.reading.STEP", 300)
    assert list(read_documents(task)) == [found["doc"] for found in records]


@pytest.mark.parametrize("doc", [None, "text", ["a"], 3])
def test_a_document_that_has_no_fields_is_empty(tmp_path: Path, doc: Any) -> None:
    """One that is no object, or is not logged: nothing to look a field up in."""
    records = [logs.choice(i, [-1.0, -2.0]) for i in range(3)]
    records[1]["doc"] = doc
    del records[2]["doc"]
    assert list(read_documents(_task(tmp_path, records))) == [records[0]["doc"], {}, {}]


def _named(field: str) -> Callable[[logs.Record], None]:
    def change(sample: logs.Record) -> None:
        sample[field] = logs.digest("another")

    return change


def _argument(request: str, argument: str, value: Any) -> Callable[[logs.Record], None]:
    def change(sample: logs.Record) -> None:
        sample["arguments"][request][argument] = value

    return change


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (_named("doc_hash"), "document"),
        (_named("prompt_hash"), "prompt"),
        (_named("target_hash"), "target"),
        (_argument("gen_args_1", "arg_1", " another"), "arguments"),
        (_argument("gen_args_1", "arg_0", "Another:"), "arguments"),
        (_argument("gen_args_0", "arg_2", {"visual": ["image"]}), "arguments"),
    ],
)
def test_each_difference_shows_in_one_hash(
    tmp_path: Path, change: Callable[[logs.Record], None], column: str
) -> None:
    """Document, prompt and target as the harness hashed them, and all that it asked."""
    plain, changed = logs.choice(0, [-1.0, -2.0, -3.0]), logs.choice(0, [-1.0, -2.0, -3.0])
    change(changed)
    ours, theirs = _read(tmp_path / "1", [plain]), _read(tmp_path / "2", [changed])
    differing = [name for name in ours.hashes if (ours.hashes[name] != theirs.hashes[name]).any()]
    assert differing == [column]


def test_the_digest_of_arguments_takes_no_account_of_key_order() -> None:
    """Generation settings are a dict, whose order differs between a YAML and the command line."""
    one = [Request(arg_0="Q", arg_1={"until": ["\n"], "do_sample": False})]
    two = [Request(arg_0="Q", arg_1={"do_sample": False, "until": ["\n"]})]
    other = [Request(arg_0="Q", arg_1={"do_sample": True, "until": ["\n"]})]
    assert arguments_digest(one) == arguments_digest(two) != arguments_digest(other)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([("Q", " A"), ("Q", " B")], [("Q", " A"), ("R", " B")]),
        ([("Q", " A"), ("Q", " B")], [("Q", " B"), ("Q", " A")]),
        ([("Q", " A"), ("R", " A")], [("R", " A"), ("Q", " A")]),
        ([("Q", " A")], [("Q A", "")]),
        ([("Q", "1")], [("Q", 1)]),
        ([("Q", None)], [("Q", "")]),
        ([("Q", " A"), ("Q", None)], [("Q", " A")]),
    ],
)
def test_other_arguments_have_other_digests(
    left: list[tuple[Any, Any]], right: list[tuple[Any, Any]]
) -> None:
    """Contexts that are shared or not, order, borders and types all count."""
    digests = [
        arguments_digest([Request(arg_0=context, arg_1=more) for context, more in requests])
        for requests in (left, right)
    ]
    assert digests[0] != digests[1]


def test_non_ascii_text_is_read(tmp_path: Path) -> None:
    """The harness writes UTF-8, not escapes; lone halves of a pair are escaped and read too."""
    records = [
        logs.choice(
            0, [-1.0, -2.0], question="東京はどこ？", choices=("東京", "Zürich 🦆"), gold=1
        ),
        logs.choice(
            1, [-1.0, -2.0], question="\u2028\u0085 line breaks", choices=("a\u2028b", "c")
        ),
    ]
    found = _read(tmp_path, records)
    assert len(found) == 2
    assert found.chars.tolist() == [[2, 8], [3, 1]]
    assert found.bytes.tolist() == [[6, 12], [5, 1]]
    assert found.gold[0].tolist() == [False, True]


def _uneven(sample: logs.Record) -> logs.Record:
    """A sample that no neighbour has the shape of: five choices, one context apart."""
    found = logs.choice(999, [-1.0] * 5)
    found["arguments"]["gen_args_4"]["arg_0"] = "Elsewhere:"
    return {**found, "metrics": sample["metrics"], **{m: sample[m] for m in sample["metrics"]}}


@pytest.mark.parametrize(
    "sample",
    [
        logs.choice(0, [-1.0, -2.0], gold=1),
        logs.choice(0, [-1.0, -2.0], target=[0, 1]),
        logs.choice(0, [-1.0, -2.0], target=[0, 5]),
        logs.choice(0, [-1.0, -2.0], target="1", choices=("1", "2")),
        logs.choice(0, [-1.0, -2.0], target="elm"),
        logs.choice(0, [-1.0, -2.0], target="none of these"),
        logs.choice(0, [-1.0, -2.0], target=-1),
        logs.choice(0, [-1.0, -2.0], choices=("größe", "b")),
        logs.choice(0, [-1.0, -2.0], choices=("same", "same"), target="same"),
        logs.choice(0, [-1.0, -2.0], delimiter=""),
        logs.inputs(0, [-1.0, -2.0]),
    ],
    ids=lambda sample: sample["target"] or "empty",
)
def test_a_sample_is_read_alike_whatever_stands_beside_it(
    tmp_path: Path, sample: logs.Record
) -> None:
    """Samples are converted many at once; company of another shape takes another way there."""
    alone = _read(tmp_path / "1", [sample])
    beside = _read(tmp_path / "2", [sample, _uneven(sample)])
    assert beside.doc_id.tolist() == [0, 999]
    for name in ("document", "target", "prompt", "arguments"):
        assert (alone.hashes[name][0] == beside.hashes[name][0]).all(), name
    for name in ("loglikelihoods", "chars", "bytes", "gold"):
        np.testing.assert_array_equal(getattr(alone, name)[0], getattr(beside, name)[0, :2], name)


def test_an_odd_hash_changes_no_other_sample_s(tmp_path: Path) -> None:
    """A hash that is not hexadecimal is hashed itself; its neighbours' are kept as they are."""
    records = [logs.choice(i, [-1.0, -2.0]) for i in range(4)]
    plain = _read(tmp_path / "1", records)
    records[2]["doc_hash"] = "edited"
    edited = _read(tmp_path / "2", records)
    differs = (plain.hashes["document"] != edited.hashes["document"]).any(-1)
    assert differs.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    "sample",
    [
        logs.choice(0, [-1.0, -2.0], question="Half?"),
        logs.text(0, "Half?"),
        logs.rolling(0, -1.0, "Half?"),
    ],
    ids=["question", "answer", "page"],
)
def test_half_a_surrogate_pair_is_text_too(tmp_path: Path, sample: logs.Record) -> None:
    """Valid as an escape in JSON, invalid in UTF-8: read, or refused by name, never a traceback."""
    task = _task(tmp_path, [sample])
    task.path.write_text(task.path.read_text().replace("Half?", "\\ud83e"))
    assert json.loads(task.path.read_text())
    try:
        found = read_samples(task)
    except FlipsError as error:
        assert "line 1" in str(error)  # noqa: PT017  (either is right)
    else:
        assert len(found["none"]) == 1


# What is not a samples file


def _cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:-size])


def test_a_cut_off_line_is_named(tmp_path: Path) -> None:
    """A full disk leaves half a line; file and line are in the message."""
    task = _task(tmp_path, [logs.choice(i, [-1.0, -2.0]) for i in range(3)])
    _cut(task.path, 40)
    assert _broken(task) == (
        f"'{task.path}' line 3 is not JSON (Input data was truncated); the file was cut off or edited: "
        "rerun this task"
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"Traceback (most recent call last):", "invalid character"),
        (b"\xff\xfe\x00", "invalid character"),
        (b"\x80\x04K*.", "invalid character"),
        (b"{'doc_id': 0}", "invalid character|object keys must be strings"),
    ],
)
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: bytes, why: str) -> None:
    """Text, other encodings, a pickle, a Python dict between two samples."""
    task = _task(tmp_path, [logs.choice(i, [-1.0, -2.0]) for i in range(2)])
    first, last = task.path.read_bytes().splitlines()
    task.path.write_bytes(b"\n".join([first, line, last]) + b"\n")
    with pytest.raises(FlipsError, match=f"line 2 is not JSON .*({why})"):
        read_samples(task)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"doc_id": None}, r"Expected `int`, got `null` - at `\$.doc_id`"),
        ({"doc_id": "one"}, r"Expected `int`, got `str` - at `\$.doc_id`"),
        ({"arguments": []}, r"Expected `object`, got `array` - at `\$.arguments`"),
        ({"filtered_resps": None}, r"got `null` - at `\$.filtered_resps`"),
        ({"metrics": None}, r"Expected `array`, got `null` - at `\$.metrics`"),
    ],
)
def test_a_line_of_another_shape_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    """JSON, but not a sample: the field is named too."""
    samples = [logs.choice(0, [-1.0, -2.0]), logs.choice(1, [-1.0, -2.0]) | change]
    task = _task(tmp_path, [samples[0]], n_samples={})
    logs.write_samples(task.path, samples)
    with pytest.raises(FlipsError, match=rf"line 2 is not a sample of lm_eval: .*{why}"):
        read_samples(task)


@pytest.mark.parametrize(
    "responses",
    [
        [["-1.0", "False"]],  # fewer than requests
        [["-1.0", "False"]] * 3,  # more
        [["low", "False"], ["high", "False"]],
        ["no", "yes"],
        [[], []],
        [],
    ],
)
@pytest.mark.parametrize("with_results", [True, False])
def test_responses_that_are_no_log_likelihoods_of_the_requests_are_an_error(
    tmp_path: Path, responses: list[Any], with_results: bool
) -> None:
    """The document or the line is named; nothing is paired with a choice it does not belong to."""
    samples = [logs.choice(7, [-1.0, -2.0]) | {"filtered_resps": responses}]
    task = _task(tmp_path, samples) if with_results else _alone(tmp_path, samples)
    with pytest.raises(
        FlipsError, match=r"doc 7: the logged responses .* are not log-likelihoods|line 1"
    ):
        read_samples(task)


def test_a_sample_of_an_old_lm_eval_is_named(tmp_path: Path) -> None:
    """Before 0.4.7 samples had no filter and no list of metrics."""
    old = logs.choice(0, [-1.0, -2.0])
    del old["filter"], old["metrics"]
    task = _alone(tmp_path, [old])
    assert _broken(task) == (
        f"'{task.path}' line 1 was written by lm_eval < 0.4.7 (no filter is logged); rerun with >= "
        "0.4.7"
    )


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    """Not a result over zero samples."""
    task = _task(tmp_path, [logs.choice(0, [-1.0, -2.0])])
    task.path.write_text("")
    assert _broken(task) == f"'{task.path}' is empty; rerun lm_eval with --log_samples"


def test_fewer_samples_than_the_results_say_is_an_error(tmp_path: Path) -> None:
    """A file that was cut off between two lines is whole JSON, and still not whole."""
    task = _task(tmp_path, [logs.choice(i, [-1.0, -2.0]) for i in range(5)])
    lines = task.path.read_bytes().splitlines(keepends=True)
    task.path.write_bytes(b"".join(lines[:3]))
    assert _broken(task) == (
        f"task 'task': '{task.path}' holds 3 samples under filter 'none' but the results say 5; the "
        "file was cut off: rerun this task"
    )


@pytest.mark.parametrize("version", ["0.4.9.1", "0.4.13"])
def test_a_cut_log_is_told_by_its_score_where_the_results_name_no_length(
    tmp_path: Path, version: str
) -> None:
    """Before sample_len was logged, 3 samples of 100 passed for the run."""
    records = [logs.text(i, "4" if i else "5") for i in range(3)]
    scores = {"task": {"alias": "task", "exact_match,none": 0.77}}
    counts = {"task": {"original": 1319, "effective": 100}}
    task = _task(tmp_path, records, results=scores, n_samples=counts, lm_eval_version=version)
    assert _broken(task) == (
        f"task 'task': '{task.path}' holds 3 samples under filter 'none' but the results say 100 "
        "(the samples give exact_match 0.666667 under filter 'none', the results say 0.77 (3 of 100 "
        "samples)); the file was cut off: rerun this task"
    )


def test_more_samples_than_the_results_say_are_those_of_another_run(tmp_path: Path) -> None:
    """Two files that were put together, or a score that lies beside other samples."""
    task = _task(tmp_path, [logs.choice(i, [-1.0, -2.0]) for i in range(3)])
    extra = json.dumps(logs.choice(3, [-1.0, -2.0])) + "\n"
    task.path.write_text(task.path.read_text() + extra)
    assert "holds 4 samples under filter 'none' but the results say 3; it holds" in _broken(task)


def test_a_score_that_the_samples_do_not_give_is_a_fault(tmp_path: Path) -> None:
    """As many samples as were counted, and others: the run is read, and is not to be believed."""
    records = [logs.choice(i, [-1.0, -2.0], gold=i % 2) for i in range(4)]
    right = _read(tmp_path / "1", records)
    assert right.faults == ()
    scores = {"task": {"sample_len": 4, "acc,none": 0.75, "acc_norm,none": 0.5}}
    (fault,) = _read(tmp_path / "2", records, results=scores).faults
    assert (fault.code, fault.task, fault.severity) == ("score-differs", "task", "fault")
    assert fault.text == (
        "the samples give acc 0.5 under filter 'none', the results say 0.75 (4 of 4 samples)"
    )


def test_a_filter_with_fewer_samples_than_the_results_say_is_an_error(tmp_path: Path) -> None:
    """The second filter's samples come last, and are what a cut takes."""
    records = [logs.text(i, "4", filter=name) for name in ("one", "two") for i in range(3)]
    task = _task(tmp_path, records)
    lines = task.path.read_bytes().splitlines(keepends=True)
    task.path.write_bytes(b"".join(lines[:-1]))
    assert "holds 2 samples under filter 'two' but the results say 3" in _broken(task)


def test_a_subset_run_of_lm_eval_0_4_9_is_whole(tmp_path: Path) -> None:
    """Up to 0.4.11 n-samples took no account of --samples: "effective" is then the whole data set."""
    records = [logs.choice(i, [-1.0, -2.0]) for i in (2, 5, 7)]
    counts = {"task": {"original": 100, "effective": 100}}
    found = _read(tmp_path, records, n_samples=counts, lm_eval_version="0.4.9")
    assert found.doc_id.tolist() == [2, 5, 7]


def test_a_document_twice_under_one_filter_is_an_error(tmp_path: Path) -> None:
    """Two processes on one CPU score everything twice."""
    records = [logs.choice(i, [-1.0, -2.0]) for i in (4, 1, 2, 1, 4, 4)]
    task = _task(tmp_path, records)
    assert _broken(task) == (
        f"task 'task', filter 'none': 2 documents appear more than once in '{task.path}' (doc 1, 4); "
        "on a CPU torchrun scores everything twice: rerun in one process"
    )


def test_equal_documents_under_two_numbers_are_two_samples(tmp_path: Path) -> None:
    """Control for the test above: data sets do hold duplicates, and their hashes are equal."""
    found = _read(tmp_path, [logs.choice(i, [-1.0, -2.0], question="Same?") for i in (0, 1)])
    assert len(found) == 2
    assert (found.hashes["document"][0] == found.hashes["document"][1]).all()


# Safety


def test_nothing_that_is_read_is_executed(tmp_path: Path) -> None:
    """Code in a target, a response, a metric or a document stays text."""
    proof = tmp_path / "executed"
    code = f"__import__('pathlib').Path({str(proof)!r}).touch()"
    hostile = [
        logs.choice(0, [-1.0, -2.0], choices=(code, "b"), question=code, target=code, acc=code),
        logs.choice(1, [-1.0, -2.0], target=f"[{code}]", acc=code),
        logs.choice(2, [-1.0, -2.0], target=f"f'{{{code}}}'", acc=code),
    ]
    found = _read(tmp_path / "1", hostile)
    assert np.flatnonzero(found.gold[0]).tolist() == [0]
    assert found.values["acc"].kind == "text"
    _read(tmp_path / "2", [logs.text(0, code, target=code, exact_match=1.0)])
    responses = [logs.choice(0, [-1.0, -2.0]) | {"filtered_resps": [[code, "x"], [code, "x"]]}]
    with pytest.raises(FlipsError, match="line 1 is not a sample|are not log-likelihoods"):
        _read(tmp_path / "3", responses)
    assert not proof.exists()
    eval(code)  # control: the code does what it says
    assert proof.exists()


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    """Under the name of a samples file it is a line that is not JSON."""
    proof = tmp_path / "unpickled"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return proof.touch, ()

    content = pickle.dumps(Hostile())
    file = tmp_path / f"samples_task_{logs.DATE}.jsonl"
    file.write_bytes(content)
    assert "line 1 is not JSON" in _broken(load_run(file).tasks["task"])
    assert not proof.exists()
    pickle.loads(content)  # control: the pickle does what it says
    assert proof.exists()


# Size


def _large(folder: Path, samples: int) -> TaskLog:
    """4 kB of text a sample, as logged by MMLU with five shots."""
    question = "word " * 800
    return _task(
        folder,
        [
            logs.choice(i, [-1.0 - i, -2.0, -3.0, -4.0], question=f"{question}{i}")
            for i in range(samples)
        ],
    )


def test_no_text_is_kept(tmp_path: Path) -> None:
    """Three thousand samples of 20 kB leave less than half a kB each in memory."""
    task = _large(tmp_path, 3000)
    assert task.path.stat().st_size > 3000 * 20_000
    read_samples(task)  # decoders and caches are there from now on
    gc.collect()
    tracemalloc.start()
    try:
        found = read_samples(task)
        kept, peak = tracemalloc.get_traced_memory()
        control = [json.loads(line) for line in task.path.open()]
        loaded = tracemalloc.get_traced_memory()[0] - kept
    finally:
        tracemalloc.stop()
    assert len(found["none"]) == len(control) == 3000
    assert kept < 3000 * 500
    assert peak < task.path.stat().st_size / 2
    assert loaded > 3000 * 500  # control: the records themselves would not pass


def test_a_line_longer_than_a_reading_step_is_read(tmp_path: Path) -> None:
    """Files are read in steps of megabytes; lines end where they end."""
    samples = [
        logs.choice(0, [-1.0, -2.0]),
        logs.choice(1, [-3.0, -4.0], question="long " * 1_200_000),
        logs.choice(2, [-5.0, -6.0]),
    ]
    task = _task(tmp_path, samples)
    task.path.write_bytes(task.path.read_bytes()[:-1])  # and without a newline at the end
    sizes: list[int] = []
    found = read_samples(task, progress=sizes.append)["none"]
    assert found.loglikelihoods.tolist() == [[-1.0, -2.0], [-3.0, -4.0], [-5.0, -6.0]]
    assert found.line.tolist() == [0, 1, 2]
    assert sum(sizes) == task.path.stat().st_size
    assert len(sizes) > 1


def test_more_samples_than_are_converted_at_once_are_read(tmp_path: Path) -> None:
    """Chunks are joined in order, also where the metrics change within one."""
    records = [
        logs.choice(i, [-1.0 - i, -2.0], metrics=("acc",) if i < 1500 else ("acc", "acc_norm"))
        for i in range(2500)
    ]
    found = _read(tmp_path, records, configs={"task": OWN_RULE})
    assert found.loglikelihoods[:, 0].tolist() == [-1.0 - i for i in range(2500)]
    assert np.isnan(found.metrics["acc_norm"]).tolist() == [i < 1500 for i in range(2500)]
    assert found.metrics["acc"].tolist() == [record["acc"] for record in records]


def test_other_processes_read_the_same(tmp_path: Path) -> None:
    """A reader with workers gives what reading here gives, prefetched or not, errors included."""
    kinds = _kinds(4)
    kinds["broken"] = [logs.choice(0, [-1.0, -2.0])] * 2
    tasks = load_run(logs.write_run(tmp_path, kinds)).tasks
    with SampleReader(workers=1) as read:
        read.prefetch([task for name, task in tasks.items() if name != "cloze"])
        for name in sorted(set(kinds) - {"broken"}):
            ours, theirs = read_samples(tasks[name])["none"], read(tasks[name])["none"]
            _equal(ours, theirs)
        with pytest.raises(FlipsError, match="1 documents appear more than once"):
            read(tasks["broken"])


def test_every_number_of_a_real_run_is_read_without_loss(local_runs: LocalRuns) -> None:
    """Held against plain json and float, for every task, filter and sample of both runs."""
    numbers = 0
    for folder in local_runs:
        for task in load_run(folder).tasks.values():
            found = read_samples(task)
            lines = [
                json.loads(line) for line in task.path.read_text(encoding="utf-8").splitlines()
            ]
            assert list(found) == list(dict.fromkeys(line["filter"] for line in lines))
            for line in lines:
                samples = found[line["filter"]]
                row = samples.doc_id.tolist().index(line["doc_id"])
                assert samples.hashes["document"][row].tobytes().hex() == line["doc_hash"][:32]
                for metric in line["metrics"]:
                    value = line[metric]
                    logged = value[0] if isinstance(value, list) else value
                    assert samples.metrics[metric][row] == logged
                if samples.kind == "text":
                    continue
                logged = [float(r if isinstance(r, str) else r[0]) for r in line["filtered_resps"]]
                own = samples.loglikelihoods[row, : samples.choices[row]].tolist()
                if samples.unconditional is not None:
                    own += samples.unconditional[row, : samples.choices[row]].tolist()
                assert own == logged
                numbers += len(own)
    assert numbers > 300


def test_a_metric_named_like_a_field_is_refused_or_kept(tmp_path: Path) -> None:
    """A custom metric may be called `target`: never a traceback, never the wrong number."""
    sample = logs.text(0, "4", exact_match=1.0) | {
        "metrics": ["exact_match", "target"],
        "target": 0.5,
    }
    try:
        found = _read(tmp_path, [sample])
    except FlipsError:
        return
    assert found.metrics["exact_match"].tolist() == [1.0]


def test_units_are_missing_where_the_metric_is_none_of_the_perplexities(tmp_path: Path) -> None:
    """nan, not 0: a score over zero units would be a division by nothing."""
    found = _read(tmp_path, [logs.cloze(0, -1.0, greedy=True)])
    assert all(isnan(value) for values in found.units.values() for value in values.tolist())


def test_the_decoder_is_msgspec_s_and_knows_no_code() -> None:
    """Control for the safety tests: the reader's library has no hook that builds objects by name."""
    with pytest.raises(msgspec.ValidationError, match="Expected `int`"):
        msgspec.json.decode(b'"__import__"', type=int)


def test_greedy_flags_are_kept_choice_by_choice(tmp_path: Path) -> None:
    """1 and 0 as logged, -1 beyond a sample's own choices and where the log does not tell."""
    first, second = logs.choice(0, [-1.0, -2.0, -3.0]), logs.choice(1, [-2.0, -1.0])
    first["filtered_resps"][1][1] = first["resps"][1][0][1] = "True"
    second["filtered_resps"][0][1] = second["resps"][0][0][1] = None
    run = load_run(logs.write_run(tmp_path, {"task": [first, second]}))
    (found,) = read_samples(run.tasks["task"]).values()
    assert found.greedy.tolist() == [[0, 1, 0], [-1, 0, -1]]


def test_all_that_a_model_wrote_is_kept_beside_its_filtered_answer(tmp_path: Path) -> None:
    """Two chains of thought that end alike differ; the longest text's length is told."""
    records = [logs.text(0, "4", said=["so 4"]), logs.text(1, "4", said=["hence", "it is 4"])]
    records[0]["arguments"]["gen_args_0"]["arg_1"] |= {"do_sample": True, "temperature": 0.6}
    run = load_run(logs.write_run(tmp_path, {"task": records}))
    (found,) = read_samples(run.tasks["task"]).values()
    assert (found.answer[0] == found.answer[1]).all()
    assert (found.response[0] != found.response[1]).any()
    assert found.response_length.tolist() == [4, 7]
    assert found.sampling == {"do_sample": True, "temperature": 0.6}
