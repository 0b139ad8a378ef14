"""What a baseline's reference gives back, what it refuses, and how little it takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring import shards
from lm_eval_flips.scoring.lm_head import LMHead, linear
from lm_eval_flips.scoring.reference import (
    KEPT_SHARDS,
    LM_HEAD,
    Recorded,
    Reference,
    ReferenceHeader,
    ReferenceWriter,
    lm_head_file,
)
from lm_eval_flips.scoring.requests import KEY, Answer, Ints, TokenRequest, key_of
from lm_eval_flips.scoring.scored_rows import ScoredRows
from lm_eval_flips.scoring.shards import File
from lm_eval_flips.scoring.top_tokens import TopTokens, top_tokens
from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from tests.scoring import models

TOKENS, WIDTH, LONGEST = 23, 6, 64


class Toy:
    """A model whose state is a random function of what it has read, with a linear lm_head."""

    def __init__(
        self,
        seed: int,
        *,
        tokens: int = TOKENS,
        width: int = WIDTH,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.seed, self.width, self.dtype = seed, width, dtype
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(tokens, width, generator=generator).to(dtype)
        self.head = LMHead(project=linear(self.weight, None), tokens=tokens)

    def state(self, read: Ints) -> Tensor:
        """The state after these tokens, ``[width]``."""
        hashed = hashlib.blake2b(read.tobytes(), digest_size=6, key=bytes([self.seed]))
        generator = torch.Generator().manual_seed(int.from_bytes(hashed.digest(), "little"))
        return torch.randn(self.width, generator=generator).to(self.dtype)

    def states(self, request: TokenRequest) -> Tensor:
        """The states that predict a request's continuation, ``[scored, width]``."""
        ends = range(request.first_scored + 1, len(request.fed) + 1)
        return torch.stack([self.state(request.fed[:end]) for end in ends])

    def logprobs(self, request: TokenRequest) -> Tensor:
        """Float64 log-probabilities over the vocabulary where it predicts, ``[scored, tokens]``."""
        logits = self.states(request).double() @ self.weight.double().T
        return logits.log_softmax(-1)

    def rows(self, requests: Sequence[TokenRequest], chosen: Sequence[int] = ()) -> ScoredRows:
        """The states of some of the requests (of all if none is named), each once."""
        chosen = chosen or range(len(requests))
        row_of: dict[bytes, int] = {}
        states: list[Tensor] = []
        rows: list[Ints] = []
        for index in chosen:
            fed, own = requests[index].fed, []
            for end in range(requests[index].first_scored + 1, len(fed) + 1):
                row = row_of.setdefault(fed[:end].tobytes(), len(states))
                if row == len(states):
                    states.append(self.state(fed[:end]))
                own.append(row)
            rows.append(np.array(own, np.int64))
        return ScoredRows(hidden=torch.stack(states), requests=tuple(chosen), rows=tuple(rows))

    def recorded(
        self, requests: Sequence[TokenRequest], *, last: bool = False, top: int | None = None
    ) -> Recorded:
        """What a recording of these requests holds."""
        rows = self.rows(requests)
        own, hidden = rows.rows, rows.hidden
        if last:
            used = np.unique([places[0] for places in own])
            own = tuple(np.searchsorted(used, places[:1]) for places in own)
            hidden = hidden[torch.from_numpy(used)]
        logprobs = [self.of_tokens(request) for request in requests]
        return Recorded(
            keys=[key_of(request) for request in requests],
            answers=[
                Answer(float(found.sum()), place % 3 == 0) for place, found in enumerate(logprobs)
            ],
            rows=own,
            logprobs=[
                found[: len(places)].float() for found, places in zip(logprobs, own, strict=True)
            ],
            states=hidden if top is None else top_tokens(self.head.logits(hidden), top),
        )

    def of_tokens(self, request: TokenRequest) -> Tensor:
        """Float64 log-probability of each token of a request's continuation."""
        return self.logprobs(request).gather(-1, torch.from_numpy(request.continuation)[:, None])[
            :, 0
        ]


def header(toy: Toy, **changes: Any) -> ReferenceHeader:
    """The header of a recording of a toy."""
    return msgspec.structs.replace(
        ReferenceHeader(
            model="org/model",
            revision="main",
            dtype=str(toy.dtype).removeprefix("torch."),
            tokenizer="abc",
            vocabulary=toy.head.tokens,
            width=toy.width,
            max_length=LONGEST,
            positions="all",
            top=None,
            scale=1.0,
            cap=0.0,
            lm_head=None,
        ),
        **changes,
    )


