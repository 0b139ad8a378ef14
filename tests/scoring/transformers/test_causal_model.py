"""Packs run through transformers models: masks, positions, kept prefixes, and lm_head read apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from lm_eval_flips.scoring.lm_head import UnreadableHeadError
from lm_eval_flips.scoring.prefix_tree import Pack, plan
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from tests.scoring import models

SOME = ["llama", "mistral", "gemma2", "gpt2", "opt", "gpt_oss"]
CLOSE = 2e-5  # nats


def packed(requests: Sequence[TokenRequest], *, base: int = 0, row: int = 500) -> list[Pack]:
    """The requests as packs behind a prefix that all of them share."""
    steps = plan(requests, budget=row, row=row, base=base, keep_prefixes=False).steps
    return [step for step in steps if isinstance(step, Pack)]


def off(
    reader: CausalModel, requests: Sequence[TokenRequest], packs: Sequence[Pack], hidden: Tensor
) -> float:
    """Largest difference (nats) of a log-probability from the model's own."""
    differences = []
    for states, pack in zip(hidden, packs, strict=True):
        for index, places in zip(pack.requests, pack.places, strict=True):
            logits = reader.head.logits(states[torch.from_numpy(places)]).detach()
            own = models.logprobs(reader.model, requests[index])
            differences.append(float((logits.float().log_softmax(-1) - own).abs().max()))
    return max(differences)


def kept(cache: DynamicCache) -> list[Tensor]:
    """The keys and values of all layers."""
    layers: list[Any] = cache.layers
    return [tensor for layer in layers for tensor in (layer.keys, layer.values)]


def seen_arguments(reader: CausalModel, action: Callable[[], object]) -> dict[str, Any]:
    """What the model's last pass was called with meanwhile."""
    seen: dict[str, Any] = {}

    def watch(own: Any, **arguments: Any) -> Any:
        seen.clear()
        seen.update(arguments)
        return own(**arguments)

    with models.forward(reader.model, watch):
        action()
    return seen


@pytest.mark.parametrize("name", SOME)
def test_a_pack_behind_a_kept_prefix_gives_the_models_own_numbers(name: str) -> None:
    """However much of what the requests share is kept, and whether they are one pack or many."""
    requests = models.few_shot()
    reader = CausalModel(models.build(name))
    for base in (0, 1, models.WINDOW + 3, models.FEW_SHOT):
        cache = reader.keep_prefix(requests[0].fed[:base].tolist(), None) if base else None
        for row in (500, 65 - base):
            packs = packed(requests, base=base, row=row)
            assert (len(packs) == 1) == (row == 500)
            hidden = reader.of_packs(packs, cache)
            assert hidden.shape == (len(packs), max(map(len, packs)), 32)
            assert off(reader, requests, packs, hidden) < CLOSE


@pytest.mark.parametrize("name", SOME)
def test_a_prefix_kept_in_steps_is_the_prefix_kept_at_once(name: str) -> None:
    """Keys and values of a subject stand behind those of the preface, which serve others too."""
    requests = models.few_shot()
    reader = CausalModel(models.build(name))
    tokens = requests[0].fed[: models.FEW_SHOT].tolist()
    preface = reader.keep_prefix(tokens[:17], None)
    whole = reader.keep_prefix(tokens[17:], preface)
    other = reader.keep_prefix(models.tokens(9, 77), preface)
    assert [cache.get_seq_length() for cache in (preface, whole, other)] == [17, 40, 26]
    at_once = reader.keep_prefix(tokens, None)
    for found, expected in zip(kept(whole), kept(at_once), strict=True):
        torch.testing.assert_close(found, expected)
    packs = packed(requests, base=models.FEW_SHOT)
    assert off(reader, requests, packs, reader.of_packs(packs, whole)) < CLOSE


