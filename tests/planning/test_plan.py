"""A plan on disk: read back as written, and refused where it is another's or was edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_eval_flips import FlipsError
from lm_eval_flips.planning.plan import load_plan, plan_contents, plan_files
from tests.generators.worlds import Planned


@pytest.fixture
def written(drawn: Planned, tmp_path: Path) -> Path:
    """The plan's two files in a folder of their own."""
    file = tmp_path / "samples.json"
    for path, content in zip(plan_files(file), plan_contents(drawn.plan), strict=True):
        path.write_bytes(content)
    return file


def edited(file: Path, change: Any) -> None:
    """Change what a JSON file holds."""
    content = json.loads(file.read_bytes())
    change(content)
    file.write_text(json.dumps(content))


def test_a_plan_is_read_back_by_either_file(drawn: Planned, written: Path) -> None:
    """The same in every field; the plan's own file suffices."""
    assert load_plan(written) == drawn.plan
    assert load_plan(plan_files(written)[1]) == drawn.plan
    written.unlink()
    assert load_plan(plan_files(written)[1]) == drawn.plan


def test_the_samples_file_is_the_harness_s(drawn: Planned, written: Path) -> None:
    """Each task's doc_ids, sorted, as lm_eval's --samples takes them; nothing else."""
    lists = json.loads(written.read_bytes())
    assert lists == drawn.plan.samples
    assert set(lists) == {"large", "small", "written"}
    for docs in lists.values():
        assert docs == sorted(set(docs))
    assert sum(map(len, lists.values())) == drawn.plan.budget == 120


def test_the_files_name_each_other() -> None:
    """From either name to both."""
    both = (Path("a/b.json"), Path("a/b.plan.json"))
    assert plan_files(both[0]) == plan_files(both[1]) == both


def test_an_unsorted_list_is_refused(written: Path) -> None:
    """lm_eval would log other doc_ids for it."""
    edited(written, lambda lists: lists["small"].reverse())
    with pytest.raises(FlipsError, match="the list of task 'small' is not sorted, from which lm_e"):
        load_plan(written)


def test_a_list_of_another_plan_is_refused(written: Path) -> None:
    """One document less."""
    edited(written, lambda lists: lists["large"].pop())
    with pytest.raises(
        FlipsError, match="is not the samples file of the plan beside it: task larg"
    ):
        load_plan(written)


def test_what_is_no_plan_is_refused(written: Path, tmp_path: Path) -> None:
    """Nothing there, not JSON, another JSON, a later version: one line each."""
    own = plan_files(written)[1]
    with pytest.raises(FlipsError, match=r"none.plan.json' cannot be read: No such file or dire"):
        load_plan(tmp_path / "none.json")
    edited(own, lambda plan: plan.update(version=2))
    with pytest.raises(FlipsError, match="is a plan of version 2; this reads 1"):
        load_plan(written)
    own.write_text("[1, 2]")
    with pytest.raises(FlipsError, match="is no plan of lm-eval-flips: Expected `object`"):
        load_plan(written)
    own.write_bytes(b"\xff")
    with pytest.raises(FlipsError, match="is no plan of lm-eval-flips"):
        load_plan(written)


def test_a_design_has_every_drawn_document_in_its_stratum(drawn: Planned) -> None:
    """The weights of a task's samples add up to its documents."""
    for task in drawn.plan.tasks.values():
        design = task.design()
        assert float(design.weights.sum()) == pytest.approx(task.documents)
        for doc, stratum in zip(task.doc_ids, design.stratum.tolist(), strict=True):
            assert doc in task.strata[stratum].doc_ids
        assert list(task.hashes) == task.doc_ids
        assert len(task.expected("lost")) == len(task.strata)


def test_plans_are_plain_json(drawn: Planned) -> None:
    """No nan or infinity, which JSON has not: strata without margins are null."""
    content = json.loads(plan_contents(drawn.plan)[1], parse_constant=pytest.fail)
    assert content["tasks"]["written"]["strata"][0]["low"] is None
    assert msgspec.json.decode(plan_contents(drawn.plan)[1]) == content
