"""Narrower proofs: each pairs what it says and nothing else; the error offers it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from scipy.special import log_softmax

from lm_eval_flips import Comparison, FlipsError, compare
from tests.generators import logs

NAMES = ("oak", "elm", "ash", "fir")
By = Literal["fields", "options", "document"]


def runs(folder: Path, before: Sequence[logs.Record], after: Sequence[logs.Record]) -> list[Path]:
    """Two runs of a task on disk."""
    return [
        logs.write_run(folder / name, {"task": list(records)})
        for name, records in (("a", before), ("b", after))
    ]


def paired(paths: Sequence[Path], by: By | None = None, **more: Any) -> Comparison:
    """The comparison under a proof, which without it is refused with the offer of it."""
    if by is not None:
        with pytest.raises(FlipsError, match=f"Or pair them by less: .*--pair-by {by}"):
            compare(*paths)
    return compare(*paths, pair_by=by, **more)


def told(result: Comparison) -> list[str]:
    """What the result says of narrower pairs."""
    return [own.text for own in result.compressed[0].findings if own.code == "pair_by"]


def rehashed(record: logs.Record) -> logs.Record:
    """The record with the hashes of what it holds now."""
    first = record["arguments"]["gen_args_0"]["arg_0"]
    return record | {
        "doc_hash": logs.digest(json.dumps(record["doc"], indent=2, ensure_ascii=False)),
        "prompt_hash": logs.digest(str(first)),
        "target_hash": logs.digest(str(record["target"])),
    }


def as_chat(record: logs.Record, *, as_list: bool) -> logs.Record:
    """The record as a chat API logs it: messages, in a list or as its JSON."""
    message = json.dumps([{"role": "user", "content": record["arguments"]["gen_args_0"]["arg_0"]}])
    changed = json.loads(json.dumps(record))
    changed["arguments"]["gen_args_0"]["arg_0"] = [message] if as_list else message
    return rehashed(changed)


@pytest.mark.parametrize("as_list", [True, False])
def test_a_chat_api_pairs_with_rendered_prompts_by_document(tmp_path: Path, as_list: bool) -> None:
    """The error says which run logs what; with the proof 2 of 10 answers flip, and it is said."""
    before = [logs.text(i, "4") for i in range(10)]
    after = [as_chat(logs.text(i, "5" if i in (2, 7) else "4"), as_list=as_list) for i in range(10)]
    paths = runs(tmp_path, before, after)
    with pytest.raises(FlipsError) as caught:
        compare(*paths)
    message = str(caught.value)
    assert "The compressed run logs messages, which its server renders, the baseline" in message
    assert "Rerun both" not in message
    result = paired(paths, "document")
    flips = result.compressed[0].pooled.flips
    assert flips is not None
    assert (flips.correct_to_incorrect, result.compressed[0].pooled.n) == (2, 10)
    assert told(result) == [
        "10 samples were paired by document and target only (10 prompt differs)"
    ]


def test_other_documents_are_not_paired_by_document(tmp_path: Path) -> None:
    """Control: another document or target stays refused, and counts when left out."""
    before = [logs.text(i, "4") for i in range(6)]
    after = [as_chat(logs.text(i, "4"), as_list=True) for i in range(6)]
    after[1]["doc"]["question"] = "Another?"
    after[1] = rehashed(after[1])
    paths = runs(tmp_path, before, after)
    with pytest.raises(FlipsError, match=r"1 document differs \(doc 1\)") as caught:
        compare(*paths, pair_by="document")
    assert "--pair-by" not in str(caught.value)
    result = compare(*paths, pair_by="document", on_mismatch="intersect")
    assert result.compressed[0].pooled.n == 5
    assert result.compressed[0].dropped[0].reasons == {"document differs": (1,)}


def test_an_added_document_field_is_paired_by_fields(tmp_path: Path) -> None:
    """A data set that gained a column; a field that changed is still another document."""
    before = [logs.choice(i, [-1.0 - i / 9, -2.0]) for i in range(5)]
    after = [logs.choice(i, [-1.1 - i / 9, -2.0]) for i in range(5)]
    for record in after:
        record["doc"]["source"] = "second edition"
    after = [rehashed(record) for record in after]
    result = paired(runs(tmp_path / "added", before, after), "fields")
    assert result.compressed[0].pooled.n == 5
    assert "the fields that both documents have only (5 document differs)" in told(result)[0]
    after[3]["doc"]["label"] = 1
    paths = runs(tmp_path / "changed", before, [rehashed(record) for record in after])
    with pytest.raises(FlipsError, match=r"1 document differs \(doc 3\)"):
        compare(*paths, pair_by="fields")


def test_images_pair_by_themselves_where_all_that_is_logged_agrees(tmp_path: Path) -> None:
    """The harness hashes an image's address; the logged document with its content agrees."""
    before, after = ([logs.text(i, "4") for i in range(10)] for _ in range(2))
    for side, records in enumerate((before, after)):
        for i, record in enumerate(records):
            record["doc"]["image"] = f"{i:064x}"
            record["doc_hash"] = logs.digest(f"<image at 0x{side}{i}>")
    for i in (3, 4):
        after[i] |= {"exact_match": 0.0, "filtered_resps": ["5"], "resps": [["5"]]}
    result = compare(*runs(tmp_path / "same", before, after))
    flips = result.compressed[0].pooled.flips
    assert flips is not None
    assert (flips.correct_to_incorrect, result.compressed[0].pooled.n) == (2, 10)
    assert told(result) == []
    after[5]["doc"]["image"] = "another image"
    with pytest.raises(FlipsError, match=r"1 document differs \(doc 5\)"):
        compare(*runs(tmp_path / "other", before, after))


