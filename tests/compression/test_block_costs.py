"""What each block costs: held against whole models whose modules were exchanged one by one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lm_eval_flips import FlipsError
from lm_eval_flips.compression.block_costs import block_costs, bytes_of, distance

LAYERS = 6


def llama(**more: Any) -> Any:
    """A tiny random model; the same one each time."""
    torch.manual_seed(0)
    config = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    model: Any = LlamaForCausalLM(LlamaConfig(**{**config, **heads, **more}))
    return model.eval()


def noisy(model: Any, *places: int, by: float = 0.1) -> Any:
    """A copy with noise on some blocks."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for place in places:
            for weight in other.model.layers[place].parameters():
                weight += by * torch.randn(weight.shape, generator=generator)
    return other


def texts(count: int = 3) -> list[Tensor]:
    """Random tokens."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(50, (1, 12 + 5 * i), generator=generator) for i in range(count)]


@torch.inference_mode()
def naive(model: Any) -> list[Tensor]:
    """Log-probabilities of a whole model, in float64 from its logits."""
    return [model(ids).logits[0, :-1].double().log_softmax(-1) for ids in texts()]


def exchanged(model: Any, other: Any, *places: int) -> Any:
    """A copy of a model with another one's blocks in some places."""
    made = copy.deepcopy(model)
    for place in places:
        made.model.layers[place] = copy.deepcopy(other.model.layers[place])
    return made


def kl(base: Any, model: Any) -> float:
    """Mean KL over all positions, by its definition."""
    terms = [(p.exp() * (p - q)).sum(-1) for p, q in zip(naive(base), naive(model), strict=True)]
    return float(torch.cat(terms).mean())


def changed(base: Any, model: Any) -> float:
    """Share of positions with another likeliest token."""
    pairs = zip(naive(base), naive(model), strict=True)
    return float(torch.cat([p.argmax(-1) != q.argmax(-1) for p, q in pairs]).double().mean())


def test_every_mixture_is_that_of_exchanged_modules() -> None:
    """Alone, without it, all outside the blocks, and more and more of them as they were."""
    base = llama()
    comp = noisy(base, 0, 2, 3, 5)
    with torch.no_grad():
        comp.lm_head.weight += 0.05
    costs = block_costs(base, comp, texts())
    assert costs.positions == sum(ids.shape[1] - 1 for ids in texts())
    assert costs.whole.kl == pytest.approx(kl(base, comp), abs=1e-5)
    assert costs.outside.kl == pytest.approx(
        kl(base, exchanged(comp, base, *range(LAYERS))), abs=1e-5
    )
    for own in costs.blocks:
        alone, without = exchanged(base, comp, own.block), exchanged(comp, base, own.block)
        assert own.alone.kl == pytest.approx(kl(base, alone), abs=1e-5)
        assert own.alone.changed == changed(base, alone)
        assert own.without.kl == pytest.approx(kl(base, without), abs=1e-5)
        assert own.without.changed == changed(base, without)
    for mixture in costs.mixtures:
        made = exchanged(comp, base, *mixture.kept)
        assert mixture.distance.kl == pytest.approx(kl(base, made), abs=1e-5)
    assert [len(mixture.kept) for mixture in costs.mixtures] == [1, 2, 4]


def test_blocks_that_did_not_change_cost_nothing() -> None:
    """And the one that did is found, with all that the model lost."""
    base = llama()
    costs = block_costs(base, noisy(base, 4), texts())
    assert [own.alone.kl for own in costs.blocks[:4]] == [0.0] * 4
    assert costs.worst[0].block == 4
    assert costs.worst[0].alone == costs.whole
    assert costs.worst[0].without.kl == pytest.approx(0.0, abs=1e-9)
    assert costs.outside.kl == pytest.approx(0.0, abs=1e-9)


