"""Samples that share a field's value: statsmodels' clustered errors, from runs on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_eval_flips import FlipsError, Row, compare
from lm_eval_flips.gate.gate import judge
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds
from tests.cli.test_cli import command
from tests.generators import logs, paired
from tests.generators.paired import UNDEFINED, Questions
from tests.measures.test_permutation import scipys
from tests.report.text.test_table import printed, row_of

Fields = Sequence[Mapping[str, Any]]


def with_fields(record: logs.Record, fields: Mapping[str, Any]) -> logs.Record:
    """The record of a document that has these fields too."""
    doc = {**record["doc"], **fields}
    return {
        **record,
        "doc": doc,
        "doc_hash": logs.digest(json.dumps(doc, indent=2, ensure_ascii=False)),
    }


def written(
    folder: Path, tasks: Mapping[str, tuple[Questions, Fields]], **options: Any
) -> tuple[Path, Path]:
    """Both runs of some tasks, whose documents have fields of their own."""
    paths = []
    for side in ("baseline", "compressed"):
        records = {
            name: [
                with_fields(
                    logs.choice(
                        i,
                        [float(x) for x in row if np.isfinite(x)],
                        gold=int(asked.gold[i]),
                        question=f"{name} {i}",
                        metrics=["acc"],
                    ),
                    fields[i],
                )
                for i, row in enumerate(getattr(asked, side))
            ]
            for name, (asked, fields) in tasks.items()
        }
        paths.append(logs.write_run(folder / side, records, model=f"org/{side}", **options))
    return paths[0], paths[1]


def tasks_of(
    sizes: Sequence[int], *, seed: int = 0, passages: int = 12
) -> dict[str, tuple[Questions, Fields]]:
    """Tasks of so many questions, of passages that several tasks ask about."""
    generator = np.random.default_rng(seed)
    return {
        f"task{i}": (
            paired.questions(seed + i, size),
            [{"passage": f"p{k}"} for k in generator.integers(passages, size=size)],
        )
        for i, size in enumerate(sizes)
    }


def assert_clustered(row: Row, change: Sequence[float], labels: Sequence[Any]) -> None:
    """The change's interval is that of the clusters' errors; p is scipy's of their signs.

    The interval reaches to 0 where that test calls it no change.
    """
    place = np.unique(np.array([json.dumps(label) for label in labels]), return_inverse=True)[1]
    whole, groups = np.array(change), int(place.max()) + 1
    assert row.score_change == pytest.approx(whole.mean(), rel=1e-9, abs=1e-12)
    sums = np.bincount(place, weights=whole).astype(np.float64)
    assert row.test == "permutation"
    both, loss = scipys(sums, "two-sided"), scipys(sums, "less")
    assert (row.p_value, row.p_loss) == pytest.approx((both, loss), rel=0.1)
    low, high = paired.change_ends(whole, lambda own: paired.clustered(own, place), groups)
    if both >= 0.05:
        low, high = min(low, 0.0), max(high, 0.0)
    assert row.intervals["score_change"] == pytest.approx((low, high), rel=1e-7, abs=1e-12)


def changes(tasks: Mapping[str, tuple[Questions, Fields]]) -> list[float]:
    """The change of every answer, task by task."""
    return [float(x) for asked, _ in tasks.values() for x in asked.change]


def values(tasks: Mapping[str, tuple[Questions, Fields]], field: str) -> list[Any]:
    """Every document's value of a field, task by task."""
    return [fields[field] for _, every in tasks.values() for fields in every]


# What makes samples dependent


