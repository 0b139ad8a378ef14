"""What models do to lm_head's output: numpy in double precision, and transformers' own logits."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PhiConfig,
    PhiForCausalLM,
)

from lm_eval_flips.scoring.lm_head import LMHead, StoredHead, agrees, linear
from lm_eval_flips.scoring.transformers.lm_head import head_of

TOKENS, WIDTH = 61, 16
SIZES: dict[str, Any] = {
    "vocab_size": TOKENS,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODELS: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": False}),
    "llama, tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "gpt2": (GPT2LMHeadModel, GPT2Config, {"n_embd": WIDTH, "n_layer": 1, "n_head": 2}),
    "phi": (PhiForCausalLM, PhiConfig, {"tie_word_embeddings": False}),
    "gemma2": (
        Gemma2ForCausalLM,
        Gemma2Config,
        {"head_dim": 8, "final_logit_softcapping": 2.5},
    ),
    "granite": (GraniteForCausalLM, GraniteConfig, {"logits_scaling": 6.0}),
    "cohere": (CohereForCausalLM, CohereConfig, {"logit_scale": 0.3}),
}
FACTORS = {"gemma2": (1.0, 2.5), "granite": (1 / 6, 0.0), "cohere": (0.3, 0.0)}


def made(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A tiny random model; where its lm_head has a bias, that is no 0."""
    kind, config, more = MODELS[name]
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    sizes = {key: value for key, value in SIZES.items() if name != "gpt2" or "max" not in key}
    model = kind(config(**{**sizes, **more}))
    if name == "phi":
        nn.init.normal_(model.lm_head.bias)
    torch.random.set_rng_state(state)
    return model.eval().to(dtype)


def said(model: Any) -> tuple[Tensor, Tensor]:
    """Hidden states that entered lm_head for 12 tokens, and the model's logits."""
    caught: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, args: caught.append(args[0])
    )
    with torch.no_grad():
        logits = model(input_ids=torch.arange(3, 15)[None]).logits
    hook.remove()
    return caught[0][0], logits[0]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.0625, 3.0])
@pytest.mark.parametrize("cap", [0.0, 1.5, 30.0])
def test_logits_are_the_projection_scaled_then_softly_capped(
    scale: float, cap: float, bias: bool
) -> None:
    """As numpy has cap tanh(scale (W h + b) / cap) in double precision."""
    rng = np.random.default_rng(0)
    weight, hidden = rng.normal(size=(TOKENS, WIDTH)), rng.normal(size=(7, WIDTH))
    offset = rng.normal(size=TOKENS) * bias
    expected = scale * (hidden @ weight.T + offset)
    if cap:
        expected = cap * np.tanh(expected / cap)
    head = LMHead(
        project=linear(
            torch.tensor(weight).float(), torch.tensor(offset).float() if bias else None
        ),
        tokens=TOKENS,
        scale=scale,
        cap=cap,
    )
    found = head.logits(torch.tensor(hidden).float())
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_logits_check_can_fail() -> None:
    """Control for the test above: with any part left out the logits are others."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(TOKENS, WIDTH, generator=generator)
    bias = torch.randn(TOKENS, generator=generator)
    hidden = torch.randn(7, WIDTH, generator=generator)
    whole = LMHead(project=linear(weight, bias), tokens=TOKENS, scale=0.5, cap=4.0)
    for other in (
        LMHead(project=linear(weight, None), tokens=TOKENS, scale=0.5, cap=4.0),
        LMHead(project=linear(weight, bias), tokens=TOKENS, cap=4.0),
        LMHead(project=linear(weight, bias), tokens=TOKENS, scale=0.5),
    ):
        assert not torch.allclose(whole.logits(hidden), other.logits(hidden), atol=0.1)


def test_logits_keep_the_models_dtype() -> None:
    """bfloat16 states make bfloat16 logits."""
    weight = torch.randn(TOKENS, WIDTH, dtype=torch.bfloat16)
    head = LMHead(project=linear(weight, None), tokens=TOKENS, scale=0.3, cap=2.0)
    assert head.logits(torch.randn(3, WIDTH, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_logits_in_place_are_the_same_to_the_last_bit(bias: bool, dtype: torch.dtype) -> None:
    """Few positions, more, and few again; a tensor is made anew only where more are asked for."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(TOKENS, WIDTH, generator=generator).to(dtype)
    offset = torch.randn(TOKENS, generator=generator).to(dtype) if bias else None
    plain, stored = linear(weight, offset), StoredHead(weight=weight, bias=offset).head
    kept = []
    for count in (3, 9, 4):
        hidden = torch.randn(count, WIDTH, generator=generator).to(dtype)
        found = stored.logits(hidden)
        assert torch.equal(found, plain(hidden))
        kept.append(found.data_ptr())
    assert kept[1] == kept[2] != plain(hidden).data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_head_of_a_transformers_model_makes_its_logits(name: str, dtype: torch.dtype) -> None:
    """Found from one position, it makes the logits of all others; the factors are the config's."""
    model = made(name, dtype)
    hidden, own = said(model)
    head = head_of(model, hidden[:1], own[:1])
    assert head is not None
    assert (head.scale, head.cap) == FACTORS.get(name, (1.0, 0.0))
    assert head.tokens == TOKENS
    precision = torch.finfo(dtype).eps * float(own.abs().max())
    torch.testing.assert_close(head.logits(hidden), own, rtol=0.0, atol=4 * precision)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FACTORS)
