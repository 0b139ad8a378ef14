"""What is recorded of a model, what is measured against what, and all that is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.harness.recording import Recording
from lm_eval_flips.harness.recording_options import ModelIdentity, Options, tokenizer_fingerprint
from lm_eval_flips.logs.runs import DISTANCES, REFERENCE
from lm_eval_flips.scoring import shards
from lm_eval_flips.scoring.lm_head import UnreadableHeadError
from lm_eval_flips.scoring.reference import LM_HEAD, Reference, ReferenceHeader
from lm_eval_flips.scoring.requests import Answer, TokenRequest, key_of
from lm_eval_flips.scoring.scores import RequestScore, score_rows
from lm_eval_flips.scoring.token_distances import DistancesHeader, load_distances
from lm_eval_flips.scoring.top_tokens import TopTokens, top_tokens
from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from lm_eval_flips.scoring.transformers.scorer import Scorer
from tests import conftest
from tests.scoring import models

REQUESTS = models.few_shot(questions=3, choices=3, shots=10)
IDENTITY: dict[str, Any] = {
    "name": "org/model",
    "revision": "main",
    "dtype": "float32",
    "tokenizer": "abc",
    "entries": models.TOKENS,
    "max_length": models.LONGEST,
    "files": "made once",
}


def noisy(noise: float, **more: Any) -> Any:
    """The tiny Llama with noise on its last layer."""
    model = models.build("llama", **more)
    weight = model.lm_head.weight
    with torch.no_grad():
        weight.add_(noise * torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)))
    return model


def opened(
    model: Any | None = None, *, rank: int = 0, identity: dict[str, Any] | None = None, **asked: Any
) -> Recording:
    """The stores of a model, by default the tiny Llama, that are asked for."""
    causal = CausalModel(model or models.build("llama"))
    return Recording(
        Options(**asked),
        model=causal,
        hidden=causal.probe(1),
        identity=ModelIdentity(**{**IDENTITY, **(identity or {})}),
        rank=rank,
    )


def feed(
    recording: Recording, model: Any | None = None, requests: Sequence[TokenRequest] = REQUESTS
) -> list[RequestScore]:
    """Score requests and hand them to a recording, each under its number as its text."""
    scorer = Scorer(CausalModel(model or models.build("llama")))
    keys = list(map(key_of, requests))
    found: list[RequestScore] = []
    for rows in scorer.rows(requests):
        scores = list(
            score_rows(rows, requests, scorer.model.head, baseline=recording.baseline, keys=keys)
        )
        recording.add_windows(rows, scores, keys)
        for score in scores:
            answer = Answer(score.loglikelihood, score.is_greedy)
            recording.add_request(text(score.request), answer, [score], [keys[score.request]])
        found += scores
    return sorted(found, key=lambda score: score.request)


def text(number: int) -> bytes:
    """A request's key among the distances."""
    return bytes([number] * 16)


def recorded(folder: Path, model: Any | None = None, **asked: Any) -> Reference:
    """A model's reference of all requests."""
    with opened(model, record=folder, **asked) as recording:
        feed(recording, model)
    return Reference(folder / REFERENCE)


def logits(model: Any, request: TokenRequest) -> Tensor:
    """What the model says where it predicts the continuation."""
    with torch.no_grad():
        whole: Tensor = model(input_ids=torch.from_numpy(request.fed)[None]).logits[0]
    return whole[request.first_scored :]


def states(reference: Reference, request: TokenRequest) -> Tensor:
    """Hidden states of a request."""
    found = reference.states([(key_of(request), token) for token in range(request.scored)])
    assert isinstance(found, Tensor)
    return found


def assert_rebuilt(reference: Reference, model: Any) -> None:
    """The reference makes the model's own distributions, and holds its log-likelihoods."""
    for request in REQUESTS:
        rebuilt = reference.head().logits(states(reference, request))
        torch.testing.assert_close(rebuilt, logits(model, request), atol=1e-5, rtol=1e-5)
        own = models.logprobs(model, request)
        total = float(own.gather(-1, torch.from_numpy(request.continuation)[:, None]).sum())
        assert reference.loglikelihood(key_of(request)) == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"positions": "first"}, "positions=first is neither 'all' nor 'last'"),
        ({"positions": ""}, "positions= is neither 'all' nor 'last'"),
        ({"top": 0}, "top=0 keeps no token; give at least 1"),
        ({"top": -3}, "top=-3 keeps no token"),
        ({"distances": Path("a")}, "distances=a needs reference=RUN, the baseline to measure from"),
        ({"distances": Path("a"), "record": Path("b")}, "distances=a needs reference=RUN"),
    ],
)
def test_options_that_cannot_be_are_refused(asked: dict[str, Any], message: str) -> None:
    """In words that say what to give instead."""
    with pytest.raises(FlipsError, match=f"^{re.escape(message)}"):
        Options(**asked)


