"""A model on a GPU, or spread over two, is scored as on the CPU, and mixes no devices.

The GPUs are those of `tests/virtual_devices.py`; layers are spread as accelerate spreads them: each
takes what it is given to its own device, and the model gives its logits back where it began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from lm_eval_flips.harness.answering import Answering
from lm_eval_flips.harness.recording import Recording
from lm_eval_flips.harness.recording_options import ModelIdentity, Options
from lm_eval_flips.scoring.requests import Answer, TokenRequest
from lm_eval_flips.scoring.transformers.causal_model import CausalModel
from lm_eval_flips.scoring.transformers.scorer import Scorer
from tests.scoring import models
from tests.virtual_devices import Devices, MixedDevicesError, virtual_devices

REQUESTS = models.few_shot(questions=3)
FIRST, LAST = "cuda:0", "cuda:1"
Place = Callable[[Devices, Any], None]


def on_one(devices: Devices, model: Any) -> None:
    """The whole model on one GPU."""
    devices.place_module(model, FIRST)


def on_two(devices: Devices, model: Any) -> None:
    """The second half of the layers, the norm and lm_head on the other GPU."""
    devices.place_module(model, FIRST)
    for module in (model.model.layers[1], model.model.norm, model.lm_head):
        devices.place_module(module, LAST)
        _taking(module, LAST)
    _taking(model.model.layers[0], FIRST)
    forward = model.forward

    @wraps(forward)
    def returning(*args: Any, **kwargs: Any) -> Any:
        made = forward(*args, **kwargs)
        made.logits = made.logits.to(FIRST)
        return made

    model.forward = returning


def _taking(module: Any, device: str) -> None:
    forward = module.forward

    @wraps(forward)
    def moved(*args: Any, **kwargs: Any) -> Any:
        def to(own: Any) -> Any:
            return own.to(device) if isinstance(own, Tensor) else own

        return forward(*tree_map(to, args), **tree_map(to, kwargs))

    module.forward = moved


def answered(model: Any, options: Options) -> list[Answer]:
    """The model's answers to all requests, recorded or measured as the options say."""
    reader = CausalModel(model)
    identity = ModelIdentity(
        name="tiny",
        revision="main",
        dtype="float32",
        tokenizer="one",
        entries=models.TOKENS,
        max_length=models.LONGEST,
    )
    recording = Recording(options, model=reader, hidden=reader.probe(1), identity=identity)
    windows: Sequence[Sequence[TokenRequest]] = [[request] for request in REQUESTS]
    texts = [(f"context {i}", "answer") for i in range(len(REQUESTS))]
    answering = Answering(Scorer(reader, budget=64), recording, windows, texts)
    list(answering.run())
    return [answering.found[place] for place in range(len(REQUESTS))]


def numbers(answers: Sequence[Answer]) -> list[float]:
    """Answers, to be compared."""
    return [float(n) for own in answers for n in (own.loglikelihood, own.is_greedy, own.token_kl)]


@pytest.mark.parametrize("place", [on_one, on_two])
@pytest.mark.parametrize("top", [None, 5], ids=["hidden states", "likeliest tokens"])
def test_a_model_on_gpus_is_scored_as_on_the_cpu(
    place: Place, top: int | None, tmp_path: Path
) -> None:
    """Recorded and then measured from the recording: packed, behind kept prefixes, on each device."""
    other: dict[str, Any] = {
        "attention": "eager",
        "rope_parameters": {"rope_type": "default", "rope_theta": 99.0},
    }
    found = {}
    for where, put in (("cpu", None), ("gpu", place)):
        with virtual_devices() as devices:
            answers = []
            for model, options in (
                (models.build("llama"), Options(record=tmp_path / where, top=top)),
                (models.build("llama", **other), Options(reference=tmp_path / where)),
            ):
                if put is not None:
                    put(devices, model)
                answers.append(answered(model, options))
        found[where] = answers
    for on_cpu, on_gpu in zip(found["cpu"], found["gpu"], strict=True):
        assert numbers(on_gpu) == pytest.approx(numbers(on_cpu), abs=1e-5, nan_ok=True)
    assert min(own.token_kl for own in found["gpu"][1]) > 0


def test_where_logits_lie_is_known_after_a_pass() -> None:
    """Of one GPU that one, of two the last, where the distances are then computed."""
    for place, expected in ((on_one, FIRST), (on_two, LAST)):
        with virtual_devices() as devices:
            model = models.build("llama")
            place(devices, model)
            reader = CausalModel(model)
            assert reader.device == torch.device(FIRST)
            reader.probe(1)
            assert reader.logits_device == torch.device(expected)


def test_a_layer_that_takes_nothing_along_is_found() -> None:
    """Control: without the moves between them, the two GPUs cannot be mixed."""
    with virtual_devices() as devices:
        model = models.build("llama")
        devices.place_module(model, FIRST)
        devices.place_module(model.lm_head, LAST)
        with pytest.raises(MixedDevicesError, match="cuda:0 and cuda:1"):
            CausalModel(model).probe(1)