def writer(folder: Path, toy: Toy, **changes: Any) -> ReferenceWriter:
    """Begins or continues the recording of a toy; without lm_head in the bounded mode."""
    if changes.get("top") is not None:
        return ReferenceWriter(folder, header(toy, **changes))
    file, content = lm_head_file(toy.weight, None)
    return ReferenceWriter(folder, header(toy, lm_head=file, **changes), lm_head=content)


def record(
    folder: Path,
    toy: Toy,
    requests: Sequence[TokenRequest],
    *,
    last: bool = False,
    top: int | None = None,
) -> Reference:
    """A toy's reference of these requests."""
    made = writer(folder, toy, positions="last" if last else "all", top=top)
    made.add(toy.recorded(requests, last=last, top=top))
    made.flush()
    return Reference(folder)


def questions(count: int, seed: int = 0, *, tokens: int = TOKENS) -> list[TokenRequest]:
    """Questions of three choices of one to four tokens, whose first positions are shared."""
    generator = np.random.default_rng(seed)

    def some(size: int) -> list[int]:
        return [int(token) for token in generator.integers(0, tokens, size)]

    contexts = [some(5) for _ in range(count)]
    return [
        TokenRequest.of(context, some(1 + (place + choice) % 4), max_length=LONGEST)
        for place, context in enumerate(contexts)
        for choice in range(3)
    ]


def assert_holds(reference: Reference, toy: Toy, requests: Sequence[TokenRequest]) -> None:
    """Every state, log-probability and answer of the requests, to the last bit."""
    expected = toy.recorded(requests)
    for request, answer, logprobs in zip(
        requests, expected.answers, expected.logprobs, strict=True
    ):
        key = key_of(request)
        assert key in reference
        states = reference.states([(key, token) for token in range(request.scored)])
        assert isinstance(states, Tensor)
        assert torch.equal(states, toy.states(request))
        assert torch.equal(reference.logprobs(key), logprobs)
        assert reference.loglikelihood(key) == answer.loglikelihood


def stored_rows(folder: Path, name: str = "hidden") -> int:
    """States in all shards of a folder."""
    return sum(len(load_file(path)[name]) for path in folder.glob("0*.safetensors"))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a folder's table of contents."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_recorded_is_read_back(tmp_path: Path, dtype: torch.dtype) -> None:
    """States in the model's dtype, log-probabilities and answers, by the request's key."""
    toy, requests = Toy(1, dtype=dtype), questions(6)
    reference = record(tmp_path, toy, requests)
    assert_holds(reference, toy, requests)
    assert reference.header == header(toy, lm_head=reference.header.lm_head)
    assert key_of(questions(1, seed=9)[0]) not in reference


def test_the_check_of_what_was_read_back_can_fail(tmp_path: Path) -> None:
    """Control: one number of one state, moved by its last bit, is seen."""
    toy, requests = Toy(1), questions(6)
    recorded = toy.recorded(requests)
    assert isinstance(recorded.states, Tensor)
    recorded.states[3, 2] = torch.nextafter(recorded.states[3, 2], torch.tensor(9.0))
    made = writer(tmp_path, toy)
    made.add(recorded)
    made.flush()
    with pytest.raises(AssertionError):
        assert_holds(Reference(tmp_path), toy, requests)


def test_states_come_in_the_order_in_which_they_are_asked_for(tmp_path: Path) -> None:
    """Positions of several requests, mixed, and one of them twice."""
    toy, requests = Toy(1), questions(5)
    reference = record(tmp_path, toy, requests)
    wanted = [(i, token) for i, request in enumerate(requests) for token in range(request.scored)]
    order = np.random.default_rng(3).permutation(len(wanted)).tolist()
    mixed = [wanted[place] for place in [*order, order[0]]]
    states = reference.states([(key_of(requests[i]), token) for i, token in mixed])
    expected = torch.stack([toy.states(requests[i])[token] for i, token in mixed])
    assert isinstance(states, Tensor)
    assert torch.equal(states, expected)


def test_a_state_that_requests_share_is_stored_once(tmp_path: Path) -> None:
    """The choices of a question are predicted from the same position first."""
    requests = questions(6)
    record(tmp_path, Toy(1), requests)
    distinct = {
        request.fed[:end].tobytes()
        for request in requests
        for end in range(request.first_scored + 1, len(request.fed) + 1)
    }
    assert stored_rows(tmp_path) == len(distinct) < sum(request.scored for request in requests)