def _shuffled(
    i: int, scores: Sequence[float], order: Sequence[int], *, letters: bool
) -> logs.Record:
    """A question whose options stand in this order; the first name is always right."""
    names = [NAMES[place] for place in order]
    question = f"Question {i}?" + "".join(f"\n{n}" for n in names if letters)
    record = logs.choice(
        i,
        [scores[place] for place in order],
        gold=list(order).index(0),
        choices=("A", "B", "C", "D") if letters else names,
        question=question,
        metrics=("acc",),
    )
    record["doc"] = {
        "question": f"Question {i}?",
        "level": i % 3,
        "options": {"text": names, "label": ["A", "B", "C", "D"]},
        "answer": "ABCD"[list(order).index(0)],
    }
    return rehashed(record)


@pytest.mark.parametrize("letters", [True, False])
def test_shuffled_options_are_paired_by_their_texts(tmp_path: Path, letters: bool) -> None:
    """Flips and choice KL are those of the same scores in one order, by hand and by scipy."""
    draw = np.random.default_rng(4)
    scores = log_softmax(draw.normal(0, 1, (30, 5)), axis=1)[:, :4]
    moved = log_softmax(scores + draw.normal(0, 0.5, scores.shape), axis=1) - 0.2
    plain = [_shuffled(i, row, range(4), letters=letters) for i, row in enumerate(scores)]
    orders = [draw.permutation(4).tolist() for _ in range(30)]
    mixed = [
        _shuffled(i, row, order, letters=letters)
        for i, (row, order) in enumerate(zip(moved, orders, strict=True))
    ]
    run = paired(runs(tmp_path, plain, mixed), "options").compressed[0]
    before, after = scores.argmax(1), moved.argmax(1)
    assert run.pooled.flips is not None
    assert run.pooled.flips.correct_to_incorrect == int(((before == 0) & (after != 0)).sum())
    assert run.pooled.flips.incorrect_to_correct == int(((before != 0) & (after == 0)).sum())
    p, q = log_softmax(scores, axis=1), log_softmax(moved, axis=1)
    assert run.pooled.distances is not None
    assert run.pooled.distances.choice_kl.mean == pytest.approx(
        float((np.exp(p) * (p - q)).sum(1).mean())
    )


@pytest.mark.parametrize("fault", ["option", "question", "answer"])
def test_options_of_another_question_are_not_paired(tmp_path: Path, fault: str) -> None:
    """Control: one other option, another question, or another right option."""
    scores = [-1.0, -2.0, -3.0, -4.0]
    plain = [_shuffled(i, scores, range(4), letters=True) for i in range(4)]
    mixed = [
        _shuffled(i, [s - 0.1 * k for k, s in enumerate(scores)], (2, 0, 1, 3), letters=True)
        for i in range(4)
    ]
    if fault == "option":
        mixed[2]["doc"]["options"]["text"][0] = "yew"
    elif fault == "question":
        mixed[2]["doc"]["question"] = "Another?"
    else:
        mixed[2]["doc"]["answer"] = "A"
    paths = runs(tmp_path, plain, [rehashed(record) for record in mixed])
    with pytest.raises(FlipsError, match=r"1 document differs \(doc 2\)"):
        compare(*paths, pair_by="options")


def test_a_filter_that_both_have_can_be_chosen(tmp_path: Path) -> None:
    """The baseline lacks one; without the choice the error names the one that both have."""
    before = [logs.text(i, "4", filter="strict") for i in range(10)]
    after = [
        logs.text(i, "5" if i < 2 else "4", filter=name)
        for i in range(10)
        for name in ("strict", "loose")
    ]
    paths = runs(tmp_path, before, after)
    with pytest.raises(FlipsError, match="--filter strict"):
        compare(*paths)
    flips = compare(*paths, filter="strict").compressed[0].pooled.flips
    assert flips is not None
    assert (flips.n, flips.correct_to_incorrect) == (10, 2)


def test_the_noise_floor_may_lie_under_another_path(tmp_path: Path) -> None:
    """The same model's folder on another machine; a model of another name stays refused."""
    records = {
        name: [logs.choice(i, [-1.0 - i / 9, -2.0 - shift]) for i in range(9)]
        for name, shift in (("base", 0.0), ("again", 0.01), ("int4", 0.1))
    }
    paths = [
        logs.write_run(tmp_path / name, {"task": records[name]}, model=model)
        for name, model in (("base", "/data/Llama"), ("again", "/mnt/Llama"), ("int4", "q/int4"))
    ]
    assert compare(paths[0], paths[2], noise_floor=paths[1]).noise_floor is not None
    other = logs.write_run(tmp_path / "other", {"task": records["again"]}, model="/mnt/Llama-2")
    with pytest.raises(FlipsError, match="no second run of the baseline"):
        compare(paths[0], paths[2], noise_floor=other)