def test_head_without_its_factor_is_another(name: str, dtype: torch.dtype) -> None:
    """Control for the test above: lm_head's plain output is not what these models return."""
    model = made(name, dtype)
    hidden, own = said(model)
    plain = LMHead(project=model.get_output_embeddings(), tokens=TOKENS)
    assert not agrees(plain.logits(hidden), own)


def test_bias_of_lm_head_counts() -> None:
    """Control: of the model whose lm_head has a bias, the weight alone makes other logits."""
    model = made("phi")
    hidden, own = said(model)
    weight, bias = model.lm_head.weight, model.lm_head.bias
    with torch.no_grad():
        assert agrees(linear(weight, bias)(hidden), own)
        assert not agrees(linear(weight, None)(hidden), own)


@pytest.mark.parametrize("name", ["logits_scaling", "logit_scale", "final_logit_softcapping"])
def test_factor_that_a_model_names_and_does_not_apply_is_not_applied(name: str) -> None:
    """The logits decide, not the config."""
    model = made("llama")
    setattr(model.config, name, 0.4)
    hidden, own = said(model)
    head = head_of(model, hidden[:1], own[:1])
    assert head is not None
    assert (head.scale, head.cap) == (1.0, 0.0)


def test_all_factors_at_once_are_found() -> None:
    """Scaled, then capped, as a config may say."""
    model = made("llama")
    model.config.logit_scale, model.config.final_logit_softcapping = 0.4, 1.5
    hidden, plain = said(model)
    head = head_of(model, hidden, 1.5 * torch.tanh(0.4 * plain / 1.5))
    assert head is not None
    assert (head.scale, head.cap) == (0.4, 1.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda own: own + 1.0,
        lambda own: own * 1.01,
        lambda own: own.flip(-1),
        lambda own: own.log_softmax(-1),
        lambda own: own[:, :-1],
        lambda own: own.clamp(max=float(own.max()) / 2),
        lambda own: torch.full_like(own, nan),
    ],
    ids=["moved", "scaled", "turned", "normalised", "cut", "clipped", "nan"],
)
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_no_head_is_found_for_logits_that_are_something_else(
    name: str, change: Callable[[Tensor], Tensor]
) -> None:
    """What the model does to lm_head's output is unknown, and that is said."""
    model = made(name)
    hidden, own = said(model)
    assert head_of(model, hidden, own) is not None
    assert head_of(model, hidden, change(own)) is None


def test_model_without_lm_head_has_no_head() -> None:
    """As a model that returns hidden states only."""
    model: Any = LlamaModel(LlamaConfig(**SIZES))
    assert model.get_output_embeddings() is None
    assert head_of(model, torch.zeros(1, WIDTH), torch.zeros(1, TOKENS)) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_agreement_and_a_real_difference_is_not(dtype: torch.dtype) -> None:
    """The same product summed in halves agrees; one logit off by a fifth of the largest does not."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(20, 512, generator=generator).to(dtype)
    weight = torch.randn(100, 512, generator=generator).to(dtype)
    own = hidden @ weight.T
    halves = hidden[:, ::2] @ weight[:, ::2].T + hidden[:, 1::2] @ weight[:, 1::2].T
    assert not torch.equal(halves, own)
    assert agrees(halves, own)
    off = own.clone()
    off[3, 7] += own.abs().max() / 5
    assert not agrees(off, own)
    assert not agrees(own.roll(1, 0), own)


def test_agreement_is_as_fine_as_the_dtype() -> None:
    """A hundredth off is rounding in bfloat16, and none in float32."""
    own = torch.linspace(-10, 10, 50)[None]
    assert not agrees(own * 1.01, own)
    assert not agrees(own * (1 + 1e-5), own)
    assert agrees(own * (1 + 1e-7), own)
    assert agrees((own * 1.01).bfloat16(), own.bfloat16())


def test_other_shapes_do_not_agree() -> None:
    """Neither fewer tokens nor more positions, though they could be broadcast."""
    own = torch.zeros(2, 5)
    assert agrees(torch.zeros(2, 5), own)
    for shape in ((2, 4), (3, 5), (1, 5), (5,), (5, 2), (10,)):
        assert not agrees(torch.zeros(*shape), own)


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_not_finite_agrees_with_itself_only(value: float) -> None:
    """A model whose logits are nan, or that rules a token out, still agrees with itself."""
    own = torch.tensor([[1.0, 2.0, value]])
    assert agrees(own.clone(), own)
    assert agrees(torch.full((1, 3), value), torch.full((1, 3), value))
    for other in {nan, inf, -inf, 3.0} - {value}:
        assert not agrees(torch.tensor([[1.0, 2.0, other]]), own)
    assert not agrees(torch.tensor([[1.0, value, 2.0]]), own)
