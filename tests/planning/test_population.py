"""What a baseline's log tells of its documents, and what cannot be planned."""

from __future__ import annotations

import json
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from lm_eval_flips import FlipsError
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.planning.population import (
    document_hashes,
    documents_digest,
    identity,
    populations,
    refuse_no_margins,
)
from tests.generators import logs
from tests.generators.worlds import Planned, World


def test_margins_leads_and_correctness_are_the_logs(drawn: Planned, questions: World) -> None:
    """Recomputed with numpy from the records that were written."""
    known, left_out = populations(load_run(drawn.baseline))
    assert [own.task for own in known] == ["large", "small", "written"]
    assert left_out == []
    large = known[0]
    scores = np.array(
        [[pair[0] for pair in found["filtered_resps"]] for found in questions.baseline["large"]],
        float,
    )
    ordered = np.sort(softmax(scores, axis=1))[:, ::-1]
    assert large.margin is not None
    assert large.lead is not None
    np.testing.assert_allclose(large.margin, ordered[:, 0] - ordered[:, 1])
    # every choice is of three letters: one token each
    best = np.sort(scores)[:, ::-1]
    np.testing.assert_allclose(large.lead, (best[:, 0] - best[:, 1]) / np.sqrt(2))
    assert large.correct.tolist() == [found["acc"] == 1 for found in questions.baseline["large"]]
    assert set(large.others.tolist()) == {3}
    assert (large.metric, large.filter, len(large)) == ("acc", "none", 240)
    assert known[2].margin is None
    assert set(known[2].others.tolist()) == {1}


def test_tasks_are_chosen_by_glob_or_group(drawn: Planned) -> None:
    """As compare chooses them."""
    base = load_run(drawn.baseline)
    assert [own.task for own in populations(base, "both")[0]] == ["large", "small"]
    assert [own.task for own in populations(base, "s*")[0]] == ["small"]


def test_a_task_without_right_and_wrong_is_left_out(tmp_path: Path) -> None:
    """A perplexity beside questions is named; alone there is nothing to plan."""
    rolling = [logs.rolling(i, -10.0 - i, "one two") for i in range(5)]
    ask = [logs.choice(i, [-1.0, -2.0 - i]) for i in range(5)]
    logs.write_run(tmp_path / "both", {"wiki": rolling, "ask": ask})
    known, left_out = populations(load_run(tmp_path / "both"))
    assert [own.task for own in known] == ["ask"]
    assert left_out == ["wiki"]
    logs.write_run(tmp_path / "alone", {"wiki": rolling})
    with pytest.raises(FlipsError, match="has a metric that is right or wrong; flips cannot be p"):
        populations(load_run(tmp_path / "alone"))


def test_unusable_samples_are_refused(tmp_path: Path) -> None:
    """A nan log-likelihood: weights would be of documents that cannot be compared."""
    ask = [logs.choice(i, [-1.0, float("nan") if i == 3 else -2.0], acc=1.0) for i in range(5)]
    logs.write_run(tmp_path, {"ask": ask})
    with pytest.raises(FlipsError, match=r"'ask': a log-likelihood is nan in 1 .*\(doc 3\); rerun"):
        populations(load_run(tmp_path))


def test_a_metric_that_some_samples_lack_is_refused(tmp_path: Path) -> None:
    """It has no score over all documents; a task's own scoring may leave one out of some."""
    ask = [
        logs.choice(i, [-1.0, -2.0], metrics=["acc"] if i else ["other"], other=0.5)
        for i in range(5)
    ]
    own_scoring = {"ask": {"process_results": "<function process_results>"}}
    logs.write_run(tmp_path, {"ask": ask}, configs=own_scoring)
    with pytest.raises(FlipsError, match="'ask': 4 of 5 samples have acc; plan other tasks with"):
        populations(load_run(tmp_path))


def test_nothing_to_stratify_by_is_said_so(tmp_path: Path) -> None:
    """No choices anywhere, or the same margin everywhere."""
    logs.write_run(tmp_path / "text", {"written": [logs.text(i, "4") for i in range(9)]})
    with pytest.raises(FlipsError, match="no choices in task written: without top margins nothing"):
        refuse_no_margins(populations(load_run(tmp_path / "text"))[0])
    alike = [logs.choice(i, [log(0.7), log(0.3)]) for i in range(9)]
    logs.write_run(tmp_path / "alike", {"ask": alike})
    with pytest.raises(
        FlipsError, match="every sample has the same top margin: one stratum, and a"
    ):
        refuse_no_margins(populations(load_run(tmp_path / "alike"))[0])
    alike[4] = logs.choice(4, [log(0.8), log(0.2)])
    logs.write_run(tmp_path / "alike", {"ask": alike}, date=logs.LATER)
    refuse_no_margins(populations(load_run(tmp_path / "alike"))[0])


def test_a_digest_is_of_documents_and_their_ids(drawn: Planned) -> None:
    """One document less, or two exchanged, give another; hashes are the log's."""
    (large, *_), _ = populations(load_run(drawn.baseline))
    samples = large.samples
    whole = documents_digest(samples)
    assert documents_digest(samples.only(samples.doc_id[:-1])) != whole
    assert documents_digest(samples.only(samples.doc_id)) == whole
    assert len(set(document_hashes(samples))) == 240


def test_a_hash_is_the_first_half_of_the_logged_one(drawn: Planned) -> None:
    """As it stands in the samples file, by plain json."""
    (large, *_), _ = populations(load_run(drawn.baseline))
    (file,) = drawn.baseline.rglob("samples_large_*.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    expected = {line["doc_id"]: line["doc_hash"][:32] for line in lines}
    assert len(expected) == 240
    found = zip(large.samples.doc_id.tolist(), document_hashes(large.samples), strict=True)
    assert dict(found) == expected


def test_few_shot_examples_that_are_drawn_are_noticed(tmp_path: Path) -> None:
    """With examples and the usual sampler; not without examples, nor with the first ones."""
    ask = [logs.choice(i, [-1.0, -2.0 - i]) for i in range(5)]
    for shots, sampler, drawn in (
        (5, "default", True),
        (0, "default", False),
        (5, "first_n", False),
    ):
        folder = tmp_path / f"{shots}{sampler}"
        config = {"ask": {"fewshot_config": {"sampler": sampler}}}
        logs.write_run(folder, {"ask": ask}, n_shot={"ask": shots}, configs=config)
        assert populations(load_run(folder))[0][0].fewshot_drawn is drawn


def test_a_model_is_its_name_revision_and_adapters(drawn: Planned) -> None:
    """What a plan's baseline is recognised by."""
    assert identity(load_run(drawn.baseline)) == {
        "model": "org/model",
        "revision": None,
        "peft": None,
        "delta": None,
    }


def test_a_single_choice_has_no_margin(tmp_path: Path) -> None:
    """A margin of 1 would say that such an answer is sure, of which nothing is known."""
    tasks = {
        "alone": [logs.choice(i, [-1.0 - i], gold=0) for i in range(5)],
        "cloze": [logs.cloze(i, -1.0 - i, greedy=i < 3) for i in range(5)],
        "ask": [logs.choice(i, [-1.0, -2.0 - i]) for i in range(5)],
    }
    logs.write_run(tmp_path, tasks, configs={"alone": {"output_type": "multiple_choice"}})
    known, _ = populations(load_run(tmp_path))
    margins = {own.task: own.margin for own in known}
    assert set(margins) == {"alone", "cloze", "ask"}
    assert margins["alone"] is None
    assert margins["cloze"] is None
    assert margins["ask"] is not None
    assert not torch.isnan(margins["ask"]).any()