@pytest.mark.parametrize("sizes", [(80,), (40, 60), (15,) * 12])
def test_a_document_field_clusters_the_pool(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Over one, two or twelve tasks: the same value is one cluster in all of them."""
    tasks = tasks_of(sizes)
    run = compare(*written(tmp_path, tasks), cluster="passage").compressed[0]
    assert run.pooled.error_method == "clustered by passage (12)"
    assert_clustered(run.pooled, changes(tasks), values(tasks, "passage"))
    for row, (asked, fields) in zip(run.tasks, (tasks[row.name] for row in run.tasks), strict=True):
        assert_clustered(row, asked.change.tolist(), [own["passage"] for own in fields])


def test_the_clustered_errors_can_fail(tmp_path: Path) -> None:
    """Control for the test above: without the field, or by another, the error is another."""
    tasks = tasks_of((40, 60))
    paths = written(tmp_path, tasks)
    plain = compare(*paths).compressed[0].pooled
    by_task = compare(*paths, cluster="task").compressed[0].pooled
    expected = compare(*paths, cluster="passage").compressed[0].pooled
    assert plain.error_method == "stratified by task (2)"
    assert plain.test == "exact McNemar"
    for other in (plain, by_task):
        assert other.intervals["score_change"] != pytest.approx(
            tuple(expected.intervals["score_change"]), rel=1e-2
        )


def test_tasks_can_be_the_clusters_of_a_few(tmp_path: Path) -> None:
    """Asked for, three tasks are clusters; each by itself lies in one, and has no interval."""
    tasks = tasks_of((30, 40, 50), seed=3)
    run = compare(*written(tmp_path, tasks), cluster="task").compressed[0]
    assert run.pooled.error_method == "clustered by task (3: too few to tell much)"
    labels = [name for name, (asked, _) in tasks.items() for _ in asked.gold]
    assert_clustered(run.pooled, changes(tasks), labels)
    for row in run.tasks:
        assert row.error_method == "clustered by task (1: too few to tell much)"
        for interval in row.intervals.values():
            assert interval == UNDEFINED
        assert isnan(row.p_value)
        assert isnan(row.p_holm)


def test_groups_are_the_smallest_that_hold_a_task(tmp_path: Path) -> None:
    """Of a group in a group the inner; of a task in none, the task itself."""
    tasks = tasks_of((20, 25, 30, 35, 40), seed=4)
    groups = {"all": ["inner", "task2", "task3"], "inner": ["task0", "task1"]}
    paths = written(tmp_path, tasks, groups=groups)
    run = compare(*paths, cluster="group").compressed[0]
    assert run.pooled.error_method == "clustered by group (3: too few to tell much)"
    place = {"task0": "inner", "task1": "inner", "task2": "all", "task3": "all", "task4": "task4"}
    labels = [place[name] for name, (asked, _) in tasks.items() for _ in asked.gold]
    assert_clustered(run.pooled, changes(tasks), labels)
    inner = next(row for row in run.groups if row.name == "inner")
    assert inner.intervals["score_change"] == UNDEFINED


def test_fields_called_group_or_task_are_meant_with_doc_before_them(tmp_path: Path) -> None:
    """`group` and `task` are the harness's; `doc.group` and `doc.task` the documents' own."""
    tasks = {
        name: (asked, [{"group": i % 5, "task": i % 3} for i in range(len(asked.gold))])
        for name, (asked, _) in tasks_of((30, 40), seed=5).items()
    }
    paths = written(tmp_path, tasks)
    for field, count in (("doc.group", 5), ("doc.task", 3), ("task", 2), ("group", 2)):
        row = compare(*paths, cluster=field).compressed[0].pooled
        assert row.error_method == f"clustered by {field} ({count}: too few to tell much)"
        if field.startswith("doc."):
            assert_clustered(row, changes(tasks), values(tasks, field.removeprefix("doc.")))


@pytest.mark.parametrize("field", ["meta.source.page", "doc.meta.source.page"])
def test_a_field_within_another_is_named_with_dots(tmp_path: Path, field: str) -> None:
    """Numbers are values as words are."""
    (asked, _) = tasks_of((50,), seed=6)["task0"]
    fields = [{"meta": {"source": {"page": i // 4, "line": i}}} for i in range(50)]
    row = compare(*written(tmp_path, {"task": (asked, fields)}), cluster=field).compressed[0].pooled
    assert row.error_method == f"clustered by {field} (13)"
    assert_clustered(row, asked.change.tolist(), [i // 4 for i in range(50)])


def test_any_value_that_json_holds_can_be_shared(tmp_path: Path) -> None:
    """Lists, objects in any order of their keys, null, and words that look like numbers."""
    shared = [["a", "b"], ["b", "a"], {"x": 1, "y": 2}, {"y": 2, "x": 1}, None, 1, "1", "ünï", ""]
    labels = [0, 1, 2, 2, 3, 4, 5, 6, 7]
    asked = paired.questions(7, 54)
    fields = [{"source": shared[i % 9]} for i in range(54)]
    row = (
        compare(*written(tmp_path, {"task": (asked, fields)}), cluster="source")
        .compressed[0]
        .pooled
    )
    assert row.error_method == "clustered by source (8: too few to tell much)"
    assert_clustered(row, asked.change.tolist(), [labels[i % 9] for i in range(54)])


def test_every_interval_of_the_row_is_clustered(tmp_path: Path) -> None:
    """KL and shares too: the clusters' errors, and Wilson's interval of as many samples."""
    tasks = tasks_of((60, 60), seed=8)
    row = compare(*written(tmp_path, tasks), cluster="passage").compressed[0].pooled
    place = np.unique(values(tasks, "passage"), return_inverse=True)[1]
    kl = np.concatenate([asked.kl for asked, _ in tasks.values()])
    of = np.bincount(place, weights=kl).astype(np.float64)
    expected = paired.distance_ends(kl, *paired.clustered(kl, place), units=of)
    assert row.intervals["choice_kl"] == pytest.approx(expected, rel=1e-7)
    for name in ("flips", "all_flips", "correct_to_incorrect_share"):
        counted = np.concatenate([asked.shares[name] for asked, _ in tasks.values()])
        fit = paired.regression(counted, place)
        expected = paired.effective_wilson(counted.mean(), 120, fit.bse[0], fit.freedom)
        assert row.intervals[name] == expected, name


def test_filters_of_one_task_keep_their_documents_apart(tmp_path: Path) -> None:
    """A document is logged once for each filter; both are clustered by its passage."""
    generator = np.random.default_rng(9)
    passages = generator.integers(8, size=40)
    said = {
        (side, label): generator.random(40) < 0.6
        for side in ("base", "int4")
        for label in ("strict", "loose")
    }
    paths = []
    for side in ("base", "int4"):
        records = [
            with_fields(
                logs.text(i, "4" if said[side, label][i] else f"5{label}", filter=label),
                {"passage": int(passages[i])},
            )
            for label in ("strict", "loose")
            for i in generator.permutation(40).tolist()
        ]
        paths.append(logs.write_run(tmp_path / side, {"task": records}, model=side))
    run = compare(*paths, cluster="passage").compressed[0]
    assert [row.filter for row in run.tasks] == ["strict", "loose"]
    for row in run.tasks:
        change = said["int4", row.filter].astype(float) - said["base", row.filter]
        assert_clustered(row, change.tolist(), passages.tolist())


def test_samples_that_are_left_out_leave_the_others_their_labels(tmp_path: Path) -> None:
    """The compressed run lacks every third document: labels follow the documents, not the rows."""
    asked = paired.questions(10, 60)
    fields = [{"passage": i % 7} for i in range(60)]
    base, compressed = written(tmp_path, {"task": (asked, fields)})
    (file,) = compressed.parent.glob("samples_*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    kept = [i for i in range(60) if i % 3]
    file.write_text("".join(lines[i] for i in kept))
    results = json.loads(compressed.read_text())
    results["results"]["task"]["sample_len"] = 40
    compressed.write_text(json.dumps(results))
    found = compare(base, compressed, cluster="passage", on_mismatch="intersect")
    row = found.compressed[0].pooled
    assert row.n == 40
    assert_clustered(row, asked.change[kept].tolist(), [i % 7 for i in kept])


def test_a_noise_floor_is_clustered_too(tmp_path: Path) -> None:
    """The excess of KL has statsmodels' clustered error of the paired differences."""
    asked = paired.questions(11, 60)
    fields = [{"passage": i % 9} for i in range(60)]
    rounded = asked.baseline + np.random.default_rng(2).normal(0, 0.1, asked.baseline.shape)
    second = Questions(asked.baseline, rounded, asked.gold)
    base, compressed = written(tmp_path, {"task": (asked, fields)})
    _, floor = written(tmp_path / "again", {"task": (second, fields)}, date=logs.LATER)
    results = json.loads(floor.read_text())
    floor.write_text(json.dumps({**results, "model_name": "org/baseline"}))
    found = compare(base, compressed, noise_floor=floor, cluster="passage")
    excess = found.compressed[0].pooled.excess["choice_kl"]
    fit = paired.regression(asked.kl - second.kl, np.arange(60) % 9)
    assert excess.interval == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-7)


