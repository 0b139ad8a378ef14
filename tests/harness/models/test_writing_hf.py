"""flips-hf that writes, against lm_eval's own `hf` of both models: texts, tokens, where they part.

The oracles are the stock `hf`, which writes with transformers' generate one prompt at a time, and
sums in float64 over the whole vocabulary of two plain forward passes.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import AutoModelForCausalLM

from lm_eval_flips.harness.models.flips_hf import FlipsHF
from lm_eval_flips.logs.records import Request, request_digest
from lm_eval_flips.logs.runs import ANSWER_DISTANCES, ANSWERS
from lm_eval_flips.scoring.answer_distances import (
    NEVER,
    StoredAnswerDistances,
    load_answer_distances,
)
from lm_eval_flips.scoring.answers import End, GreedyAnswer, GreedyAnswers
from tests import conftest

LIMIT = 8  # tokens
SETTINGS = {"until": ["e", "O"], "max_gen_toks": LIMIT, "do_sample": False}
PROMPTS = 100


def asked(prompts: Sequence[str], **settings: Any) -> list[Instance]:
    """The harness's requests for what follows these prompts."""
    return [
        Instance(
            request_type="generate_until",
            doc={},
            arguments=(prompt, {**SETTINGS, **settings}),
            idx=0,
            metadata=("toy", place, 1),
        )
        for place, prompt in enumerate(prompts)
    ]


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    """Random prompts of other lengths, of which some share a beginning."""
    drawn = random.Random(5)
    texts = []
    for place in range(PROMPTS):
        words = [drawn.choice(conftest.WORDS) for _ in range(drawn.randint(1, 12))]
        texts.append(("Of trees: " if place % 3 else "") + " ".join(words) + f" {place}:")
    return texts


@pytest.fixture(scope="module")
def nudged_model(tiny_model: Path) -> Path:
    """Folder of the model with little noise on its weights, so that some answers never part."""
    folder = tiny_model.with_name("nudged")
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.04 * weight.std() * torch.randn(weight.shape, generator=generator))
    shutil.copytree(tiny_model, folder)
    model.save_pretrained(folder)
    return folder


class Wrote(NamedTuple):
    """What a model wrote by stock `hf`, prompt by prompt: tokens and texts."""

    ids: list[list[int]]
    texts: list[str]


