"""Requests in, answers out: in order, window by window, and after an interruption as without one."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.harness.answering import Answering
from lm_eval_flips.harness.recording import Recording
from lm_eval_flips.harness.recording_options import ModelIdentity, Options
from lm_eval_flips.logs.records import Request, request_digest
from lm_eval_flips.logs.runs import DISTANCES, REFERENCE
from lm_eval_flips.scoring import shards
from lm_eval_flips.scoring.reference import Reference
from lm_eval_flips.scoring.requests import Answer, TokenRequest, key_of
from lm_eval_flips.scoring.token_distances import load_distances
from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from lm_eval_flips.scoring.transformers.scorer import Scorer
from tests.scoring import models

NEAR = 1e-4  # nats
BUDGET = 40  # tokens of a pack: there are many, so that there is something to interrupt


class Asked(NamedTuple):
    """Requests: what the model reads of each, and its text."""

    windows: list[list[TokenRequest]]
    texts: list[tuple[str, ...]]

    def part(self, places: Sequence[int]) -> Asked:
        """Some of them."""
        return Asked([self.windows[i] for i in places], [self.texts[i] for i in places])


def rolling(seed: int, size: int, window: int = 15) -> list[TokenRequest]:
    """Windows of a text: each token is predicted once, from some that come before it."""
    text = [1, *models.tokens(size, seed)]
    return [
        TokenRequest.of(
            text[max(0, start - 5) : start], text[start : start + window], max_length=models.LONGEST
        )
        for start in range(1, len(text), window)
    ]


def everything() -> Asked:
    """Choices, whole texts of one to four windows, an empty one, and some that are asked twice."""
    choices = models.few_shot(questions=4, choices=3, shots=12)
    windows = [[choice] for choice in choices]
    texts: list[tuple[str, ...]] = [(f"Q{i // 3}?", f" {i % 3}") for i in range(len(choices))]
    windows += [rolling(50, 50), [], rolling(51, 15), rolling(52, 31), [choices[4]], [choices[7]]]
    texts += [("a long text",), ("",), ("a text",), ("another",), texts[4], ("Q2?", " other words")]
    order = [13, 3, 12, 0, 1, 14, 2, 4, 5, 16, 6, 15, 7, 8, 9, 10, 11, 17]
    return Asked(windows, texts).part(order)


ASKED = everything()
EMPTY, TWICE = ASKED.texts.index(("",)), ASKED.texts.index(("Q1?", " 1"))
LONG = ASKED.texts.index(("a long text",))


def compressed() -> Any:
    """The tiny Llama with noise on all its weights."""
    model = models.build("llama")
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def base() -> Any:
    """The baseline."""
    return models.build("llama")


@pytest.fixture(scope="module")
def other() -> Any:
    """The compressed model."""
    return compressed()


def answering(model: Any, asked: Asked = ASKED, **options: Any) -> Answering:
    """A call of the harness to a model, with stores that are opened for it."""
    causal = CausalModel(model)
    identity = ModelIdentity(
        name="org/model",
        revision="main",
        dtype="float32",
        tokenizer="abc",
        entries=models.TOKENS,
        max_length=models.LONGEST,
    )
    recording = Recording(
        Options(**options), model=causal, hidden=causal.probe(1), identity=identity
    )
    return Answering(Scorer(causal, budget=BUDGET), recording, asked.windows, asked.texts)


def answers(model: Any, asked: Asked = ASKED, **options: Any) -> list[Answer]:
    """All answers, in the order of the requests."""
    call = answering(model, asked, **options)
    before = set(call.found)
    places = list(call.run())
    assert sorted([*before, *places]) == list(range(len(asked.texts)))
    return [call.found[place] for place in range(len(asked.texts))]


def expected(model: Any, windows: Sequence[TokenRequest]) -> tuple[float, bool]:
    """A request's log-likelihood and whether it is greedy, from the model alone."""
    if not windows:
        return 0.0, True
    whole = torch.cat([models.logprobs(model, window) for window in windows])
    tokens = torch.cat([torch.from_numpy(window.continuation) for window in windows])
    own = whole.gather(-1, tokens[:, None]).double()
    return float(own.sum()), torch.equal(whole.argmax(-1), tokens)


def mean_kl(before: Any, after: Any, windows: Sequence[TokenRequest], *, first: bool) -> float:
    """Mean of KL(before || after), float64, over all positions or the first of each window."""
    rows = []
    for window in windows:
        p, q = (models.logprobs(model, window).double().exp() for model in (before, after))
        rows.append(rel_entr(p.numpy(), q.numpy()).sum(-1)[: 1 if first else None])
    return float(np.concatenate(rows).mean())