def test_a_block_takes_about_one_forward_pass() -> None:
    """Both directions together: what comes before a block is not computed again."""
    base = llama()
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    comp = noisy(base, *range(LAYERS))
    for model in (base, comp):
        for block in model.model.layers:
            block.register_forward_hook(count)
    costs = block_costs(base, comp, texts())
    mixtures = sum(LAYERS - min(own.kept) for own in costs.mixtures)
    swaps = calls / len(texts()) - 2 * LAYERS - LAYERS - mixtures  # all of them, and those outside
    assert swaps / LAYERS**2 == pytest.approx(costs.passes)
    assert costs.passes == pytest.approx((LAYERS + 1) / LAYERS)
    assert costs.passes <= 1.5


def test_the_models_are_left_as_they_were() -> None:
    """Every block is in its place again, hooks are gone."""
    base, comp = llama(), noisy(llama(), 1)
    before = naive(base), naive(comp)
    block_costs(base, comp, texts())
    for model, expected in zip((base, comp), before, strict=True):
        for found, wanted in zip(naive(model), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_packed_blocks_count_what_is_packed() -> None:
    """Weights of int8 by torchao are a quarter of float32's; they are swapped as any other."""
    quantisation = pytest.importorskip("torchao.quantization")
    base = llama()
    comp = copy.deepcopy(base)
    quantisation.quantize_(comp.model.layers, quantisation.Int8WeightOnlyConfig())
    costs = block_costs(base, comp, texts())
    assert all(own.alone.kl > 0 for own in costs.blocks)
    for own in costs.blocks:
        assert own.baseline_bytes == 4 * sum(p.numel() for p in base.model.layers[0].parameters())
        assert own.compressed_bytes < 0.4 * own.baseline_bytes
    assert costs.mixtures[0].more_bytes == own.baseline_bytes - own.compressed_bytes
    assert bytes_of(torch.nn.Linear(3, 2)) == 4 * 8


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_hidden_layers": 5}, r"another number of blocks than the baseline \(5, not 6\)"),
        ({"hidden_size": 64}, "another width than the baseline"),
        ({"vocab_size": 51}, "another vocabulary than the baseline"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(more: dict[str, Any], message: str) -> None:
    """A model with layers dropped, or of another size."""
    with pytest.raises(FlipsError, match=message):
        block_costs(llama(), llama(**more), texts())


def test_another_architecture_or_dtype_is_refused() -> None:
    """And what would be read with nothing to read."""
    other = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=6, n_head=4))
    with pytest.raises(FlipsError, match="another architecture"):
        block_costs(llama(), other, texts())
    with pytest.raises(FlipsError, match="load both in one with --dtype"):
        block_costs(llama(), llama().bfloat16(), texts())
    with pytest.raises(FlipsError, match="no texts of two tokens"):
        block_costs(llama(), llama(), [])


def test_blocks_of_another_architecture_are_swapped() -> None:
    """GPT-2 calls its blocks otherwise; the oracle is the same."""
    torch.manual_seed(0)
    base: Any = GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4, initializer_range=0.2)
    )
    base.eval()
    comp = copy.deepcopy(base)
    with torch.no_grad():
        weight = comp.transformer.h[1].mlp.c_fc.weight
        weight += 0.1 * torch.randn(weight.shape)
    costs = block_costs(base, comp, texts())
    assert costs.worst[0].block == 1
    assert costs.worst[0].alone.kl == pytest.approx(kl(base, comp), abs=1e-5)


def test_a_distance_of_impossible_tokens_is_none() -> None:
    """Control: 0 log 0 is 0, and what is moved is seen."""
    zero = [torch.tensor([[0.0, -torch.inf]])]
    assert distance(zero, zero).kl == 0
    moved = distance([torch.tensor([[0.9, 0.1]]).log()], [torch.tensor([[0.1, 0.9]]).log()])
    assert moved.kl == pytest.approx(0.8 * torch.tensor(9.0).log().item())
    assert moved.changed == 1