def test_a_tokenizer_is_known_by_its_words_and_how_it_splits() -> None:
    """Two that are made alike are the same one; one more word or another split is another."""
    own = tokenizer_fingerprint(conftest._tokenizer())
    assert own == tokenizer_fingerprint(conftest._tokenizer())
    longer, spaced = conftest._tokenizer(), conftest._tokenizer()
    longer.add_tokens(["amber"])
    from tokenizers import pre_tokenizers

    spaced.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert spaced.get_vocab() == conftest._tokenizer().get_vocab()
    assert len({own, tokenizer_fingerprint(longer), tokenizer_fingerprint(spaced)}) == 3


@pytest.mark.parametrize("name", ["llama", "llama tied", "phi", "gemma2", "granite", "cohere"])
def test_a_recording_makes_the_model_s_own_logits(tmp_path: Path, name: str) -> None:
    """Plain, tied, biased, softly capped, divided and multiplied ones, from the files alone."""
    model = models.build(name)
    reference = recorded(tmp_path, model)
    assert_rebuilt(reference, model)
    assert reference.header.lm_head is not None
    tensors = shards.read_tensor_file(reference.folder, reference.header.lm_head)
    assert ("bias" in tensors) == (name == "phi")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1.1)
    with pytest.raises(AssertionError, match="not close"):
        assert_rebuilt(reference, model)


def test_the_header_says_which_model_it_is_and_how_it_was_recorded(tmp_path: Path) -> None:
    """Every field, of a model whose logits are capped and of one whose are divided."""
    capped = recorded(tmp_path / "a", models.build("gemma2")).header
    divided = recorded(tmp_path / "b", models.build("granite"), positions="last", top=3).header
    both: dict[str, Any] = {name: IDENTITY[name] for name in IDENTITY if name != "entries"}
    both["model"] = both.pop("name")
    expected = {**both, "vocabulary": models.TOKENS, "width": 32}
    assert capped == ReferenceHeader(
        **expected, positions="all", top=None, scale=1.0, cap=3.0, lm_head=capped.lm_head
    )
    assert divided == ReferenceHeader(
        **expected, positions="last", top=3, scale=0.25, cap=0.0, lm_head=None
    )
    assert capped.lm_head is not None
    assert capped.lm_head.name == LM_HEAD


def test_only_last_positions_are_recorded_where_that_is_asked_for(tmp_path: Path) -> None:
    """One state a context, which predicts the first token of all its choices."""
    model = models.build("llama")
    whole = recorded(tmp_path / "all", model)
    last = recorded(tmp_path / "last", model, positions="last")
    for request in REQUESTS:
        key = key_of(request)
        first = last.states([(key, 0)])
        assert isinstance(first, Tensor)
        torch.testing.assert_close(first, states(whole, request)[:1])
        torch.testing.assert_close(last.logprobs(key), whole.logprobs(key)[:1])
        assert last.loglikelihood(key) == whole.loglikelihood(key)
    rows = [
        len(shards.read_tensor_file(folder / REFERENCE, file)["hidden"])
        for folder in (tmp_path / "last", tmp_path / "all")
        for file in shards.read_manifest(folder / REFERENCE, ReferenceHeader).shards
    ]
    assert rows == [3, sum(request.scored for request in REQUESTS) - 3 * 2]


def test_the_most_likely_tokens_are_recorded_where_that_is_asked_for(tmp_path: Path) -> None:
    """Those of the model's own logits, and no lm_head."""
    model = models.build("llama")
    reference = recorded(tmp_path, model, top=5)
    for request in REQUESTS:
        found = reference.states([(key_of(request), token) for token in range(request.scored)])
        assert isinstance(found, TopTokens)
        expected = top_tokens(logits(model, request), 5)
        assert torch.equal(found.ids, expected.ids)
        torch.testing.assert_close(found.logprobs, expected.logprobs, atol=1e-5, rtol=0)
    assert not (tmp_path / REFERENCE / LM_HEAD).exists()