def assert_near(found: Sequence[Answer], wanted: Sequence[Answer]) -> None:
    """The same answers but for rounding."""
    assert [answer.is_greedy for answer in found] == [answer.is_greedy for answer in wanted]
    for name in ("loglikelihood", "token_kl"):
        own, other = ([getattr(answer, name) for answer in side] for side in (found, wanted))
        assert own == pytest.approx(other, abs=NEAR, nan_ok=True)


def interrupt_after(passes: int, error: type[BaseException] = KeyboardInterrupt) -> Any:
    """A forward that is interrupted when it has been called so often."""
    left = passes

    def forward(own: Any, **arguments: Any) -> Any:
        nonlocal left
        if left == 0:
            raise error
        left -= 1
        return own(**arguments)

    return forward


def tokens_read(model: Any, call: Answering) -> list[int]:
    """Tokens of each forward pass that a call takes."""
    read: list[int] = []

    def count(own: Any, **arguments: Any) -> Any:
        read.append(arguments["input_ids"].numel())
        return own(**arguments)

    with models.forward(model, count):
        list(call.run())
    return read


def interrupted(model: Any, left: int, **options: Any) -> dict[int, Answer]:
    """What was answered when a call was interrupted with some passes left."""
    passes = len(tokens_read(model, answering(model)))
    call = answering(model, **options)
    with (
        models.forward(model, interrupt_after(passes - left)),
        pytest.raises(KeyboardInterrupt),
    ):
        list(call.run())
    return dict(call.found)


def test_answers_are_in_the_order_of_the_requests(base: Any) -> None:
    """Whatever the order in which they were read; windows of a text are summed."""
    found = answers(base)
    wanted = [Answer(*expected(base, windows)) for windows in ASKED.windows]
    assert_near(found, wanted)
    assert max(map(len, ASKED.windows)) == 4
    assert found[EMPTY][:2] == (0.0, True)


def test_the_check_of_answers_can_fail(base: Any, other: Any) -> None:
    """Control: another model's, or those of the requests in another order, are not near."""
    found = answers(base)
    for wrong in (answers(other), [*found[1:], found[0]]):
        with pytest.raises(AssertionError):
            assert_near(found, wrong)


def greedy(model: Any, begun: list[int], size: int) -> list[int]:
    """A text that the model goes on with from what was begun, which is part of it."""
    said = list(begun)
    while len(said) < size:
        request = TokenRequest.of([1, 5, *said], [0], max_length=models.LONGEST)
        said.append(int(models.logprobs(model, request)[0].argmax()))
    return said


def test_a_text_is_greedy_if_all_its_windows_are(base: Any) -> None:
    """One other token in either window is enough."""

    def windows(text: list[int]) -> list[TokenRequest]:
        return [
            TokenRequest.of([1, 5], text[:3], max_length=models.LONGEST),
            TokenRequest.of([1, 5, *text[:3]], text[3:], max_length=models.LONGEST),
        ]

    own = greedy(base, [], 6)
    late = [*own[:5], (own[5] + 1) % models.TOKENS]
    early = greedy(base, [*own[:2], (own[2] + 1) % models.TOKENS], 6)
    asked = Asked(list(map(windows, (own, late, early))), [("own",), ("late",), ("early",)])
    assert [answer.is_greedy for answer in answers(base, asked)] == [True, False, False]


def test_no_requests_have_no_answers(base: Any) -> None:
    """As of a task that is empty."""
    assert answers(base, Asked([], [])) == []
    nothing = answers(base, Asked([[], []], [("",), ("",)]))
    assert [answer[:2] for answer in nothing] == [(0.0, True)] * 2


def test_places_come_as_they_are_answered(base: Any) -> None:
    """Each once, when its answer is there, and not all at the end."""
    call = answering(base)
    seen: list[int] = []
    for place in call.run():
        assert place in call.found
        seen.append(place)
        assert len(call.found) == len(seen)
    assert sorted(seen) == list(range(len(ASKED.texts)))


def test_recording_and_measuring_change_no_answer(base: Any, other: Any, tmp_path: Path) -> None:
    """To the last bit."""
    run: dict[str, Any] = {"reference": tmp_path / "base", "distances": tmp_path / "run"}
    recording: dict[str, Any] = {"record": tmp_path / "base"}
    for model, options in ((base, recording), (other, run)):
        plain, found = answers(model), answers(model, **options)
        assert [answer[:2] for answer in found] == [answer[:2] for answer in plain]
        assert all(isnan(answer.token_kl) for answer in plain)


