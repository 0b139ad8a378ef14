"""Our own makers on the tiny model: each against its definition, written out in numpy."""

from __future__ import annotations

from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from lm_eval_flips import FlipsError
from lm_eval_flips.compression.blockwise import token_ids
from lm_eval_flips.compression.calibration import calibration_texts
from lm_eval_flips.compression.making import Making
from lm_eval_flips.compression.modules import matrices
from lm_eval_flips.compression.rounding import rounded
from lm_eval_flips.compression.sparsegpt import pruned as sparse
from lm_eval_flips.compression.wanda import least_of_groups
from tests.compression.conftest import Make

Values = npt.NDArray[Any]
IDS = torch.arange(3, 40)[None]


def source_of(folder: Path) -> Any:
    """The baseline."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> Values:
    """Of some tokens."""
    found: Values = model(IDS).logits[0].numpy()
    return found


def weights(model: Any) -> dict[str, Values]:
    """Every matrix of the blocks, outputs x inputs."""
    return {name: matrix.read().numpy() for name, matrix in matrices(model).items()}


def inputs_of(folder: Path, model: Any, name: str) -> Values:
    """All inputs of one linear layer over the calibration texts, as a plain model is given them."""
    making = Making(
        source=folder,
        name="",
        parameters={},
        dtype="float32",
        seed=0,
        texts=calibration_texts().texts[:4],
        folder=folder,
    )
    kept: list[Values] = []
    layer = model.get_submodule(name)
    hook = layer.register_forward_pre_hook(lambda _, given: kept.append(given[0][0].numpy()))
    with torch.no_grad():
        for ids in token_ids(making):
            model(ids)
    hook.remove()
    return np.concatenate(kept).astype(np.float64)


def test_rounding_keeps_the_nearest_of_its_levels() -> None:
    """Oracle: every weight by a search of all levels of its group; control: fewer bits move more."""
    weight = torch.from_numpy(np.random.default_rng(0).normal(0.1, 1, (3, 16)))
    found = rounded(weight, bits=3, group=8).numpy()
    for row, new in zip(weight.numpy().reshape(-1, 8), found.reshape(-1, 8), strict=True):
        low, high = min(row.min(), 0), max(row.max(), 0)
        scale = (high - low) / 7
        levels = (np.arange(8) - round(-low / scale)) * scale
        nearest = levels[np.abs(row[:, None] - levels).argmin(1)]
        assert new == pytest.approx(nearest)
    moved = [float((rounded(weight, bits=b, group=8) - weight).abs().mean()) for b in (2, 3, 8)]
    assert moved == sorted(moved, reverse=True)


def test_dropping_layers_leaves_those_before(make: Make, tiny_model: Path) -> None:
    """Oracle: the first block's output through the norm and the head."""
    base, model = source_of(tiny_model), make("drop-1")
    with torch.no_grad():
        states = base(IDS, output_hidden_states=True).hidden_states
        expected = base.lm_head(base.model.norm(states[1]))[0].numpy()
    assert logits(model) == pytest.approx(expected, abs=1e-5)
    assert model.config.num_hidden_layers == 1
    with pytest.raises(FlipsError, match="the model has 2 layers; drop 1 at most"):
        make("drop-2")


@pytest.mark.parametrize("percent", [10, 50])
def test_magnitude_sets_the_smallest_to_zero(make: Make, tiny_model: Path, percent: int) -> None:
    """Oracle: numpy's partition; the others are as they were."""
    for name, weight in weights(make(f"magnitude-{percent}")).items():
        before = weights(source_of(tiny_model))[name]
        count = round(percent / 100 * before.size)
        assert (weight == 0).sum() == count
        edge = np.sort(np.abs(before), axis=None)[count]
        assert np.array_equal(weight[weight != 0], before[weight != 0])
        assert np.abs(before[weight == 0]).max() < edge


def test_two_of_four_leaves_two_of_four(make: Make) -> None:
    """Every four weights of a row hold two zeros, whatever chose them; control: magnitude-50's do not."""
    for name in ("magnitude-2:4", "wanda-2:4", "sparsegpt-2:4"):
        for weight in weights(make(name)).values():
            assert ((weight.reshape(-1, 4) == 0).sum(1) == 2).all()
    uneven = weights(make("magnitude-50")).values()
    assert any(((weight.reshape(-1, 4) == 0).sum(1) != 2).any() for weight in uneven)


