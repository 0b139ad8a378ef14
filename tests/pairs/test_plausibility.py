"""Forged backends are not believed, and honest runs raise no alarm: each check both ways."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lm_eval_flips import FlipsError, compare, load_run
from lm_eval_flips.comparison.result import RunComparison
from lm_eval_flips.gate.gate import judge
from lm_eval_flips.gate.thresholds import GateConfig, Thresholds
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.pairs.agreement import findings
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.plausibility import more_than_two
from lm_eval_flips.report.files.document import to_json
from tests.generators import backends, logs
from tests.report.text.test_table import printed

# Thresholds that any pair of runs keeps.
LOOSE = GateConfig(pooled=Thresholds(max_flips=1.0, max_loss=1.0))


def runs(folder: Path, before: Sequence[logs.Record], after: Sequence[logs.Record]) -> list[Path]:
    """Two runs of a task on disk."""
    return [
        logs.write_run(folder / name, {"task": list(records)})
        for name, records in (("a", before), ("b", after))
    ]


def found_in(
    folder: Path, before: Sequence[logs.Record], after: Sequence[logs.Record]
) -> tuple[Finding, ...]:
    """What is found in two runs of a task."""
    ours, theirs = (
        read_samples(load_run(path).tasks["task"])["none"] for path in runs(folder, before, after)
    )
    return findings(ours, theirs)


def codes(found: Sequence[Finding], *, impossible: bool | None = None) -> set[str]:
    """The findings' codes: all, the impossible, or the doubtful."""
    return {own.code for own in found if impossible in (None, own.impossible)}


def refused_or_not_passed(paths: Sequence[Path]) -> None:
    """The comparison is refused, or told and not passed; nor does a flag make the gate pass."""
    result = compare(*paths, allow_identical=True, allow_implausible=True)
    if any(own.impossible for own in result.compressed[0].findings):
        with pytest.raises(FlipsError, match="--allow-implausible"):
            compare(*paths, allow_identical=True)
    (gate,) = judge(result, LOOSE)
    assert gate.doubts
    assert gate.outcome == "undecided"
    assert gate.exit_code == 2


@pytest.mark.parametrize(
    ("name", "both"),
    [(name, False) for name in backends.FORGED] + [(name, True) for name in backends.SEEN_ALONE],
)
def test_no_forged_backend_passes_a_gate(tmp_path: Path, name: str, both: bool) -> None:
    """Whether one run was forged, or both in the same way where that leaves a trace."""
    forge = backends.FORGED[name]
    base = backends.letters()
    before = backends.as_choices(forge(base) if both else base)
    after = backends.as_choices(forge(backends.letters(noise=0.05)))
    refused_or_not_passed(runs(tmp_path, before, after))


@pytest.mark.parametrize("name", backends.FORGED_ALONE)
def test_shuffled_answers_do_not_pass(tmp_path: Path, name: str) -> None:
    """Among all requests, or among the choices of each sample."""
    forge = backends.FORGED_ALONE[name]
    before = backends.as_choices(backends.letters())
    after = backends.as_choices(forge(backends.letters(noise=0.05)))
    refused_or_not_passed(runs(tmp_path, before, after))


def test_the_gate_passes_the_same_runs_unforged(tmp_path: Path) -> None:
    """Control: what the forgeries were made of passes, and without a word."""
    before = backends.as_choices(backends.letters())
    after = backends.as_choices(backends.letters(noise=0.05))
    result = compare(*runs(tmp_path, before, after))
    assert result.compressed[0].findings == ()
    (gate,) = judge(result, LOOSE)
    assert gate.outcome == "pass"


HONEST: dict[str, Any] = {
    "8 bit": {"noise": 0.05},
    "4 bit": {"noise": 0.3},
    "destroyed": {"noise": 3.0},
    "a model that knows nothing": {"noise": 0.3, "strength": 0.0},
    "a model that always answers A": {"noise": 0.1, "bias": 9.0, "strength": 0.0},
    "sure": {"noise": 0.3, "strength": 9.0},
    "three samples": {"noise": 0.3, "n": 3},
    "two choices": {"noise": 0.3, "choices": 2},
}