class Noting(HFLM):  # type: ignore[misc]  # lm_eval ships no types
    """The stock model, which notes the tokens that it wrote, in the order in which it did."""

    def _model_generate(self, context: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made: Tensor = super()._model_generate(context, *args, **kwargs)
        self.noted += made[:, context.shape[1] :].tolist()
        return made


def wrote(folder: Path, prompts: Sequence[str], *, batch_size: int = 20) -> Wrote:
    """By the stock model; one prompt at a time nothing stands behind an answer."""
    lm = Noting(pretrained=str(folder), dtype="float32", device="cpu", batch_size=batch_size)
    lm.noted = []
    texts = lm.generate_until(asked(prompts), disable_tqdm=True)
    # the harness begins with the longest prompt
    order = sorted(range(len(prompts)), key=lambda i: (-len(lm.tok_encode(prompts[i])), prompts[i]))
    ids: list[list[int]] = [[]] * len(prompts)
    for place, own in zip(order, lm.noted, strict=True):
        ids[place] = own
    return Wrote(ids, texts)


@pytest.fixture(scope="module")
def before(tiny_model: Path, prompts: list[str]) -> Wrote:
    """What the baseline writes."""
    return wrote(tiny_model, prompts)


@pytest.fixture(scope="module")
def after(nudged_model: Path, prompts: list[str]) -> Wrote:
    """What the compressed model writes."""
    return wrote(nudged_model, prompts)


class Measured(NamedTuple):
    """A recorded baseline, and a compressed model that was held against it."""

    texts: list[str]
    compressed_texts: list[str]
    answers: GreedyAnswers
    stored: StoredAnswerDistances
    compressed: FlipsHF

    def answer(self, request: Instance) -> GreedyAnswer:
        """The baseline's answer to a request."""
        found = self.answers.get(request_digest(Request(*request.args)))
        assert found is not None
        return found

    def place(self, request: Instance) -> int:
        """Where the request's distances are."""
        key = np.frombuffer(request_digest(Request(*request.args)), np.uint64).reshape(1, 2)
        (place,) = self.stored.find(key)
        return int(place)

    def values(self, request: Instance, name: str) -> Tensor:
        """A distance at every position of an answer."""
        place = self.place(request)
        return self.stored.values[name][self.stored.starts[place] : self.stored.starts[place + 1]]


Measure = Callable[..., Measured]


@pytest.fixture(scope="module")
def measure(tiny_model: Path, nudged_model: Path, tmp_path_factory: Any) -> Measure:
    """Record a baseline's answers and hold another model against them."""

    def call(requests: list[Instance], *, model: Path = nudged_model, **more: Any) -> Measured:
        folder = tmp_path_factory.mktemp("written")
        given: dict[str, Any] = {"dtype": "float32", "device": "cpu", "batch_size": 8, **more}
        baseline = FlipsHF(pretrained=str(tiny_model), record=str(folder / "before"), **given)
        texts = baseline.generate_until(requests, disable_tqdm=True)
        compressed = FlipsHF(
            pretrained=str(model),
            reference=str(folder / "before"),
            distances=str(folder / "after"),
            **given,
        )
        own = compressed.generate_until(requests, disable_tqdm=True)
        stored = load_answer_distances(folder / "after" / ANSWER_DISTANCES)
        assert stored is not None
        return Measured(texts, own, GreedyAnswers(folder / "before" / ANSWERS), stored, compressed)

    return call


@pytest.fixture(scope="module")
def measured(measure: Measure, prompts: list[str]) -> Measured:
    """The perturbed model on the tiny model's answers to all prompts."""
    return measure(asked(prompts))


def parted(answer: GreedyAnswer, left: Sequence[int], right: Sequence[int]) -> int:
    """The first place of an answer where two models wrote other tokens, NEVER where there is none."""
    both = zip(left[: len(answer.ids)], right, strict=False)
    return next((place for place, (a, b) in enumerate(both) if a != b), NEVER)


def partings(measured: Measured, prompts: Sequence[str], *ids: list[list[int]]) -> list[int]:
    """Where two models' tokens part, prompt by prompt."""
    asked_for = zip(asked(prompts), *ids, strict=True)
    return [parted(measured.answer(one), left, right) for one, left, right in asked_for]


def test_both_write_what_the_stock_model_writes(
    measured: Measured, before: Wrote, after: Wrote
) -> None:
    """Texts to the last character, though many of the compressed model's were not written again."""
    assert measured.texts == before.texts
    assert measured.compressed_texts == after.texts
    assert before.texts != after.texts
    assert measured.compressed.saved.measured == PROMPTS
    assert measured.compressed.saved.answers > 3


def test_the_noted_tokens_are_those_that_were_written(
    measured: Measured, tiny_model: Path, prompts: list[str]
) -> None:
    """Up to and with what ended each answer, whatever else was written beside it in a batch."""
    alone = prompts[:24]
    ends = set()
    ids_alone = wrote(tiny_model, alone, batch_size=1).ids
    for request, ids in zip(asked(alone), ids_alone, strict=True):
        answer = measured.answer(request)
        assert answer.ids.tolist() == ids
        assert answer.prompt.tolist() == measured.compressed.tok_encode(request.args[0])
        ends.add(answer.end)
        if answer.end is End.LIMIT:
            assert len(ids) == LIMIT
        else:
            assert (answer.end is End.TOKEN) == (ids[-1] == measured.compressed.eot_token_id)
    assert ends == {End.TOKEN, End.STRING, End.LIMIT}


def test_answers_part_where_real_generation_parts(
    measured: Measured, before: Wrote, after: Wrote, prompts: list[str]
) -> None:
    """100 of 100: the pass finds the first token in which two greedy answers differ."""
    found = [int(measured.stored.partings[measured.place(one)]) for one in asked(prompts)]
    assert found == partings(measured, prompts, before.ids, after.ids)
    assert NEVER in found
    assert len(set(found)) > 4
    never = [place == NEVER for place in found]
    assert sum(never) == measured.compressed.saved.answers


def test_a_shifted_answer_is_seen_as_wrong(
    measured: Measured, before: Wrote, after: Wrote, prompts: list[str]
) -> None:
    """Control: against the next prompt's answer the positions are others."""
    found = [int(measured.stored.partings[measured.place(one)]) for one in asked(prompts)]
    shifted = after.ids[1:] + after.ids[:1]
    assert found != partings(measured, prompts, before.ids, shifted)


def test_distances_are_those_of_a_naive_pass(
    measured: Measured, tiny_model: Path, nudged_model: Path, prompts: list[str]
) -> None:
    """At every position of every answer: KL in both directions, and the two best tokens."""
    models: list[Any] = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
        for folder in (tiny_model, nudged_model)
    ]
    for request in asked(prompts[:12]):
        answer = measured.answer(request)
        ids = torch.tensor([[*answer.prompt, *answer.ids]])
        first = len(answer.prompt) - 1
        with torch.no_grad():
            p, q = (model(ids).logits[0, first:-1].log_softmax(-1) for model in models)
        kl, reverse = ((a.exp() * (a - b)).sum(-1) for a, b in ((p, q), (q, p)))
        assert measured.values(request, "kl").tolist() == pytest.approx(kl.tolist(), abs=1e-5)
        found = measured.values(request, "reverse_kl").tolist()
        assert found == pytest.approx(reverse.tolist(), abs=1e-5)
        assert float(kl.max()) > 1e-3  # control: there is a distance to be found
        place = measured.place(request)
        parting = int(measured.stored.partings[place])
        if parting != NEVER:
            best = q[parting].topk(2).values
            assert measured.stored.gaps[place] == pytest.approx(float(best[0] - best[1]), abs=1e-4)
            assert int(q[parting].argmax()) != answer.ids[parting]
        else:
            assert isnan(measured.stored.gaps[place])