# What cannot be clustered


@pytest.mark.parametrize(
    ("field", "lacking"), [("topic", 8), ("passage", 3), ("meta.topic", 8), ("passage.page", 8)]
)
def test_documents_without_the_field_are_counted_and_the_fields_named(
    tmp_path: Path, field: str, lacking: int
) -> None:
    """The message names what is there; the task that has the field is no trouble."""
    tasks = tasks_of((6, 8), seed=12)
    if lacking < 8:
        tasks["task1"] = (tasks["task1"][0], [{"passage": 1}] * 5 + [{"page": 2}] * 3)
    else:
        tasks["task1"] = (tasks["task1"][0], [{"page": 1}] * 8)
    if field == "topic":
        tasks["task0"] = (tasks["task0"][0], [{"topic": i} for i in range(6)])
    if "." in field:
        tasks.pop("task0")
    paths = written(tmp_path, tasks)
    with pytest.raises(FlipsError, match="have no field") as caught:
        compare(*paths, cluster=field)
    there = "question, choices, label, " + ("passage" if lacking < 8 else "page")
    assert str(caught.value) == (
        f"task 'task1': the documents of {lacking} of 8 samples have no field '{field}'; the first "
        f"has {there}. Name a field that all have, or choose tasks with --tasks"
    )
    if field == "passage":
        assert compare(*paths, cluster=field, tasks="task0").compressed[0].pooled.n == 6