@pytest.mark.parametrize("world", HONEST)
@pytest.mark.parametrize("rounded", [False, True])
def test_honest_choices_are_never_impossible(tmp_path: Path, world: str, rounded: bool) -> None:
    """Of models strong, weak and destroyed, in float32 and in bfloat16, 5 draws each."""
    for seed in range(5):
        more = dict(HONEST[world])
        noise = more.pop("noise")
        sides = [backends.letters(seed=seed, noise=own, **more) for own in (0.0, noise)]
        if rounded:
            sides = [backends.bfloat16(scores) for scores in sides]
        records = [backends.as_choices(scores) for scores in sides]
        found = found_in(tmp_path / str(seed), *records)
        assert codes(found, impossible=True) == set()
        if world in ("8 bit", "4 bit", "sure", "two choices") and not rounded:
            assert found == ()


def test_honest_sentences_pages_and_continuations_raise_no_alarm(tmp_path: Path) -> None:
    """Long choices, one continuation, and whole pages; 5 draws each."""
    for seed in range(5):
        (before, texts), (after, _) = (
            backends.sentences(seed=seed, noise=own) for own in (0.0, 0.3)
        )
        folder = tmp_path / str(seed)
        assert not found_in(
            folder / "s", backends.as_choices(before, texts), backends.as_choices(after, texts)
        )
        assert not found_in(folder / "c", backends.as_cloze(before), backends.as_cloze(after))
        assert not found_in(folder / "r", backends.as_rolling(before), backends.as_rolling(after))
        assert not found_in(
            folder / "t",
            backends.as_texts(seed=seed),
            backends.as_texts(seed=seed, changed=0.3),
        )


def test_a_model_that_always_answers_alike_is_doubtful_only(tmp_path: Path) -> None:
    """An honest weak model does so: a warning, and the gate may pass it."""
    sides = [backends.letters(bias=9.0, strength=0.0, noise=own) for own in (0.0, 0.1)]
    result = compare(*runs(tmp_path, *map(backends.as_choices, sides)))
    found = result.compressed[0].findings
    assert codes(found) == {"same_answer"}
    assert "chooses choice 1 in all 60 samples" in found[0].text
    (gate,) = judge(result, LOOSE)
    assert gate.outcome == "pass"


def test_zeros_are_refused_with_their_evidence_and_the_way_on(tmp_path: Path) -> None:
    """What a current llama.cpp server gives the harness: the message says it, and the flag."""
    zeros = backends.as_choices(np.zeros((8, 4)))
    with pytest.raises(
        FlipsError,
        match=r"in the baseline all choices of 8 of 8 samples have the same log-likelihood, 0\.0 "
        r"each.*--allow-implausible: no gate passes them",
    ):
        compare(*runs(tmp_path, zeros, zeros))


def test_a_unit_is_recognised(tmp_path: Path) -> None:
    """Log-likelihoods in bits against nats: the slope is 1 / ln 2, and the finding says so."""
    base = backends.letters()
    bits = backends.letters(noise=0.05) / np.log(2)
    found = found_in(tmp_path, backends.as_choices(base), backends.as_choices(bits))
    (scale,) = [own for own in found if own.code == "other_scale"]
    assert "slope 1.4" in scale.text
    assert scale.keeps_from_passing


def test_own_values_in_another_order_are_impossible(tmp_path: Path) -> None:
    """The baseline's own numbers, permuted within each sample, are no other model's."""
    base = backends.letters()
    found = found_in(tmp_path, backends.as_choices(base), backends.as_choices(base[:, ::-1].copy()))
    assert "reordered" in codes(found, impossible=True)


def test_flags_that_contradict_are_told(tmp_path: Path) -> None:
    """More than half of the probability without the likeliest tokens: of each sample counted."""
    sure = backends.as_choices(backends.letters(strength=9.0))
    base = backends.as_choices(backends.letters(strength=9.0, noise=0.1))
    for record in sure[:7]:
        for response in (*record["filtered_resps"], *(own[0] for own in record["resps"])):
            response[1] = "False"
    found = found_in(tmp_path, base, sure)
    assert codes(found) == {"greedy"}
    assert "of 7 of 60 samples" in found[0].text


