"""A plan is held to its runs: every way in which it may not belong to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_eval_flips import Comparison, FlipsError, compare_planned
from lm_eval_flips.planning.pairs import sample_weights
from tests.generators import logs
from tests.generators.worlds import Planned, World, planned, world


def compared(
    of: Planned, *, baseline: Path | None = None, run: Path | None = None, **more: Any
) -> Comparison:
    """Compare by the plan, with another baseline or run in place of the right one."""
    return compare_planned(of.file, baseline or of.baseline, run or of.compressed, **more)


def edited(of: Planned, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The plan's own file with a change, in another folder and without a samples file."""
    plan = json.loads(of.own.read_bytes())
    change(plan)
    file = folder / "edited.plan.json"
    file.write_text(json.dumps(plan))
    return file


def test_the_drawn_samples_and_no_others_are_taken(drawn: Planned) -> None:
    """The baseline's other documents are left out without a word, since the plan left them out."""
    (run,) = compared(drawn).compressed
    assert {m.pairs.task: m.doc_ids.tolist() for m in run.metrics} == drawn.plan.samples
    assert run.dropped == ()


def test_samples_that_are_missing_or_not_planned_are_named(
    drawn: Planned, questions: World, tmp_path: Path
) -> None:
    """One drawn document less, and one more; and the full run."""
    docs = drawn.plan.samples["large"]
    other = next(doc for doc in range(240) if doc not in docs)
    samples = {**drawn.plan.samples, "large": [*docs[1:], other]}
    run = questions.write(tmp_path, "compressed", samples)
    expected = (
        rf"'{drawn.file}' does not belong to these runs: task 'large', of its samples 1 are "
        rf"missing \(doc {docs[0]}\) and 1 are not planned \(doc {other}\)"
    )
    with pytest.raises(FlipsError, match=expected):
        compared(drawn, run=run)
    with pytest.raises(FlipsError, match=r"task 'large', of its samples \d+ are not planned"):
        compared(drawn, run=drawn.full)


def test_tasks_that_are_missing_or_not_planned_are_named(
    drawn: Planned, questions: World, tmp_path: Path
) -> None:
    """A run without one of the plan's tasks; a plan without one of the run's."""
    less = {name: docs for name, docs in drawn.plan.samples.items() if name != "small"}
    run = questions.write(tmp_path / "less", "compressed", less)
    with pytest.raises(FlipsError, match="lacks the task small; evaluate just the planned tasks"):
        compared(drawn, run=run)
    assert compared(drawn, run=run, tasks="large").compressed[0].planned is not None
    file = edited(drawn, tmp_path, lambda plan: plan["tasks"].pop("small"))
    with pytest.raises(FlipsError, match="also holds the task small"):
        compare_planned(file, drawn.baseline, drawn.compressed)
    with pytest.raises(FlipsError, match="it has the tasks large, written, of which none is comp"):
        compare_planned(file, drawn.baseline, drawn.compressed, tasks="small")


def test_a_baseline_of_another_model_is_refused(
    drawn: Planned, questions: World, tmp_path: Path
) -> None:
    """Its margins are not those that were planned by."""
    logs.write_run(tmp_path, questions.baseline, model="org/other")
    with pytest.raises(FlipsError, match="made from org/model, the baseline is org/other; give th"):
        compared(drawn, baseline=tmp_path)


def test_a_baseline_of_other_documents_is_refused(drawn: Planned, tmp_path: Path) -> None:
    """One question more than was planned from."""
    other = world(large=241)
    baseline = other.write(tmp_path, "baseline")
    with pytest.raises(
        FlipsError, match="'large' of the baseline holds 241 documents that are not"
    ):
        compared(drawn, baseline=baseline)