@pytest.mark.parametrize("field", ["task", "group", "passage"])
def test_one_cluster_is_refused(tmp_path: Path, field: str) -> None:
    """A single task, or one value everywhere, tells nothing of chance."""
    asked = paired.questions(13, 20)
    paths = written(tmp_path, {"task": (asked, [{"passage": "p"}] * 20)})
    with pytest.raises(FlipsError) as caught:
        compare(*paths, cluster=field)
    assert str(caught.value) == (
        f"every sample has the same {field}: one cluster tells nothing of chance; name another "
        "field for --cluster, or leave it out"
    )
    assert compare(*paths, cluster="question").compressed[0].pooled.n == 20  # control


# Through the command line


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two tasks of 40 questions, of passages that differ between them or do not."""
    tasks = tasks_of((40, 40), seed=14)
    for i, (name, (asked, fields)) in enumerate(list(tasks.items())):
        more = [{**own, "subject": i, "source": "one"} for own in fields]
        tasks[name] = (asked, more)
    base, compressed = written(tmp_path_factory.mktemp("clusters"), tasks)
    return str(base), str(compressed)


def test_compare_takes_the_field(runs: tuple[str, str], tmp_path: Path) -> None:
    """The JSON says by what the pool was clustered, and has what Python gives."""
    done = command("compare", *runs, "--cluster", "passage", "--json", "c.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    pooled = json.loads((tmp_path / "c.json").read_text())["compressed"][0]["pooled"]
    row = compare(*runs, cluster="passage").compressed[0].pooled
    assert pooled["error_method"] == "clustered by passage (12)"
    assert pooled["intervals"]["score_change"] == pytest.approx(row.intervals["score_change"])


@pytest.mark.parametrize(
    ("verb", "field", "message"),
    [
        ("compare", "topic", "no field 'topic'; the first has question, choices, label, passage"),
        ("compare", "source", "every sample has the same source"),
        ("gate", "source", "every sample has the same source"),
    ],
)
def test_a_field_that_clusters_nothing_is_one_line_and_exit_code_2(
    runs: tuple[str, str], verb: str, field: str, message: str
) -> None:
    """Never a pass, never a traceback."""
    rules = ["--max-flips", "1"] if verb == "gate" else []
    done = command(verb, *runs, "--cluster", field, *rules)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "PASS" not in done.stdout


def test_a_row_that_lies_in_one_cluster_cannot_be_judged(
    runs: tuple[str, str], tmp_path: Path
) -> None:
    """Clustered by subject each task lies in one: undecided at any threshold, exit code 2."""
    config = tmp_path / "gate.toml"
    config.write_text('[tasks."task0"]\nmax_flips = 1.0\nmax_loss = 1.0\nmax_choice_kl = 100.0\n')
    done = command("gate", *runs, "--cluster", "subject", "--config", str(config))
    assert done.returncode == 2, done.stdout
    assert "PASS" not in done.stdout
    assert done.stdout.count("UNDECIDED") == 4
    assert done.stdout.count("there is no interval to judge by") == 3
    plain = command("gate", *runs, "--config", str(config))  # control
    assert plain.returncode == 0, plain.stdout


def test_samples_of_a_single_document_cannot_be_judged(tmp_path: Path) -> None:
    """Twenty samples of one document, without any field: no interval, no pass."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {"task": [logs.choice(i, scores, question="the only one") for i in range(20)]},
        )
        for name, scores in (("base", [-1.0, -2.0]), ("int8", [-1.1, -2.0]))
    ]
    found = compare(*paths, metric="acc", equivalence_margin=0.5)
    thresholds = Thresholds(max_flips=1.0, max_loss=1.0, max_choice_kl=9.0, equivalence_margin=0.5)
    (gate,) = judge(found, GateConfig(pooled=thresholds))
    assert {ruling.outcome for ruling in gate.rulings} == {"undecided"}
    assert {ruling.reason for ruling in gate.rulings} == {"there is no interval to judge by"}
    assert gate.exit_code == 2


def test_a_row_in_one_cluster_shows_dashes(runs: tuple[str, str]) -> None:
    """No interval, no p, and nothing that reads as a number."""
    text = printed(compare(*runs, cluster="subject", equivalence_margin=0.1), width=10_000)
    line = row_of(text, "task0 ")
    assert "[" not in line
    assert "nan" not in text
    assert "worse than the baseline: one-sided p of all samples pooled" in text