def test_a_score_made_of_contradicting_flags_is_impossible(tmp_path: Path) -> None:
    """Where the flag is the score, as in lambada."""
    scores = np.full((30, 1), -0.1) - np.arange(30)[:, None] / 100
    honest = [logs.cloze(i, v, greedy=True) for i, v in enumerate(scores[:, 0].tolist())]
    never = [logs.cloze(i, v - 0.001, greedy=False) for i, v in enumerate(scores[:, 0].tolist())]
    assert codes(found_in(tmp_path, honest, never), impossible=True) == {"greedy"}


@pytest.mark.parametrize(
    ("said", "code", "impossible"),
    [("", "empty", True), ("yes", "same_text", False), ("error 503. " * 20, "same_text", True)],
)
def test_texts_that_answer_nothing(tmp_path: Path, said: str, code: str, impossible: bool) -> None:
    """Nothing, one word, or one long text for every prompt: none passes a gate."""
    honest = backends.as_texts()
    broken = [
        logs.text(i, said, target=str(i * 7 % 9), said=[said], exact_match=0.0) for i in range(30)
    ]
    found = [own for own in found_in(tmp_path, honest, broken) if own.code == code]
    assert [own.impossible for own in found] == [impossible]
    assert found[0].keeps_from_passing


def test_texts_of_the_prompt_before_are_impossible(tmp_path: Path) -> None:
    """One lost answer: from there on each text belongs to the prompt before."""
    base, moved = backends.as_texts(), backends.as_texts()
    for i in range(11, 30):
        for field in ("resps", "filtered_resps"):
            moved[i][field] = base[i - 1][field]
    assert codes(found_in(tmp_path, base, moved), impossible=True) == {"out_of_step"}


def test_equal_chains_of_thought_are_refused_as_a_shared_cache(tmp_path: Path) -> None:
    """30 long texts that agree to the last character; 30 short ones that agree tell nothing."""
    long, short = backends.as_texts(), backends.as_texts(long=False)
    for records in (long, short):
        paths = runs(tmp_path / records[0]["resps"][0][0][:9], records, records)
        assert compare(*paths, allow_identical=True).compressed[0].pooled.n == 30
    with pytest.raises(FlipsError, match="every character.*--use_cache.*--allow-identical"):
        compare(*runs(tmp_path / "long", long, long))
    compare(*runs(tmp_path / "short", short, short))


def test_sampled_answers_are_told_with_their_settings(tmp_path: Path) -> None:
    """Temperature and do_sample in the words of the log; greedy settings say nothing."""
    before, after = backends.as_texts(), backends.as_texts(changed=0.3)
    for record in (*before, *after):
        record["arguments"]["gen_args_0"]["arg_1"] |= {"do_sample": True, "temperature": 0.6}
    result = compare(*runs(tmp_path, before, after))
    told = [own for own in result.compressed[0].findings if own.code == "sampled"]
    assert "do_sample true, temperature 0.6" in told[0].text
    assert "--noise-floor" in told[0].way_out
    for record in (*before, *after):
        record["arguments"]["gen_args_0"]["arg_1"]["temperature"] = 0.0
    assert not found_in(tmp_path / "cold", before, after)


def _tied(rows: Sequence[Sequence[float]]) -> list[logs.Record]:
    return [logs.choice(i, row, gold=1, metrics=("acc",)) for i, row in enumerate(rows)]


def test_ties_are_counted_in_each_run_with_the_flips_that_hang_on_them(tmp_path: Path) -> None:
    """Counted by hand: 3 of 40 tie in the compressed run, 1 in the baseline, 3 of 4 flips there."""
    plain = [[-3.1 - i / 100, -2.2 - i / 100, -5.7] for i in range(40)]
    after = [[a - 0.01, b + 0.01, c] for a, b, c in plain]
    for i in (3, 8, 20):
        after[i][0] = after[i][1]  # the first of equals counts, which is wrong
    after[30] = [-1.0, -2.0, -5.0]  # a flip of its own
    before = [list(row) for row in plain]
    before[35] = [-4.0, -2.0, -2.0]  # tied and right
    result = compare(*runs(tmp_path, _tied(before), _tied(after)))
    (told,) = [own for own in result.compressed[0].findings if own.code == "ties"]
    assert told.text.startswith("3 of 40 samples of the compressed run and 1 of the baseline tie")
    assert told.text.endswith("3 of 4 flips (acc) hang on ties")
    assert not told.impossible


