"""Pairs are proven: every way in which two runs can differ is told, by name, with the way out."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lm_eval_flips import FlipsError, compare, load_run
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.pairs.pairing import pair
from tests.generators import logs

PLAIN = [-1.0, -2.0, -3.0]
MOVED = [-1.5, -1.0, -3.0]


def samples(folder: Path, records: Sequence[dict[str, Any]], **more: Any) -> Samples:
    """The records as read back from a run on disk."""
    run = load_run(logs.write_run(folder, {"task": list(records)}, **more))
    (found,) = read_samples(run.tasks["task"]).values()
    return found


def refusal(baseline: Samples, compressed: Samples) -> str:
    """The message with which the two are refused."""
    with pytest.raises(FlipsError, match="task 'task'") as caught:
        pair(baseline, compressed)
    return str(caught.value)


def test_missing_samples_are_named_with_the_flags_to_rerun_with(tmp_path: Path) -> None:
    """Documents that only one run holds, on either side, in one line."""
    base = samples(tmp_path / "a", [logs.choice(i, PLAIN) for i in (0, 1, 2, 9)])
    comp = samples(tmp_path / "b", [logs.choice(i, MOVED) for i in (0, 1, 5)])
    assert refusal(base, comp) == (
        "task 'task', filter 'none': the runs hold different samples: 2 only in the baseline "
        "(doc 2, 9); 1 only in the compressed run (doc 5). Rerun both with the same --limit and "
        "--samples"
    )


def test_another_document_under_the_same_number_is_named(tmp_path: Path) -> None:
    """A data set that changed is told by its hashes, and only by the first that differs."""
    base = samples(tmp_path / "a", [logs.choice(i, PLAIN) for i in range(3)])
    comp = samples(
        tmp_path / "b",
        [logs.choice(i, MOVED, question="Another?" if i == 1 else "") for i in range(3)],
    )
    message = refusal(base, comp)
    assert "1 document differs (doc 1)" in message
    assert "prompt differs" not in message
    assert "version of the task and of its data set" in message


@pytest.mark.parametrize(
    ("part", "reason", "way_out"),
    [
        ("prompt_hash", "prompt differs", "--num_fewshot, --apply_chat_template"),
        ("target_hash", "target differs", "version of the task"),
        ("arguments", "arguments differ", "--gen_kwargs"),
    ],
)
def test_each_hash_is_checked(tmp_path: Path, part: str, reason: str, way_out: str) -> None:
    """A prompt, a target or an argument that differs is told although the document agrees."""
    changed = logs.choice(1, MOVED)
    if part == "arguments":
        changed["arguments"]["gen_args_2"]["arg_1"] = " another choice"
    else:
        changed[part] = "0" * 64
    base = samples(tmp_path / "a", [logs.choice(i, PLAIN) for i in range(2)])
    comp = samples(tmp_path / "b", [logs.choice(0, MOVED), changed])
    message = refusal(base, comp)
    assert f"1 {reason} (doc 1)" in message
    assert way_out in message
    first = 'gen_args_2.arg_1 of doc 1 is " ash" and " another choice"'
    assert (first in message) == (part == "arguments")


def test_another_number_of_choices_is_named(tmp_path: Path) -> None:
    """Three choices do not pair with four."""
    base = samples(tmp_path / "a", [logs.choice(0, PLAIN)])
    comp = samples(tmp_path / "b", [logs.choice(0, [*MOVED, -4.0])])
    comp.hashes["document"][:] = base.hashes["document"]
    assert "number of choices differs (doc 0)" in refusal(base, comp)


def test_an_unsorted_samples_list_is_recognised(tmp_path: Path) -> None:
    """Trap: the harness numbers an unsorted --samples list wrongly; the message says so."""
    records = [logs.choice(i, PLAIN) for i in (2, 5, 7)]
    mislabelled = [logs.choice(i, MOVED) for i in (2, 5, 7)]
    for record, doc_id in zip(mislabelled, (5, 2, 7), strict=True):
        record["doc_id"] = doc_id
    message = refusal(samples(tmp_path / "a", records), samples(tmp_path / "b", mislabelled))
    assert "2 document differs (doc 2, 5)" in message
    assert message.endswith("which an unsorted --samples list does: sort it and rerun")


def test_intersect_leaves_out_what_differs_and_records_it(tmp_path: Path) -> None:
    """Only the proven pairs count; the rest is in the result by reason and doc_id."""
    base = logs.write_run(tmp_path / "a", {"task": [logs.choice(i, PLAIN) for i in range(4)]})
    comp = logs.write_run(
        tmp_path / "b",
        {"task": [logs.choice(i, MOVED, question="?" if i == 1 else "") for i in (1, 2, 3)]},
    )
    run = compare(base, comp, on_mismatch="intersect").compressed[0]
    (dropped,) = run.dropped
    assert run.pooled.n == 2
    assert dropped.reasons == {"only in the baseline": (0,), "document differs": (1,)}
    assert dropped.count == 2


def test_no_sample_in_common_is_an_error_even_under_intersect(tmp_path: Path) -> None:
    """A comparison of nothing is never a result."""
    base = samples(tmp_path / "a", [logs.choice(0, PLAIN)])
    comp = samples(tmp_path / "b", [logs.choice(1, MOVED)])
    with pytest.raises(FlipsError, match="no sample in common; nothing can be compared"):
        pair(base, comp, on_mismatch="intersect")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinite_numbers_are_refused_or_left_out(tmp_path: Path, bad: float) -> None:
    """The sample, the run and the flag are named; with the flag it is counted and left out."""
    base = [logs.choice(i, PLAIN) for i in range(3)]
    comp = [logs.choice(i, MOVED) for i in range(3)]
    comp[1]["filtered_resps"][2][0] = comp[1]["resps"][2][0][0] = str(bad)
    paths = [
        logs.write_run(tmp_path / name, {"task": records})
        for name, records in (("a", base), ("b", comp))
    ]
    with pytest.raises(FlipsError, match=r"in the compressed run \(doc 1\).*--on-nan exclude"):
        compare(*paths)
    run = compare(*paths, on_nan="exclude").compressed[0]
    assert run.pooled.n == 2
    ((reason, docs),) = run.dropped[0].reasons.items()
    assert docs == (1,)
    assert reason.endswith("in the compressed run")


def test_minus_infinity_in_one_choice_is_a_number(tmp_path: Path) -> None:
    """A choice that both runs rule out adds nothing; the sample stays."""
    ruled_out = [-1.0, -2.0, float("-inf")]
    base = samples(tmp_path / "a", [logs.choice(0, ruled_out)])
    comp = samples(tmp_path / "b", [logs.choice(0, [-2.0, -1.0, float("-inf")])])
    assert len(pair(base, comp).doc_ids) == 1


def test_the_order_of_the_lines_does_not_matter(tmp_path: Path) -> None:
    """Rank by rank (0, 2, 4, 1, 3) or in order: the same pairs."""
    rows = {i: [-1.0 - i, -2.0, -3.0] for i in range(5)}
    base = samples(tmp_path / "a", [logs.choice(i, PLAIN) for i in range(5)])
    ordered = samples(tmp_path / "b", [logs.choice(i, rows[i]) for i in range(5)])
    ranked = samples(tmp_path / "c", [logs.choice(i, rows[i]) for i in (0, 2, 4, 1, 3)])
    one, other = pair(base, ordered), pair(base, ranked)
    assert one.doc_ids.tolist() == other.doc_ids.tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(one.compressed.loglikelihoods, other.compressed.loglikelihoods)
    assert one.compressed.loglikelihoods[4, 0] == -5.0


def test_equal_documents_share_a_cluster(tmp_path: Path) -> None:
    """Two documents of the same text are one cluster, as their answers are not independent."""
    base, comp = (
        samples(tmp_path / name, [logs.choice(i, row, question=f"{i // 2}?") for i in range(4)])
        for name, row in (("a", PLAIN), ("b", MOVED))
    )
    clusters = pair(base, comp).clusters.tolist()
    assert clusters[0] == clusters[1] != clusters[2] == clusters[3]


def test_a_narrower_run_is_padded(tmp_path: Path) -> None:
    """A rank that holds only three-choice samples pairs with a baseline that knows five."""
    base = samples(tmp_path / "a", [logs.choice(0, PLAIN), logs.choice(1, [*PLAIN, -4.0, -5.0])])
    comp = samples(tmp_path / "b", [logs.choice(0, MOVED)])
    pairs = pair(base.only(np.array([0])), comp)
    assert pairs.compressed.loglikelihoods.shape == pairs.baseline.loglikelihoods.shape == (1, 5)
    assert pairs.compressed.loglikelihoods[0, 3:].isneginf().all()


def test_samples_of_another_kind_are_refused(tmp_path: Path) -> None:
    """Generated text does not pair with choices."""
    base = samples(tmp_path / "a", [logs.choice(0, PLAIN)])
    comp = samples(tmp_path / "b", [logs.text(0, "4")])
    assert "the baseline logged choices samples, the compressed run text" in refusal(base, comp)


def test_a_sample_with_several_reasons_is_left_out_once(tmp_path: Path) -> None:
    """One value is infinite in both runs, another in one: two samples, not three."""
    runs = [
        logs.write_run(
            tmp_path / name,
            {"t": [logs.text(i, "x", mae=inf if i in bad else 1.0 + i + n) for i in range(9)]},
        )
        for n, (name, bad) in enumerate((("a", {3}), ("b", {3, 7})))
    ]
    comparison = compare(*runs, on_nan="exclude")
    (dropped,) = comparison.compressed[0].dropped
    assert dropped.count == 2
    assert "left out 2 samples of t (none): " in str(comparison.warnings[0])
    assert comparison.compressed[0].pooled.n == 7


def test_pairs_of_all_samples_hold_no_copies(tmp_path: Path) -> None:
    """Columns of millions are there once; the control is a sample that is left out."""
    records = [logs.choice(i, [-1.0, -2.0 - i]) for i in range(3)]
    ours, theirs = samples(tmp_path / "b", records), samples(tmp_path / "c", records)
    whole = pair(ours, theirs)
    assert np.shares_memory(whole.baseline.loglikelihoods.numpy(), ours.loglikelihoods)
    assert theirs.only(theirs.doc_id) is theirs
    some = pair(ours, theirs.only(theirs.doc_id[:2]), on_mismatch="intersect")
    assert not np.shares_memory(some.baseline.loglikelihoods.numpy(), ours.loglikelihoods)
    assert some.baseline.loglikelihoods.tolist() == ours.loglikelihoods[:2].tolist()