@pytest.mark.parametrize("positions", ["all", "last"])
def test_a_measured_answer_carries_its_mean_kl(
    base: Any, other: Any, tmp_path: Path, positions: str
) -> None:
    """Over all positions of all windows, or the first of each; none of an empty text."""
    answers(base, record=tmp_path / "base", positions=positions)
    found = answers(other, reference=tmp_path / "base", distances=tmp_path / "run")
    for answer, windows in zip(found, ASKED.windows, strict=True):
        if not windows:
            assert isnan(answer.token_kl)
            continue
        kl = mean_kl(base, other, windows, first=positions == "last")
        assert answer.token_kl == pytest.approx(kl, abs=1e-5)
        assert kl > 1e-3


def test_what_is_stored_are_the_answers_that_were_given(
    base: Any, other: Any, tmp_path: Path
) -> None:
    """Both models', to the last digit: the windows' sum for a text, each text once."""
    before = answers(base, record=tmp_path / "base")
    after = answers(other, reference=tmp_path / "base", distances=tmp_path / "run")
    stored = load_distances(tmp_path / "run" / DISTANCES)
    assert stored is not None
    digests = [request_digest(Request(*text)) for text in ASKED.texts]
    assert len(stored.keys) == len(set(digests)) == len(digests) - 1
    places = stored.find(np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2))
    assert stored.loglikelihoods[places].tolist() == [a.loglikelihood for a in after]
    assert stored.baseline_loglikelihoods[places].tolist() == [a.loglikelihood for a in before]
    sizes = np.diff(stored.starts)[places].tolist()
    assert sizes == [sum(window.scored for window in own) for own in ASKED.windows]


def test_a_finished_recording_answers_without_the_model(base: Any, tmp_path: Path) -> None:
    """Every window is known; what is stored does not grow."""
    first = answers(base, record=tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*"))
    call = answering(base, record=tmp_path)
    with models.forward(base, interrupt_after(0, AssertionError)):
        places = list(call.run())
    assert sorted(places) == list(range(len(first)))
    assert [call.found[i][:2] for i in range(len(first))] == [answer[:2] for answer in first]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) == size


def test_a_finished_measurement_answers_without_the_model(
    base: Any, other: Any, tmp_path: Path
) -> None:
    """Every text is known from the start, with its KL."""
    answers(base, record=tmp_path / "base")
    run: dict[str, Any] = {"reference": tmp_path / "base", "distances": tmp_path / "run"}
    first = answers(other, **run)
    call = answering(other, **run)
    assert sorted(call.found) == list(range(len(first)))
    with models.forward(other, interrupt_after(0, AssertionError)):
        assert list(call.run()) == []
    assert_near([call.found[i] for i in range(len(first))], first)
    assert call.found[LONG] == first[LONG]