def test_rounded_scores_are_told_with_their_step(tmp_path: Path) -> None:
    """To a tenth of a nat; finer digits say nothing."""
    before, after = (np.round(backends.letters(noise=own), 1) for own in (0.0, 0.3))
    found = found_in(tmp_path, backends.as_choices(before), backends.as_choices(after))
    assert next(own.text for own in found if own.code == "grid").startswith(
        "in the baseline all 240 log-likelihoods are multiples of 0.1 nats"
    )


def test_findings_are_in_the_result(tmp_path: Path) -> None:
    """With --allow-implausible they are compared, and what was found stays with the result."""
    base = backends.as_choices(backends.letters())
    broken = backends.as_choices(-backends.letters(noise=0.05))
    result = compare(*runs(tmp_path, base, broken), allow_implausible=True)
    run: RunComparison = result.compressed[0]
    assert "positive" in codes(run.findings, impossible=True)


def test_labels_that_change_are_no_shift(tmp_path: Path) -> None:
    """Of yes and no, a changed answer equals its neighbour's often: nothing is said."""
    base = [logs.text(i, "yes" if i % 2 else "no", target="yes") for i in range(40)]
    other = [logs.text(i, "yes" if i % 3 else "no", target="yes") for i in range(40)]
    assert not found_in(tmp_path, base, other)


def test_a_noise_floor_that_cannot_be_right_is_refused(tmp_path: Path) -> None:
    """A floor of zeros would make every run look like noise."""
    base, comp = (backends.as_choices(backends.letters(noise=own)) for own in (0.0, 0.05))
    paths = runs(tmp_path, base, comp)
    floor = logs.write_run(tmp_path / "c", {"task": backends.as_choices(np.zeros((60, 4)))})
    with pytest.raises(FlipsError, match="all choices of 60 of 60 samples have the same"):
        compare(*paths, noise_floor=floor)


def test_a_choice_ruled_out_is_named_with_its_sample(tmp_path: Path) -> None:
    """One -inf in the compressed run of 20: doc 4 is named, the median and the others count."""
    scores = backends.letters(20)
    moved = backends.letters(20, noise=0.05)
    moved[4, 2] = -np.inf
    result = compare(*runs(tmp_path, backends.as_choices(scores), backends.as_choices(moved)))
    (told,) = [own.text for own in result.compressed[0].findings if own.code == "infinite"]
    assert told.startswith("choice KL is infinite for 1 of 20 samples (doc 4)")
    distances = result.compressed[0].pooled.distances
    assert distances is not None
    p, q = (np.exp(own) / np.exp(own).sum(1, keepdims=True) for own in (scores, moved))
    numbers = result.compressed[0].pooled.numbers
    assert (numbers["choice_kl_infinite"].value, numbers["choice_kl_reverse_infinite"].value) == (
        1,
        0,
    )
    assert "infinite choice KL" in printed(result)
    assert json.loads(to_json(result))["compressed"][0]["pooled"]["choice_kl_infinite"] == 1
    finite = backends.as_choices(backends.letters(20, noise=0.05))
    usual = compare(*runs(tmp_path / "usual", backends.as_choices(scores), finite))
    assert usual.compressed[0].pooled.numbers["choice_kl_infinite"].value == 0
    assert "infinite" not in printed(usual)
    others = [i for i in range(20) if i != 4]
    kl = (p[others] * np.log(p[others] / q[others])).sum(1)
    assert distances.choice_kl.mean == np.inf
    ranked = np.sort([*kl, np.inf])
    assert ranked[9] - 1e-9 <= distances.choice_kl.median <= ranked[10] + 1e-9
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        halves = [np.nan_to_num(own * np.log(own / middle)).sum(1) for own in (p, q)]
    assert distances.jensen_shannon.mean == pytest.approx(np.mean(halves))
    assert distances.total_variation.mean == pytest.approx(np.abs(p - q).sum(1).mean() / 2)