def test_another_model_is_not_recorded_over_the_first(tmp_path: Path) -> None:
    """It is refused, and what was recorded, lm_head too, is as it was."""
    model = models.build("llama")
    recorded(tmp_path, model)
    with pytest.raises(FlipsError, match="was begun with model org/model, not org/other"):
        opened(noisy(0.5), record=tmp_path, identity={"name": "org/other"})
    with pytest.raises(FlipsError, match="was begun with lm_head"):
        opened(noisy(0.5), record=tmp_path)
    assert_rebuilt(Reference(tmp_path / REFERENCE), model)
    opened(model, record=tmp_path)


def test_an_interrupted_recording_goes_on(tmp_path: Path) -> None:
    """Its windows are known by their keys, and only as long as nothing else needs them."""
    model = models.build("llama")
    with opened(model, record=tmp_path) as recording:
        scores = feed(recording, model, REQUESTS[:4])
    again = opened(model, record=tmp_path)
    for request, score in zip(REQUESTS, scores, strict=False):
        found = again.answered_window(key_of(request))
        assert found is not None
        assert found[:2] == (score.loglikelihood, score.is_greedy)
        assert isnan(found.token_kl)
    assert again.answered_window(key_of(REQUESTS[5])) is None
    recorded(tmp_path / "base", model)
    both = opened(model, record=tmp_path, reference=tmp_path / "base")
    assert both.answered_window(key_of(REQUESTS[0])) is None


@pytest.mark.parametrize("rank", [0, 1, 12])
def test_each_process_writes_to_a_folder_of_its_own(tmp_path: Path, rank: int) -> None:
    """The reference holds what each of them recorded, and so do the distances."""
    model, own = models.build("llama"), f"rank-{rank}" if rank else ""
    opened(model, record=tmp_path / "base")
    with opened(model, record=tmp_path / "base", rank=rank) as recording:
        feed(recording, model)
    assert list((tmp_path / "base" / REFERENCE / own).glob("0*.safetensors"))
    assert_rebuilt(Reference(tmp_path / "base" / REFERENCE), model)
    measuring: dict[str, Any] = {"reference": tmp_path / "base", "distances": tmp_path / "run"}
    opened(model, **measuring)
    with opened(model, rank=rank, **measuring) as recording:
        feed(recording, model)
    assert list((tmp_path / "run" / DISTANCES / own).glob("0*.safetensors"))
    stored = load_distances(tmp_path / "run" / DISTANCES)
    assert stored is not None
    assert len(stored.keys) == len(REQUESTS)


def measured(tmp_path: Path, model: Any, **identity: Any) -> Recording:
    """The stores of a model that is measured against the recorded tiny Llama."""
    recorded(tmp_path / "base")
    asked: dict[str, Any] = {"reference": tmp_path / "base", "distances": tmp_path / "run"}
    return opened(model, identity={"name": "org/int4", "dtype": "float16", **identity}, **asked)


def test_distances_say_between_which_models_they_are(tmp_path: Path) -> None:
    """And are stored with both answers, request by request."""
    model = noisy(0.1)
    with measured(tmp_path, model, files="later") as recording:
        scores = feed(recording, model)
    stored = load_distances(tmp_path / "run" / DISTANCES)
    assert stored is not None
    assert stored.header == DistancesHeader(
        model="org/int4",
        revision="main",
        dtype="float16",
        baseline="org/model",
        baseline_dtype="float32",
        tokens=models.TOKENS,
        max_length=models.LONGEST,
        positions="all",
        top=None,
        files="later",
    )
    reference = Reference(tmp_path / "base" / REFERENCE)
    asked = np.frombuffer(b"".join(map(text, range(len(REQUESTS)))), np.uint64).reshape(-1, 2)
    for i, place in enumerate(stored.find(asked).tolist()):
        own = slice(stored.starts[place], stored.starts[place + 1])
        distances = scores[i].distances
        assert distances is not None
        assert torch.equal(stored.values["kl"][own], distances.kl)
        assert float(distances.kl.min()) > 0
        assert stored.loglikelihoods[place] == scores[i].loglikelihood
        before = reference.loglikelihood(key_of(REQUESTS[i]))
        assert stored.baseline_loglikelihoods[place] == before