@pytest.mark.parametrize("left", [1, 2, 3])
def test_an_interrupted_recording_ends_as_an_uninterrupted_one(
    base: Any, tmp_path: Path, left: int
) -> None:
    """What was finished is not read again; answers and states are the same."""
    whole = answers(base, record=tmp_path / "whole")
    part = interrupted(base, left, record=tmp_path / "part")
    assert 1 < len(part) < len(whole)  # the empty text is answered at once
    kept = Reference(tmp_path / "part" / REFERENCE)
    known = [all(key_of(window) in kept for window in own) for own in ASKED.windows]
    assert all(known[place] for place in part)
    assert not all(known)
    call = answering(base, record=tmp_path / "part")
    assert sum(tokens_read(base, call)) < sum(tokens_read(base, answering(base)))
    assert_near([call.found[i] for i in range(len(whole))], whole)
    assert [call.found[i][:2] for i in part] == [answer[:2] for answer in part.values()]
    one, other = (Reference(tmp_path / name / REFERENCE) for name in ("whole", "part"))
    for window in (window for own in ASKED.windows for window in own):
        wanted = [(key_of(window), token) for token in range(window.scored)]
        states = [reference.states(wanted) for reference in (one, other)]
        assert isinstance(states[0], Tensor)
        assert isinstance(states[1], Tensor)
        torch.testing.assert_close(states[0], states[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("left", [1, 2, 3])
def test_an_interrupted_measurement_ends_as_an_uninterrupted_one(
    base: Any, other: Any, tmp_path: Path, left: int
) -> None:
    """The finished ones are there at once, with the KL that they had."""
    answers(base, record=tmp_path / "base")
    reference: dict[str, Any] = {"reference": tmp_path / "base"}
    whole = answers(other, **reference, distances=tmp_path / "whole")
    part = interrupted(other, left, **reference, distances=tmp_path / "part")
    assert 1 < len(part) < len(whole)  # the empty text is answered at once
    call = answering(other, **reference, distances=tmp_path / "part")
    assert set(part) <= set(call.found) < set(range(len(whole)))
    assert_near([call.found[i] for i in part], list(part.values()))
    assert [call.found[i][:2] for i in part] == [answer[:2] for answer in part.values()]
    found = answers(other, **reference, distances=tmp_path / "part")
    assert_near(found, whole)
    sizes = []
    for name in ("whole", "part"):
        stored = load_distances(tmp_path / name / DISTANCES)
        assert stored is not None
        sizes.append((len(stored.keys), len(stored.values["kl"])))
    assert sizes[0] == sizes[1]


def test_a_text_of_which_a_window_is_missing_is_not_answered(base: Any, tmp_path: Path) -> None:
    """Its finished windows are kept, and the others read later."""
    whole = answers(base)
    windows = ASKED.windows[LONG]
    part = Asked([[windows[0]], [windows[2]]], [("one window",), ("and another",)])
    answers(base, part, record=tmp_path)
    call = answering(base, record=tmp_path)
    assert LONG not in call.found
    found = answers(base, record=tmp_path)
    assert_near(found, whole)


def test_whoever_stops_listening_keeps_what_was_answered(base: Any, tmp_path: Path) -> None:
    """The harness may stop for a reason of its own."""
    call = answering(base, record=tmp_path)
    run = call.run()
    heard = [next(run) for _ in range(5)]
    run.close()  # type: ignore[attr-defined]
    kept = Reference(tmp_path / REFERENCE)
    assert all(key_of(window) in kept for place in heard for window in ASKED.windows[place])
    assert not all(key_of(window) in kept for own in ASKED.windows for window in own)


def test_a_store_that_cannot_be_written_ends_the_call(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the folder's name; what was written before stays."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    call = answering(base, record=tmp_path / "base")
    run = call.run()
    heard = [next(run) for _ in range(4)]
    folder = tmp_path / "base" / REFERENCE
    number = len(list(folder.glob("0*.safetensors")))
    (folder / f".{number:05}.safetensors.tmp").mkdir()
    with pytest.raises(FlipsError, match=f"{number:05}.safetensors' cannot be written"):
        list(run)
    kept = Reference(folder)
    assert all(key_of(window) in kept for place in heard for window in ASKED.windows[place])


def test_a_window_that_another_request_has_too_is_recorded_for_both(
    base: Any, tmp_path: Path
) -> None:
    """The same tokens under another text, now or in a later task."""
    first = ASKED.part([TWICE])
    answers(base, first, record=tmp_path)
    later = Asked(first.windows, [("another", " text")])
    call = answering(base, later, record=tmp_path)
    assert not call.found
    with models.forward(base, interrupt_after(0, AssertionError)):
        assert list(call.run()) == [0]
    assert call.found[0].loglikelihood == pytest.approx(
        expected(base, first.windows[0])[0], abs=NEAR
    )


def test_what_the_reference_lacks_is_named_before_anything_is_read(
    base: Any, other: Any, tmp_path: Path
) -> None:
    """Each request once, however many of its windows are missing."""
    lacking = [LONG, TWICE, len(ASKED.texts) - 1]
    same = {key_of(ASKED.windows[place][0]) for place in lacking}
    also = [i for i, own in enumerate(ASKED.windows) if own and key_of(own[0]) in same]
    recorded = [i for i in range(len(ASKED.texts)) if i not in also]
    answers(base, ASKED.part(recorded), record=tmp_path / "base")
    call = answering(other, reference=tmp_path / "base", distances=tmp_path / "run")
    assert call.missing() == sorted(also)
    assert answering(other, ASKED.part(recorded), reference=tmp_path / "base").missing() == []
    assert answering(other).missing() == []
    assert answering(other, record=tmp_path / "other").missing() == []


def test_what_was_measured_before_is_not_missing(base: Any, other: Any, tmp_path: Path) -> None:
    """A finished text needs no reference any more."""
    run: dict[str, Any] = {"reference": tmp_path / "base", "distances": tmp_path / "run"}
    answers(base, ASKED.part([0, 1, 2]), record=tmp_path / "base")
    first = answers(other, ASKED.part([0, 1, 2]), **run)
    call = answering(other, ASKED, **run)
    known = {ASKED.texts[place] for place in (0, 1, 2)}
    assert not {ASKED.texts[place] for place in call.missing()} & known
    assert [call.found[place][:2] for place in (0, 1, 2)] == [answer[:2] for answer in first]