def test_other_documents_under_the_same_ids_are_refused(
    drawn: Planned, questions: World, tmp_path: Path
) -> None:
    """A later version of the data set."""
    records = dict(questions.compressed)
    doc = drawn.plan.samples["small"][0]
    records["small"] = list(records["small"])
    records["small"][doc] = {**records["small"][doc], "doc_hash": logs.digest("another")}
    run = World(questions.baseline, records).write(tmp_path, "compressed", drawn.plan.samples)
    expected = rf"task 'small', 1 documents differ \(doc {doc}\): it was made from another version"
    with pytest.raises(FlipsError, match=expected):
        compared(drawn, run=run)


def test_documents_under_exchanged_ids_tell_of_an_unsorted_list(
    drawn: Planned, questions: World, tmp_path: Path
) -> None:
    """As lm_eval logs them for a list that is not sorted: by place in the list."""
    docs = drawn.plan.samples["small"]
    records = {
        name: [questions.compressed[name][doc] for doc in own]
        for name, own in drawn.plan.samples.items()
    }
    swapped = [docs[1], docs[0], *docs[2:]]
    records["small"] = [
        {**found, "doc_id": doc} for found, doc in zip(records["small"], swapped, strict=True)
    ]
    logs.write_run(tmp_path, records, model="org/int4")
    with pytest.raises(
        FlipsError, match="2 documents differ .* which an unsorted --samples list d"
    ):
        compared(drawn, run=tmp_path)


def _other_prompts(records: list[logs.Record]) -> list[logs.Record]:
    """The same questions after other examples."""
    return [{**found, "prompt_hash": logs.digest(f"shots {found['doc_id']}")} for found in records]


@pytest.fixture(scope="module")
def fewshot() -> World:
    """A world whose examples are drawn at random, so that a plan's runs have others."""
    asked = {"large": {"fewshot_config": {"sampler": "default"}}}
    return world(2, n_shot={"large": 5, "small": 0, "written": 0}, configs=asked)


def test_prompts_that_differ_by_their_examples_say_what_to_do(
    fewshot: World, tmp_path: Path
) -> None:
    """Evaluate the baseline on the same samples; that run is accepted in place of the full one."""
    of = planned(tmp_path, fewshot, budget=60)
    assert of.plan.tasks["large"].fewshot_drawn
    sides = [
        {**own, "large": _other_prompts(own["large"])}
        for own in (fewshot.baseline, fewshot.compressed)
    ]
    other = World(sides[0], sides[1], fewshot.changes)
    run = other.write(tmp_path / "run", "compressed", of.plan.samples)
    count = len(of.plan.samples["large"])
    expected = f"task 'large': {count} prompts differ from the baseline's, since few-shot examples"
    with pytest.raises(FlipsError, match=expected):
        compared(of, run=run)
    again = other.write(tmp_path / "again", "baseline", of.plan.samples)
    (found,) = compared(of, baseline=again, run=run).compressed
    (full,) = compared(of).compressed
    assert found.planned is not None
    assert full.planned is not None
    ours, theirs = found.planned.pooled, full.planned.pooled
    assert ours.estimates["flips"].value == theirs.estimates["flips"].value
    # its scores over all documents are not known, and estimated
    scores = [
        next(row.baseline_score for row in own.tasks if row.metric == "acc_norm")
        for own in (found.planned, full.planned)
    ]
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


def test_a_second_baseline_of_other_samples_is_refused(
    drawn: Planned, questions: World, tmp_path: Path
) -> None:
    """Neither all documents nor just the drawn ones."""
    samples = {**drawn.plan.samples, "large": drawn.plan.samples["large"][:-1]}
    baseline = questions.write(tmp_path, "baseline", samples)
    with pytest.raises(FlipsError, match="'large' of the baseline holds .* documents that are not"):
        compared(drawn, baseline=baseline)


def test_weights_are_documents_over_draws(drawn: Planned) -> None:
    """By task and doc_id; those of a task add up to its documents."""
    weights = sample_weights(drawn.plan)
    for name, task in drawn.plan.tasks.items():
        assert list(weights[name]) == task.doc_ids
        assert sum(weights[name].values()) == pytest.approx(task.documents)
        for own in task.strata:
            for doc in own.doc_ids:
                assert weights[name][doc] == pytest.approx(own.documents / len(own.doc_ids))