# Samples that agree to the last digit


def two_tasks(folder: Path, same: int, texts: bool = False) -> list[Path]:
    """A task of which the first samples agree in both runs, and one that is the runs' own."""
    sides = []
    for name, noise in (("a", 0.0), ("b", 0.05)):
        if texts:
            words = [
                f"Step {i} of the long way to an answer is to count the boats. " * 4
                for i in range(40)
            ]
            own = [f"{text}{noise if i >= same else ''}" for i, text in enumerate(words)]
            first = [logs.text(i, "4", said=[text]) for i, text in enumerate(own)]
        else:
            both = backends.letters(60), backends.letters(60, noise=noise)
            first = backends.as_choices(np.concatenate([both[0][:same], both[1][same:]]))
        second = backends.as_choices(backends.letters(60, seed=9, noise=noise))
        sides.append(logs.write_run(folder / name, {"task": first, "other": second}))
    return sides


@pytest.mark.parametrize("texts", [False, True])
def test_a_task_from_a_shared_cache_passes_no_gate(tmp_path: Path, texts: bool) -> None:
    """All of its samples agree to the last digit, beside a task whose samples do not."""
    paths = two_tasks(tmp_path / "whole", 60, texts=texts)
    result = compare(*paths)
    (told,) = [own for own in result.compressed[0].findings if own.code == "identical"]
    assert told.task == "task"
    assert "a shared --use_cache" in told.text
    assert judge(result, LOOSE)[0].outcome == "undecided"
    accepted = compare(*paths, allow_identical=True)
    assert codes(accepted.compressed[0].findings) == set()
    assert judge(accepted, LOOSE)[0].outcome == "pass"


def test_part_of_a_task_from_a_cache_is_told(tmp_path: Path) -> None:
    """20 of 60 samples; a handful, and values that rounding makes equal, are not."""
    result = compare(*two_tasks(tmp_path / "part", 20))
    (told,) = [own.text for own in result.compressed[0].findings if own.code == "identical"]
    assert told.startswith("20 of 60 samples of the compressed run hold the baseline's log-like")
    assert codes(compare(*two_tasks(tmp_path / "few", 4)).compressed[0].findings) == set()
    scores = backends.bfloat16(backends.letters(60))
    moved = scores.copy()
    moved[0] -= 1.0
    coarse = runs(tmp_path / "coarse", *(backends.as_choices(own) for own in (scores, moved)))
    assert "identical" not in codes(compare(*coarse).compressed[0].findings)


def test_a_noise_floor_may_be_identical_in_a_task(tmp_path: Path) -> None:
    """A second run of the same model: nothing is said of it."""
    paths = two_tasks(tmp_path, 0)
    result = compare(*paths, noise_floor=two_tasks(tmp_path / "floor", 60)[1])
    assert result.noise_floor is not None
    assert "identical" not in {own.code for own in result.noise_floor.warnings}


@pytest.mark.parametrize("target", ["3", {"a": 1}, "7", ""])
def test_a_target_that_was_edited_is_told(tmp_path: Path, target: object) -> None:
    """Another choice, or none, under the old hash: no gate passes, for what is right is not known."""
    before = backends.as_choices(backends.letters())
    after = backends.as_choices(backends.letters(noise=0.05))
    wrong = next(i for i, own in enumerate(after) if own["acc"] == 0 and own["target"] != "3")
    after[wrong]["target"] = target
    result = compare(*runs(tmp_path, before, after))
    (told,) = [own.text for own in result.compressed[0].findings if own.code == "targets"]
    assert told.startswith(f"the targets of 1 of 60 samples (doc {wrong}) name other choices")
    assert judge(result, LOOSE)[0].outcome == "undecided"


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [1.0, 1.0, 2.0],
        [1.0, 1.5, 2.0],
        [1.0, np.nan, 2.0],
        [np.nan, 1.0],
        [-np.inf, 1.0, 2.0],
    ],
)
def test_more_than_two_values_are_told_without_sorting(values: list[float]) -> None:
    """As numpy's own, to which every nan is one value."""
    assert more_than_two(torch.tensor(values)) == (len(np.unique(values)) > 2)