def test_an_interrupted_recording_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A new writer knows what was written, and appends; the reference holds all of it."""
    toy, requests = Toy(1), questions(8)
    first = writer(tmp_path, toy)
    first.add(toy.recorded(requests[:9]))
    first.flush()
    first.add(toy.recorded(requests[9:12]))  # lost: it was not written
    second = writer(tmp_path, toy)
    assert second.answers == dict(
        zip(map(key_of, requests[:9]), toy.recorded(requests[:9]).answers, strict=True)
    )
    assert key_of(requests[9]) not in Reference(tmp_path)
    second.add(toy.recorded(requests[9:]))
    second.flush()
    third = writer(tmp_path, toy)
    assert set(third.answers) == set(map(key_of, requests))
    reference = Reference(tmp_path)
    assert_holds(reference, toy, requests[:9])
    assert_holds(reference, toy, requests[9:])


def test_what_is_added_bit_by_bit_is_read_back(tmp_path: Path) -> None:
    """Several additions to one shard, and more to a second one by the same writer."""
    toy, requests = Toy(1), questions(8)
    made = writer(tmp_path, toy)
    for start in (0, 6, 12, 18):
        made.add(toy.recorded(requests[start : start + 3]))
        made.add(toy.recorded(requests[start + 3 : start + 6]))
        if start % 12:
            made.flush()
    assert len(list(tmp_path.glob("0*.safetensors"))) == 2
    reference = Reference(tmp_path)
    for start in range(0, 24, 3):
        assert_holds(reference, toy, requests[start : start + 3])


def test_an_answer_is_known_as_soon_as_it_is_added(tmp_path: Path) -> None:
    """Another task that asks for the same is answered before anything was written."""
    toy, requests = Toy(1), questions(2)
    made = writer(tmp_path, toy)
    recorded = toy.recorded(requests)
    made.add(recorded)
    assert [made.answers[key] for key in recorded.keys] == list(recorded.answers)
    assert not list(tmp_path.glob("0*.safetensors"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "org/another"),
        ("revision", "v2"),
        ("dtype", "float64"),
        ("tokenizer", "xyz"),
        ("vocabulary", 24),
        ("width", 7),
        ("max_length", 65),
        ("positions", "last"),
        ("top", 5),
        ("scale", 2.0),
        ("cap", 30.0),
        ("lm_head", File(name=LM_HEAD, bytes=1, sha256="0")),
        ("files", "made anew"),
        ("widened", True),
        ("entries", "other words"),
    ],
)
def test_a_recording_of_something_else_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    """The first field that differs is named, with both values; the folder is left as it was."""
    toy, requests = Toy(1), questions(2)
    record(tmp_path, toy, requests)
    file, _ = lm_head_file(toy.weight, None)
    begun, content = header(toy, lm_head=file), b"another lm_head"
    before = getattr(begun, field)
    shown = msgspec.to_builtins(before), msgspec.to_builtins(value)
    with pytest.raises(FlipsError, match="was begun with") as caught:
        ReferenceWriter(tmp_path, msgspec.structs.replace(begun, **{field: value}), lm_head=content)
    assert f"was begun with {field} {shown[0]}, not {shown[1]}" in str(caught.value)
    reference = Reference(tmp_path)
    assert_holds(reference, toy, requests)
    states = toy.rows(requests).hidden
    assert torch.equal(reference.head().logits(states), toy.head.logits(states))


def test_every_field_of_the_header_is_tried() -> None:
    """The test above refuses each of them."""
    (mark,) = test_a_recording_of_something_else_is_refused.pytestmark
    tried = [field for field, _ in mark.args[1]]
    assert tried == list(ReferenceHeader.__struct_fields__)


@pytest.mark.parametrize("file", ["00000.safetensors", LM_HEAD])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "cut off or changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"), "cut off or changed"),
        (lambda path: path.unlink(), "cannot be read: No such file"),
    ],
    ids=["cut off", "changed", "missing"],
)
def test_a_damaged_file_is_refused_by_name(
    tmp_path: Path, file: str, damage: Callable[[Path], Any], message: str
) -> None:
    """A shard, or lm_head, when it is read."""
    record(tmp_path, Toy(1), questions(3)).head()
    damage(tmp_path / file)
    with pytest.raises(FlipsError, match=f"{file}' .*{message}.*record it again"):
        Reference(tmp_path).head()


def test_a_shard_that_is_damaged_later_is_refused(tmp_path: Path) -> None:
    """Also one that was whole when the reference was opened."""
    requests = questions(3)
    reference = record(tmp_path, Toy(1), requests)
    path = tmp_path / "00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FlipsError, match="cut off or changed"):
        reference.states([(key_of(requests[0]), 0)])


def test_another_format_is_refused(tmp_path: Path) -> None:
    """Both versions are named."""
    record(tmp_path, Toy(1), questions(1))
    edit_manifest(tmp_path, lambda content: content.update(format=7))
    with pytest.raises(FlipsError, match="has format 7, this version of lm-eval-flips reads 1"):
        Reference(tmp_path)


def test_no_reference_and_a_folder_of_another_kind_are_refused(tmp_path: Path) -> None:
    """Each in words of its own."""
    with pytest.raises(FlipsError, match=r"has no manifest\.json; record it first"):
        Reference(tmp_path)
    record(tmp_path, Toy(1), questions(1))
    edit_manifest(tmp_path, lambda content: content["header"].pop("vocabulary"))
    with pytest.raises(FlipsError, match="is no manifest of this kind: .*vocabulary"):
        Reference(tmp_path)


def test_only_last_positions_are_one_state_a_context(tmp_path: Path) -> None:
    """Choices of a question share it; what follows is not kept."""
    toy, requests = Toy(1), questions(7)
    reference = record(tmp_path, toy, requests, last=True)
    assert stored_rows(tmp_path) == 7
    for request, answer in zip(requests, toy.recorded(requests).answers, strict=True):
        key = key_of(request)
        states = reference.states([(key, 0)])
        assert isinstance(states, Tensor)
        assert torch.equal(states, toy.states(request)[:1])
        assert torch.equal(reference.logprobs(key), toy.of_tokens(request)[:1].float())
        assert reference.loglikelihood(key) == answer.loglikelihood
    assert reference.header.positions == "last"


def test_the_bounded_mode_keeps_the_most_likely_tokens(tmp_path: Path) -> None:
    """Ids and log-probabilities against a sort of the whole vocabulary, and no lm_head."""
    toy, requests, top = Toy(1), questions(5), 4
    reference = record(tmp_path, toy, requests, top=top)
    for request in requests:
        key = key_of(request)
        found = reference.states([(key, token) for token in range(request.scored)])
        assert isinstance(found, TopTokens)
        ordered, ids = toy.logprobs(request).sort(-1, descending=True)
        assert torch.equal(found.ids.long(), ids[:, :top])
        rest = ordered[:, top:].logsumexp(-1, keepdim=True)
        expected = torch.cat([ordered[:, :top], rest], -1)
        torch.testing.assert_close(found.logprobs.double(), expected, atol=1e-5, rtol=0)
    assert not (tmp_path / LM_HEAD).exists()
    assert reference.header.top == top
    with pytest.raises(FlipsError, match="holds the most likely tokens only, no lm_head"):
        reference.head()


@pytest.mark.parametrize("top", [None, 3])
def test_requests_of_many_shards_and_processes_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: int | None
) -> None:
    """More shards than stay in memory, in folders of three processes, asked for all at once."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    toy, requests = Toy(1), questions(12)
    for rank, folder in enumerate([tmp_path, tmp_path / "rank-1", tmp_path / "rank-2"]):
        made = writer(folder, toy, top=top)
        own = requests[rank::3]
        for start in range(0, len(own), 3):
            made.add(toy.recorded(own[start : start + 3], top=top))
        assert len(list(folder.glob("0*.safetensors"))) == 4 > KEPT_SHARDS
    reference = Reference(tmp_path)
    for asked in (requests, requests[::-1]):
        wanted = [(key_of(request), token) for request in asked for token in range(request.scored)]
        found = reference.states(wanted)
        expected = torch.cat([toy.states(request) for request in asked])
        if top is None:
            assert isinstance(found, Tensor)
            assert torch.equal(found, expected)
        else:
            assert isinstance(found, TopTokens)
            torch.testing.assert_close(
                found.logprobs, top_tokens(toy.head.logits(expected), top).logprobs
            )
    for request in requests:
        assert reference.loglikelihood(key_of(request)) == float(toy.of_tokens(request).sum())
        assert torch.equal(reference.logprobs(key_of(request)), toy.of_tokens(request).float())