@pytest.mark.parametrize("name", SOME)
def test_packs_leave_the_kept_prefix_as_it_was(name: str) -> None:
    """The same packs again, after others, give the same bits; the cache is not one token longer."""
    requests = models.few_shot()
    reader = CausalModel(models.build(name))
    cache = reader.keep_prefix(requests[0].fed[: models.FEW_SHOT].tolist(), None)
    before = [tensor.clone() for tensor in kept(cache)]
    packs = packed(requests, base=models.FEW_SHOT, row=16)
    assert len(packs) > 2
    first = reader.of_packs(packs, cache)
    reader.of_packs(packs[:1], cache)
    assert torch.equal(reader.of_packs(packs, cache), first)
    assert cache.get_seq_length() == models.FEW_SHOT
    assert all(map(torch.equal, kept(cache), before))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_padding_changes_nothing_and_is_a_number(
    name: str, attention: str, dtype: torch.dtype
) -> None:
    """A short pack beside a long one reads as it does alone, and no row of padding is nan."""
    examples = models.tokens(30, 1)
    requests = [
        TokenRequest.of(examples[:size], models.tokens(2, seed), max_length=models.LONGEST)
        for seed, size in enumerate((30, 30, 9, 9, 3, 3))
    ]
    reader = CausalModel(models.build(name, attention=attention, dtype=dtype))
    packs = [packed(requests[i : i + 2])[0] for i in (0, 2, 4)]
    assert [len(pack) for pack in packs] == [32, 11, 5]
    together = reader.of_packs(packs, None)
    assert together.isfinite().all()
    atol = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 2e-1}[dtype]
    for row, pack in zip(together, packs, strict=True):
        alone = reader.of_packs([pack], None)[0]
        torch.testing.assert_close(row[: len(pack)], alone, rtol=0, atol=atol)


@pytest.mark.parametrize("name", [*SOME, "bloom", "mamba"])
def test_a_batch_is_padded_on_the_right(name: str) -> None:
    """Whole requests of several lengths read as they do alone, in any model."""
    model = models.build(name)
    reader = CausalModel(model)
    requests = [
        TokenRequest.of(models.tokens(size, size), [4, 5], max_length=models.LONGEST)
        for size in (3, 40, 17)
    ]
    hidden = reader.of_batch(requests)
    assert hidden.shape == (3, 41, 32)
    for states, request in zip(hidden, requests, strict=True):
        scored = states[request.first_scored : len(request.fed)]
        found = reader.head.logits(scored).detach().log_softmax(-1)
        torch.testing.assert_close(found, models.logprobs(model, request), rtol=0, atol=CLOSE)


def test_chains_need_no_mask() -> None:
    """A kernel that takes none reads them as it always does; one fork is enough to need one."""
    reader = CausalModel(models.build("llama"))
    chains = [
        packed([TokenRequest.of(models.tokens(size, size), [4], max_length=models.LONGEST)])[0]
        for size in (5, 9)
    ]
    fork = packed(models.few_shot(questions=1, choices=2) + models.few_shot(questions=2))[0]
    for cache in (None, reader.keep_prefix([3, 4], None)):
        given = seen_arguments(reader, lambda: reader.of_packs(chains, cache))  # noqa: B023
        assert not {"attention_mask", "position_ids"} & set(given)
    given = seen_arguments(reader, lambda: reader.of_packs([*chains, fork], None))
    assert given["attention_mask"].shape == (3, 1, len(fork), len(fork))
    assert given["position_ids"].shape == (3, len(fork))


@pytest.mark.parametrize("base", [0, 10])
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("llama", {"every": None}),
        ("mistral", {"every": models.WINDOW}),
        ("gemma2", {"full_attention": None, "sliding_attention": models.WINDOW}),
    ],
)
def test_masks_show_a_token_what_its_request_holds_before_it(
    name: str, layers: dict[str, int | None], base: int
) -> None:
    """The tokens that are shown, in order, are the request's own: all, or as many as are near."""
    requests = models.few_shot(questions=2, shots=11)
    reader = CausalModel(models.build(name))
    (pack,) = packed(requests, base=base)
    prefix = requests[0].fed[:base].tolist()
    cache = reader.keep_prefix(prefix, None) if base else None
    given = seen_arguments(reader, lambda: reader.of_packs([pack], cache))["attention_mask"]
    masks = given if isinstance(given, dict) else {"every": given}
    assert masks.keys() == layers.keys()
    columns = torch.tensor([*prefix, *pack.tokens.tolist()])
    for kind, window in layers.items():
        for index, places in zip(pack.requests, pack.places, strict=True):
            request = requests[index]
            for depth, place in enumerate(places.tolist(), request.first_scored):
                near = request.fed[max(0, depth + 1 - (window or models.LONGEST)) : depth + 1]
                shown = masks[kind][0, 0, place] == 0
                assert columns[shown].tolist() == near.tolist()


@pytest.mark.parametrize(
    ("name", "more", "window"),
    [
        ("llama", {}, None),
        ("mistral", {}, models.WINDOW),
        ("mistral full", {}, None),
        ("gemma3_text", {}, models.WINDOW),
        ("gemma3_text", {"layer_types": ["full_attention"] * 2}, None),
        ("qwen2", {"sliding_window": 9}, None),
        ("qwen2 sliding", {}, models.WINDOW),
        ("mixtral", {}, None),
    ],
)
def test_a_window_is_one_that_some_layer_has(
    name: str, more: dict[str, Any], window: int | None
) -> None:
    """A config may name one that none of its layers uses."""
    assert CausalModel(models.build(name, **more)).window == window