def test_wanda_is_the_paper_s_rule(make: Make, tiny_model: Path) -> None:
    """Oracle: |W| times the norm of all inputs of the first block, by numpy, row by row.

    Of the second block the inputs are those that the pruned first one gives.
    """
    base, model = source_of(tiny_model), make("wanda-30")
    half = source_of(tiny_model)
    half.model.layers[0] = model.model.layers[0]
    for name, given in (
        ("model.layers.0.self_attn.q_proj", base),
        ("model.layers.0.mlp.down_proj", base),
        ("model.layers.1.mlp.gate_proj", half),
    ):
        before = base.get_submodule(name).weight.detach().numpy()
        norm = np.linalg.norm(inputs_of(tiny_model, given, name), axis=0)
        importance = np.abs(before) * norm
        least = importance.argsort(1)[:, : int(0.3 * before.shape[1])]
        expected = before.copy()
        np.put_along_axis(expected, least, 0, axis=1)
        assert np.array_equal(model.get_submodule(name).weight.detach().numpy(), expected), name
    plain = np.sort(np.abs(before), axis=1)[:, int(0.3 * before.shape[1])]
    assert not np.array_equal(expected == 0, np.abs(before) < plain[:, None])  # not by size alone


def test_sparsegpt_solves_for_the_weights_that_stay() -> None:
    """Oracle: one row's best weights for a mask, by least squares; control: without moving them."""
    drawn = np.random.default_rng(0)
    inputs = drawn.normal(size=(400, 8)) @ drawn.normal(size=(8, 8))
    weight = torch.from_numpy(drawn.normal(size=(1, 8)))
    hessian = torch.from_numpy(inputs.T @ inputs)
    mask = torch.tensor([[True, False, False, True, False, False, False, False]])
    found = sparse(weight, hessian, choose=lambda _: mask).numpy()[0]
    assert (found[[0, 3]] == 0).all()
    target = inputs @ weight.numpy()[0]
    free = [1, 2, 4, 5, 6, 7]
    best = np.linalg.lstsq(inputs[:, free], target, rcond=None)[0]

    def error(row: Values) -> float:
        return float(np.square(inputs @ row - target).sum())

    solved, plain = np.zeros(8), weight.numpy()[0].copy()
    solved[free], plain[[0, 3]] = best, 0
    # column by column, those before a pruned column do not move: between the best and the plain
    assert error(solved) <= error(found) < 0.8 * error(plain)


def test_sparsegpt_of_the_first_columns_is_least_squares() -> None:
    """Identity: where the columns that go are the first, all that stay may move: the exact optimum."""
    drawn = np.random.default_rng(1)
    inputs = drawn.normal(size=(500, 6)) @ drawn.normal(size=(6, 6))
    weight = torch.from_numpy(drawn.normal(size=(3, 6)))
    mask = torch.tensor([[True, True, False, False, False, False]]).expand(3, 6)
    found = sparse(weight, torch.from_numpy(inputs.T @ inputs), choose=lambda _: mask).numpy()
    best = np.linalg.lstsq(inputs[:, 2:], inputs @ weight.numpy().T, rcond=None)[0].T
    assert found[:, 2:] == pytest.approx(best, rel=0.05, abs=0.05)  # the paper's damping of 1 %


def test_sparsegpt_keeps_outputs_nearer_than_magnitude(make: Make, tiny_model: Path) -> None:
    """What it is for: at one half, the first layer's outputs on the texts are nearer."""
    base, name = source_of(tiny_model), "model.layers.0.mlp.down_proj"
    inputs = inputs_of(tiny_model, base, name)

    def error(model: Any) -> float:
        moved = model.get_submodule(name).weight - base.get_submodule(name).weight
        return float(np.square(inputs @ moved.detach().double().numpy().T).sum())

    assert error(make("sparsegpt-50")) < 0.7 * error(make("magnitude-50"))
    share = np.mean([(weight == 0).mean() for weight in weights(make("sparsegpt-50")).values()])
    assert share == pytest.approx(0.5, abs=0.01)