def test_a_request_recorded_twice_is_one_request(tmp_path: Path) -> None:
    """The same tokens in two tasks of one call."""
    toy, requests = Toy(1), questions(3)
    reference = record(tmp_path, toy, [*requests, *requests[::-1]])
    assert stored_rows(tmp_path) == len(toy.rows(requests).hidden)
    for request in requests:
        states = reference.states([(key_of(request), token) for token in range(request.scored)])
        assert isinstance(states, Tensor)
        assert torch.equal(states, toy.states(request))


def test_a_key_tells_where_the_continuation_begins() -> None:
    """The same text, with one token more in the context, is another request."""
    request = TokenRequest.of([1, 2, 3], [4, 5], max_length=9)
    moved = TokenRequest.of([1, 2], [3, 4, 5], max_length=9)
    assert request.fed.tolist() == moved.fed.tolist()
    others = [
        moved,
        TokenRequest.of([1, 2, 3], [4, 6], max_length=9),
        TokenRequest.of([1, 2, 3], [4], max_length=9),
        TokenRequest.of([0, 2, 3], [4, 5], max_length=9),
        TokenRequest.of([2, 3], [4, 5], max_length=9),
        TokenRequest.of([1, 2, 3, 4], [5], max_length=9),
        TokenRequest.of([5, 5, 5], [5], max_length=9),
        TokenRequest.of([5], [5, 5], max_length=9),
    ]
    assert len({key_of(other) for other in (request, *others)}) == 9
    assert {len(key_of(other)) for other in others} == {KEY}