def test_what_configs_say_of_positions() -> None:
    """ALiBi, and the length from which dynamic and long positions mean something else."""
    rope = {"rope_theta": 1e4, "factor": 4.0}
    long = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    dynamic = {**rope, "rope_type": "dynamic"}
    longrope = {**rope, **long, "rope_type": "longrope", "original_max_position_embeddings": 32}
    per_layer = {"sliding_attention": {**rope, "rope_type": "default"}, "full_attention": longrope}
    cases: list[tuple[str, dict[str, Any], bool, int | None]] = [
        ("llama", {}, False, None),
        ("llama", {"rope_parameters": {**rope, "rope_type": "linear"}}, False, None),
        ("llama", {"rope_parameters": dynamic}, False, models.LONGEST),
        ("llama", {"rope_parameters": longrope}, False, 32),
        ("gemma3_text", {"rope_parameters": per_layer}, False, 32),
        ("gpt2", {}, False, None),
        ("falcon", {}, False, None),
        ("falcon alibi", {}, True, None),
        ("mpt", {}, True, None),
    ]
    for name, more, alibi, rescaled in cases:
        reader = CausalModel(models.build(name, **more))
        assert (reader.alibi, reader.rescaled_beyond) == (alibi, rescaled), (name, more)


@pytest.mark.parametrize("name", ["llama", "granite", "cohere", "gemma2", "bloom", "mamba", "rwkv"])
def test_a_probe_tells_the_head(name: str) -> None:
    """Its hidden state makes the logits that the model gives for that one token."""
    model = models.build(name)
    reader = CausalModel(model)
    hidden = reader.probe(7)
    assert hidden.shape == (1, 32)
    request = TokenRequest.of([7], [3], max_length=models.LONGEST)
    found = reader.head.logits(hidden).detach().log_softmax(-1)
    torch.testing.assert_close(found, models.logprobs(model, request), rtol=0, atol=CLOSE)
    assert reader.head.tokens == models.TOKENS


def test_the_model_is_left_as_it_was() -> None:
    """Its logits have all positions again, after a pass and after one that failed."""
    model = models.build("llama")
    reader = CausalModel(model)
    ids = torch.tensor([models.tokens(12, 3)])
    before = model(input_ids=ids).logits
    reader.probe(3)
    assert torch.equal(model(input_ids=ids).logits, before)
    with pytest.raises(IndexError):
        reader.probe(models.TOKENS)
    assert torch.equal(model(input_ids=ids).logits, before)


def changing(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """A forward that does something to the logits of its own."""

    def forward(own: Any, **arguments: Any) -> Any:
        made = own(**arguments)
        made.logits = change(made.logits)
        return made

    return forward


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits + torch.arange(models.TOKENS) * 1e-3,
        lambda logits: logits.log_softmax(-1),
        lambda logits: logits[..., :-1],
        lambda logits: logits * float("nan"),
        lambda logits: torch.cat([logits[:, :1] * 2, logits], 1),
    ],
    ids=["bias", "softmax", "fewer", "nan", "more positions"],
)
def test_logits_that_lm_head_does_not_make_are_an_error(change: Callable[[Tensor], Tensor]) -> None:
    """What a model does after lm_head, in a way that no config names, cannot be done again."""
    model = models.build("llama")
    with (
        models.forward(model, changing(change)),
        pytest.raises(UnreadableHeadError, match="not lm_head's, scaled or softly capped"),
    ):
        CausalModel(model).probe(3)


def test_a_head_that_changes_later_is_an_error() -> None:
    """It is compared at every pass, not at the first one only."""
    model = models.build("llama")
    reader = CausalModel(model)
    reader.probe(3)
    with (
        models.forward(model, changing(lambda logits: logits + 1)),
        pytest.raises(UnreadableHeadError, match="not lm_head's"),
    ):
        reader.keep_prefix([3, 4, 5], None)


def test_a_model_without_a_head_is_an_error() -> None:
    """One that has none, one that does not call it, and one of which nothing was read yet."""
    model = models.build("llama")
    with pytest.raises(UnreadableHeadError, match="no forward pass"):
        _ = CausalModel(model).head

    def around(own: Any, **arguments: Any) -> Any:
        states = model.model(**arguments).last_hidden_state
        return type("Output", (), {"logits": states @ model.lm_head.weight.T})

    with models.forward(model, around), pytest.raises(UnreadableHeadError, match="without calling"):
        CausalModel(model).probe(3)
    reader = CausalModel(model)
    model.get_output_embeddings = lambda: None
    with pytest.raises(UnreadableHeadError, match="the model has no lm_head"):
        reader.probe(3)