def test_a_measured_request_is_known_by_its_text(tmp_path: Path) -> None:
    """After a restart, with its mean KL; without distances nothing is."""
    model = noisy(0.1)
    with measured(tmp_path, model) as recording:
        scores = feed(recording, model)
    again = measured(tmp_path, model)
    for score in scores:
        found = again.answered(text(score.request))
        assert found is not None
        assert score.distances is not None
        assert found[:2] == (score.loglikelihood, score.is_greedy)
        assert found.token_kl == float(score.distances.kl.double().mean())
    assert again.answered(text(99)) is None
    alone = opened(model, reference=tmp_path / "base")
    assert alone.answered(text(0)) is None


def test_the_baseline_s_loglikelihood_is_that_of_all_windows(tmp_path: Path) -> None:
    """As the baseline's run logged the whole text."""
    model = noisy(0.1)
    with measured(tmp_path, model) as recording:
        windows = [key_of(request) for request in REQUESTS[:3]]
        recording.add_request(text(1), Answer(-1.0, False), [], windows)
        recording.add_request(text(2), Answer(0.0, True), [], [])
    stored = load_distances(tmp_path / "run" / DISTANCES)
    assert stored is not None
    reference = Reference(tmp_path / "base" / REFERENCE)
    total = sum(reference.loglikelihood(key) for key in windows)
    assert stored.baseline_loglikelihoods.tolist() == [total, 0.0]


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    """Both models are named, and what can be done instead."""
    with pytest.raises(
        FlipsError,
        match="'org/int4' has another tokenizer than the baseline 'org/model': .*choices",
    ):
        measured(tmp_path, noisy(0.1), tokenizer="xyz")


@pytest.mark.parametrize(("tokens", "entries"), [(90, 97), (90, 91), (104, 98)])
def test_a_vocabulary_that_lacks_a_token_is_refused(
    tmp_path: Path, tokens: int, entries: int
) -> None:
    """One of the models has no logit for a token of the tokenizer."""
    message = f"'org/int4' has {tokens} vocabulary entries, the baseline 'org/model' 97: they"
    with pytest.raises(FlipsError, match=message):
        measured(tmp_path, models.build("llama", vocab_size=tokens), entries=entries)


@pytest.mark.parametrize(("tokens", "entries", "shared"), [(90, 90, 90), (104, 97, 97)])
def test_vocabularies_padded_otherwise_are_compared_and_said(
    tmp_path: Path, tokens: int, entries: int, shared: int
) -> None:
    """The tokenizer's tokens are in both."""
    recording = measured(tmp_path, models.build("llama", vocab_size=tokens), entries=entries)
    (note,) = recording.notes
    assert note == (
        f"vocabularies padded to 97 and {tokens} entries: the first {shared} are compared"
    )
    assert recording.baseline is not None
    assert recording.baseline.shared == shared
    assert (tmp_path / "run" / DISTANCES).exists()


def test_vocabularies_of_one_size_need_no_note(tmp_path: Path) -> None:
    """Though the tokenizer may know of more, as both models do without them."""
    recording = measured(tmp_path, noisy(0.1), entries=models.TOKENS + 2)
    assert recording.notes == []


