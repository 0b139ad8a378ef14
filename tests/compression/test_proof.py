"""Wrong models are named, honest ones are not: readings whose numbers are known by hand."""

from __future__ import annotations

from dataclasses import replace
from math import exp, isnan, log
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import rel_entr, softmax

from lm_eval_flips.compression.proof import Proof, Weights, prove, weights_of
from lm_eval_flips.compression.reading import Reading

DRAWN = np.random.default_rng(0)
LOGITS = torch.from_numpy(DRAWN.normal(0, 2, (12, 50)).astype(np.float32))
BASELINE = Reading(losses=torch.full((40,), 3.0), logits=LOGITS, parameters=1000)
WHOLE, PACKED = Weights(bytes=2000, bits=16000), Weights(bytes=700, bits=5600)


def moved(by: float, *, loss: float = 3.1, seed: int = 1) -> Reading:
    """A reading whose logits lie that far from the baseline's."""
    noise = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (12, 50)).astype(np.float32))
    return replace(BASELINE, logits=LOGITS + by * noise, losses=torch.full((40,), loss))


def proved(
    loaded: Reading,
    memory: Reading | None = None,
    *,
    weights: Weights = PACKED,
    packed: bool = True,
) -> Proof:
    """Its proof against the baseline."""
    return prove(
        baseline=BASELINE,
        memory=memory,
        loaded=loaded,
        weights=weights,
        baseline_weights=WHOLE,
        packed=packed,
    )


def test_an_honest_model_has_no_fault() -> None:
    """Its numbers against scipy: KL, perplexities, bits of its files a weight."""
    model = moved(0.3)
    proof = proved(model, model)
    assert proof.faults == ()
    p, q = (softmax(side.logits.double().numpy(), axis=1) for side in (BASELINE, model))
    assert proof.kl == pytest.approx(rel_entr(p, q).sum(1).mean())
    assert proof.perplexity == pytest.approx(exp(3.1))
    assert proof.baseline_perplexity == pytest.approx(exp(3))
    assert proof.bits_on_disk == pytest.approx(5.6)
    assert proof.reload_difference == 0


def test_kernels_may_round_otherwise() -> None:
    """A model that comes back a little other is the same; one that comes back far off is not."""
    assert proved(moved(0.31), moved(0.3)).faults == ()
    (fault,) = proved(moved(0.3, seed=2), moved(0.3)).faults
    assert "came back from the disk as another model" in fault


def test_a_destroyed_model_is_named() -> None:
    """One that predicts worse than a guess among all 50 tokens; one that is just better is not."""
    (fault,) = proved(moved(0.3, loss=log(51))).faults
    assert "destroyed: perplexity 51" in fault
    assert "among all tokens 50" in fault
    assert proved(moved(0.3, loss=log(49))).faults == ()
    # a model that guesses no better before has no language to lose
    ignorant = replace(BASELINE, losses=torch.full((40,), log(50) + 0.01))
    told = prove(
        baseline=ignorant,
        memory=None,
        loaded=moved(0.3, loss=4.0),
        weights=PACKED,
        baseline_weights=WHOLE,
        packed=True,
    )
    assert told.faults == ()


def test_a_quantiser_that_never_engaged_is_named() -> None:
    """By its answers, and by its size; a pruned model is as large as it was."""
    faults = proved(BASELINE, BASELINE, weights=WHOLE).faults
    assert "nothing changed" in faults[0]
    assert "nothing was packed" in faults[1]
    assert proved(moved(0.3), weights=WHOLE, packed=False).faults == ()


def test_nan_is_named() -> None:
    """And nothing else is then said of the model."""
    model = replace(BASELINE, losses=torch.full((40,), float("nan")), logits=LOGITS * float("nan"))
    proof = proved(model, BASELINE)
    assert proof.faults == ("it gives no numbers (nan or inf)",)
    assert isnan(proof.perplexity)


def test_another_vocabulary_has_no_distance() -> None:
    """Nan, not 0: nothing can be said."""
    assert isnan(BASELINE.kl_to(replace(BASELINE, logits=LOGITS[:, :40])))


def test_a_reading_is_written_whole(tmp_path: Path) -> None:
    """Identity: saved and loaded; log perplexity is the mean loss."""
    BASELINE.save(tmp_path / "reading.safetensors")
    again = Reading.load(tmp_path / "reading.safetensors")
    assert torch.equal(again.losses, BASELINE.losses)
    assert torch.equal(again.logits, BASELINE.logits)
    assert again.parameters == 1000
    assert log(again.perplexity) == pytest.approx(again.loss)


def test_bits_are_counted_from_the_files(tmp_path: Path) -> None:
    """By hand: tensors of three kinds; the header does not count, the bytes of the file do."""
    tensors = {
        "a": torch.zeros(3, 5, dtype=torch.bfloat16),
        "b": torch.zeros(7, dtype=torch.int8),
        "c": torch.zeros(2, dtype=torch.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    found = weights_of([tmp_path / "model.safetensors"])
    assert found.bits == 15 * 16 + 7 * 8 + 2 * 32
    assert found.bytes == (tmp_path / "model.safetensors").stat().st_size > found.bits / 8