def test_slicing_nothing_off_changes_nothing(make: Make, tiny_model: Path) -> None:
    """Identity: with all components kept (1 % of 32 rounds to none) it is the same function."""
    expected = logits(source_of(tiny_model))
    assert logits(make("slicegpt-1")) == pytest.approx(expected, abs=1e-4)
    narrow = make("slicegpt-25")
    assert narrow.config.hidden_size == 24
    assert np.abs(logits(narrow) - expected).max() > 0.01


def test_slicing_keeps_what_varies_most(make: Make, tiny_model: Path) -> None:
    """Oracle: the embeddings, projected on the leading singular vectors of the norms' signals."""
    base, narrow = source_of(tiny_model), make("slicegpt-25")
    signals = []
    for name in ("input_layernorm", "post_attention_layernorm"):
        for i in (0, 1):
            signals.append(inputs_of(tiny_model, base, f"model.layers.{i}.{name}"))
    signals.append(inputs_of(tiny_model, base, "model.norm"))
    signal = np.concatenate(signals)
    signal /= np.linalg.norm(signal, axis=1, keepdims=True)
    leading = np.linalg.svd(signal, full_matrices=False)[2][:24].T
    embedded = base.model.embed_tokens.weight.detach().numpy()
    expected = np.linalg.norm(embedded @ leading, axis=1)
    found = np.linalg.norm(narrow.model.embed_tokens.weight.detach().numpy(), axis=1)
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_sliced_width_is_one_that_the_heads_divide(
    make: Make, tiny_model: Path, tmp_path: Path
) -> None:
    """10 % off 48 leave 43 components, which three heads cannot share: 42 are kept."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=48,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=3,
        num_key_value_heads=3,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "three")
    for file in tiny_model.glob("tokenizer*"):
        copy(file, tmp_path / "three")
    assert make("slicegpt-10", source=tmp_path / "three").config.hidden_size == 42


def test_noise_has_the_size_that_its_name_says(make: Make, tiny_model: Path) -> None:
    """Of each matrix's standard deviation; the same seed draws the same, another another."""
    before = weights(source_of(tiny_model))
    for name, weight in weights(make("noise-0.2")).items():
        noise = (weight - before[name]) / before[name].std(ddof=1)
        assert noise.std() == pytest.approx(0.2, rel=0.1)
        assert abs(noise.mean()) < 0.03
    first, again, other = (logits(make("noise-0.2", seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_matrices_that_lie_the_other_way(make: Make, tiny_model: Path, tmp_path: Path) -> None:
    """GPT-2 keeps its weights inputs x outputs: N of M are along the inputs there too."""
    torch.manual_seed(0)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=259, n_embd=16, n_layer=2, n_head=2))
    other.save_pretrained(tmp_path / "gpt2")
    for file in tiny_model.glob("tokenizer*"):
        copy(file, tmp_path / "gpt2")
    model = make("magnitude-2:4", source=tmp_path / "gpt2")
    weight = model.transformer.h[0].mlp.c_fc.weight.detach().numpy()  # 16 x 64
    assert ((weight.T.reshape(-1, 4) == 0).sum(1) == 2).all()
    assert make("drop-1", source=tmp_path / "gpt2").config.num_hidden_layers == 1
    with pytest.raises(FlipsError, match="slicegpt-25 does not know the architecture gpt2"):
        make("slicegpt-25", source=tmp_path / "gpt2")


def test_groups_that_do_not_divide_are_refused(make: Make) -> None:
    """With those that do; and N of M that would prune nothing."""
    with pytest.raises(
        FlipsError,
        match="groups of 64 do not divide the 32 columns of .*; groups of 32, 16 do",
    ):
        make("int4")
    with pytest.raises(FlipsError, match="groups of 5 do not divide the 8 columns"):
        least_of_groups(torch.ones(2, 8), kept=2, of=5)
    with pytest.raises(FlipsError, match="4 of 4 weights kept prunes none"):
        least_of_groups(torch.ones(2, 8), kept=4, of=4)