def test_float32_repeats_its_own_answers(measured: Measured) -> None:
    """The baseline's pass over what it wrote chooses it again: no position is a near tie."""
    assert measured.answers.noise.gap == 0
    assert measured.stored.header.near_ties == 0


def test_what_no_pass_can_tell_is_not_measured_and_said(
    measure: Measure, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers that are drawn, asked for twice, searched for by beams, or behind no prompt."""
    plain, drawn, beams = (
        asked(["amber birch:"]),
        asked(["cedar:"], do_sample=True, temperature=0.7),
        asked(["elder:"], num_beams=2),
    )
    (twice,) = asked(["fern:"])
    twice.repeats = 2
    found = measure([*plain, *drawn, *beams, twice, *asked(["", "daisy ginger:"])])
    assert len(found.stored.keys) == len(found.answers) == found.compressed.saved.measured == 2
    for why in (
        "answers are drawn at random (do_sample=True) (toy doc 0)",
        "(num_beams=2)",
        "each question is asked 2 times",
        "the baseline's answer was not recorded (toy doc 0)",
    ):
        assert why in caplog.text


def test_bfloat16_says_how_often_its_choice_hangs_on_rounding(
    measure: Measure, tiny_model: Path, prompts: list[str]
) -> None:
    """The baseline's own answers, read again, by hand; nothing is taken over unwritten."""
    found = measure(asked(prompts[:40]), model=tiny_model, dtype="bfloat16")
    hits, gaps = (
        np.concatenate([getattr(one, name).numpy() for one in found.answers])
        for name in ("hits", "gaps")
    )
    noise = max(gaps[~hits], default=0.0)
    assert found.stored.header.noise == pytest.approx(noise)
    assert found.stored.header.near_ties == pytest.approx(float((gaps <= noise).mean()))
    assert found.compressed.saved.answers == 0
    assert found.compressed.saved.measured == 40
    assert found.compressed_texts == found.texts


def test_one_at_a_time_the_baselines_answers_are_drafts(
    measure: Measure, tiny_model: Path, prompts: list[str]
) -> None:
    """As many tokens in fewer passes, to the last character; not in bfloat16, nor in batches."""
    alone, longer = prompts[:30], {"until": ["O"], "max_gen_toks": 30}
    found = measure(asked(alone, **longer), batch_size=1)
    nudged = found.compressed
    stock = HFLM(pretrained=str(nudged.pretrained), dtype="float32", device="cpu", batch_size=1)
    texts = stock.generate_until(asked(alone, **longer), disable_tqdm=True)
    assert found.compressed_texts == texts != found.texts
    saved = nudged.saved
    assert saved.drafted == 30 - saved.answers > 5
    assert saved.drafted <= saved.passes < saved.written
    assert nudged.get_model_info()["answers_read"]["passes"] == saved.passes
    rounded = measure(asked(alone[:4], **longer), model=tiny_model, dtype="bfloat16", batch_size=1)
    assert rounded.compressed.saved.drafted == 0
    assert measure(asked(alone[:4]), batch_size=4).compressed.saved.drafted == 0


def test_the_same_model_parts_nowhere(measure: Measure, tiny_model: Path) -> None:
    """And writes nothing again."""
    same = measure(asked(["amber:", "birch cedar:"]), model=tiny_model)
    assert same.compressed.saved.answers == 2
    assert set(same.stored.partings.tolist()) == {NEVER}
    assert float(same.stored.values["kl"].max()) < 1e-6