def test_a_baseline_that_was_not_recorded_is_refused(tmp_path: Path) -> None:
    """Its folder is named, and no distances are begun."""
    with pytest.raises(
        FlipsError, match=f"base/{REFERENCE}' has no manifest.json; record it first"
    ):
        opened(reference=tmp_path / "base", distances=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_distances_from_another_baseline_are_not_mixed(tmp_path: Path) -> None:
    """A folder of distances is of one pair of models."""
    model = noisy(0.1)
    measured(tmp_path, model)
    with opened(model, record=tmp_path / "other", identity={"name": "org/other"}) as recording:
        feed(recording, model)
    with pytest.raises(FlipsError, match="was begun with baseline org/model, not org/other"):
        opened(
            model,
            reference=tmp_path / "other",
            distances=tmp_path / "run",
            identity={"name": "org/int4", "dtype": "float16"},
        )


def test_keys_are_needed_only_where_something_is_recorded_or_measured(tmp_path: Path) -> None:
    """Nothing asked for is nothing written."""
    nothing = opened()
    with nothing:
        feed(nothing)
    assert not nothing.keyed
    assert (nothing.baseline, nothing.notes) == (None, [])
    assert opened(record=tmp_path / "base").keyed
    assert opened(reference=tmp_path / "base").keyed


def fed_until(error: BaseException | None, recording: Recording, model: Any) -> None:
    """A call that is given all requests, and then ends with an error."""
    with recording:
        feed(recording, model)
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("of the model"), None])
def test_what_was_finished_is_kept_when_it_is_interrupted(
    tmp_path: Path, error: BaseException | None
) -> None:
    """By a key, by a model's own error, or not at all."""
    model = models.build("llama")
    recorded(tmp_path / "base", model)
    recording = opened(
        model,
        record=tmp_path / "a",
        reference=tmp_path / "base",
        distances=tmp_path / "b",
    )
    with nullcontext() if error is None else pytest.raises(type(error)):
        fed_until(error, recording, model)
    assert_rebuilt(Reference(tmp_path / "a" / REFERENCE), model)
    stored = load_distances(tmp_path / "b" / DISTANCES)
    assert stored is not None
    assert len(stored.keys) == len(REQUESTS)


def test_after_an_error_of_ours_nothing_more_is_written(tmp_path: Path) -> None:
    """A full disk does not become less full; the first message is the one to read."""
    model = models.build("llama")
    with pytest.raises(FlipsError, match="^the disk is full$"):
        fed_until(FlipsError("the disk is full"), opened(model, record=tmp_path), model)
    assert not list((tmp_path / REFERENCE).glob("0*.safetensors"))
    assert key_of(REQUESTS[0]) not in Reference(tmp_path / REFERENCE)


class Quantised(nn.Module):
    """An lm_head of 8-bit numbers, which only its own forward can multiply with."""

    def __init__(self, own: nn.Linear, shape: tuple[int, ...] | None) -> None:
        super().__init__()
        self.scale = own.weight.detach().abs().amax() / 127
        numbers = (own.weight.detach() / self.scale).round().char()
        self.numbers = nn.Buffer(numbers)
        if shape is not None:
            self.weight = nn.Parameter(numbers.view(shape), requires_grad=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden @ (self.numbers.to(hidden.dtype) * self.scale).T


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((models.TOKENS, 32), "lm_head's weight does not make its output"),
        ((models.TOKENS * 32, 1), "lm_head's weight is packed"),
        (None, "lm_head has no weight"),
    ],
)
def test_an_lm_head_that_cannot_be_read_is_not_recorded(
    tmp_path: Path, shape: tuple[int, ...] | None, message: str
) -> None:
    """Numbers without their scale, packed ones, or none; its top tokens can be recorded."""
    model = models.build("llama")
    model.lm_head = Quantised(model.lm_head, shape)
    with pytest.raises(UnreadableHeadError, match=message):
        opened(model, record=tmp_path / "states")
    assert not (tmp_path / "states").exists()
    reference = recorded(tmp_path / "top", model, top=4)
    found = reference.states([(key_of(REQUESTS[0]), 0)])
    assert isinstance(found, TopTokens)
    assert torch.equal(found.ids, top_tokens(logits(model, REQUESTS[0])[:1], 4).ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantised_lm_head_that_can_be_read_is_recorded(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    """Int8 weights of torchao, as the numbers that they stand for."""
    quantization = pytest.importorskip("torchao.quantization", exc_type=ImportError)
    model = models.build("llama", dtype=dtype)
    plain = model.lm_head.weight.detach().clone()
    quantization.quantize_(
        model, quantization.Int8WeightOnlyConfig(), filter_fn=lambda _, name: name == "lm_head"
    )
    assert type(model.lm_head.weight.detach()) is not Tensor
    reference = recorded(tmp_path, model)
    for request in REQUESTS:
        rebuilt = reference.head().logits(states(reference, request))
        own = logits(model, request)
        off = 8 * torch.finfo(dtype).eps * float(own.float().abs().max())
        torch.testing.assert_close(rebuilt, own, atol=off, rtol=0)
    request = REQUESTS[-1]
    before = nn.functional.linear(states(reference, request), plain)
    rebuilt = reference.head().logits(states(reference, request))
    assert float((rebuilt - before).float().abs().max()) > 1e-3