def test_a_key_does_not_tell_what_was_cut_off() -> None:
    """What the model reads and predicts decides, however long the context was."""
    short = TokenRequest.of([2, 3], [4, 5], max_length=3)
    long = TokenRequest.of([9, 1, 2, 3], [4, 5], max_length=3)
    assert key_of(short) == key_of(long) == key_of(TokenRequest(short.fed, short.continuation))
    assert key_of(long) != key_of(TokenRequest.of([9, 1, 2, 3], [4, 5], max_length=4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "llama tied", "phi", "gemma2", "granite", "cohere"])
def test_rebuilt_logits_are_the_model_s_own_to_the_last_bit(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    """From the files alone: plain, tied, biased, softly capped, divided and multiplied heads."""
    model = models.build(name, dtype=dtype)
    causal = CausalModel(model)
    request = models.few_shot(questions=1, choices=2)[1]
    hidden = causal.of_batch([request])[0, request.first_scored :]
    module = model.get_output_embeddings()
    file, content = lm_head_file(module.weight, module.bias)
    own = header(
        Toy(1, tokens=models.TOKENS, width=32),
        lm_head=file,
        scale=causal.head.scale,
        cap=causal.head.cap,
    )
    made = ReferenceWriter(tmp_path, own, lm_head=content)
    made.add(
        Recorded(
            keys=[key_of(request)],
            answers=[Answer(-1.0, False)],
            rows=[np.arange(request.scored)],
            logprobs=[torch.zeros(request.scored)],
            states=hidden,
        )
    )
    made.flush()
    reference = Reference(tmp_path)
    states = reference.states([(key_of(request), token) for token in range(request.scored)])
    assert isinstance(states, Tensor)
    rebuilt = reference.head().logits(states)
    assert torch.equal(rebuilt, causal.head.logits(hidden))
    with torch.no_grad():
        whole = model(input_ids=torch.from_numpy(request.fed)[None], use_cache=False).logits[0]
    expected = whole[request.first_scored :]
    off = torch.finfo(dtype).eps * float(expected.float().abs().max())
    torch.testing.assert_close(rebuilt, expected, atol=4 * off, rtol=0)
    assert not torch.equal(rebuilt, reference.head().logits(states + 0.1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_scored_position_takes_little_more_than_its_state(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    """All files but lm_head, at the width of a small model, where no position is shared."""
    width = 576
    toy = Toy(1, width=width, dtype=dtype)
    requests = [
        TokenRequest.of([place, place % 7, 5], [1] * (1 + place % 3), max_length=9)
        for place in range(600)
    ]
    positions = sum(request.scored for request in requests)
    assert positions == stored_rows(record(tmp_path, toy, requests).folder) == 1200
    size = sum(path.stat().st_size for path in tmp_path.iterdir() if path.name != LM_HEAD)
    state = width * toy.weight.element_size()
    assert state < size / positions <= state + 64


def test_shared_positions_take_less_than_a_state_each(tmp_path: Path) -> None:
    """Letters A to D behind a context: a quarter of a state, and the numbers beside it."""
    width = 576
    toy = Toy(1, width=width, dtype=torch.bfloat16)
    requests = [
        TokenRequest.of([place, 5], [letter], max_length=9)
        for place in range(300)
        for letter in range(4)
    ]
    record(tmp_path, toy, requests)
    assert stored_rows(tmp_path) == 300
    size = sum(path.stat().st_size for path in tmp_path.iterdir() if path.name != LM_HEAD)
    assert size / len(requests) <= width * 2 / 4 + 64
