"""Requests through llama.cpp in trees, against one at a time and against transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lm_eval_flips.scoring.llama_cpp.context import SEQUENCES, Context
from lm_eval_flips.scoring.llama_cpp.model import Computing, LlamaModel
from lm_eval_flips.scoring.llama_cpp.scorer import LlamaScorer
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.scores import score_rows
from tests.conftest import _tokenizer
from tests.generators.gguf_files import write_gguf

NEAR = 1e-4  # nats, float32
EXACT = Computing(threads=1, cache_type="f32", flash_attention="off")
LONGEST = 500
DRAW = np.random.default_rng(3)


def drawn(count: int) -> list[int]:
    """Tokens by chance, none of them special."""
    return [int(token) for token in DRAW.integers(3, 259, count)]


def few_shot(questions: int, choices: int) -> list[TokenRequest]:
    """Questions behind the same examples, each with some choices."""
    examples = drawn(80)
    asked = []
    for _ in range(questions):
        context = [*examples, *drawn(12)]
        for _ in range(choices):
            asked.append(
                TokenRequest.of(context, drawn(int(DRAW.integers(1, 5))), max_length=LONGEST)
            )
    return asked


CASES = {
    "two subjects of few-shot questions": [*few_shot(6, 4), *few_shot(5, 3)],
    "more choices than sequences": few_shot(1, SEQUENCES + 90),
    "prefixes within each other": [
        TokenRequest.of(base[:cut], drawn(3), max_length=LONGEST)
        for base in [drawn(240)]
        for cut in (40, 80, 81, 120, 160, 200, 240)
        for _ in range(3)
    ],
    "longer than a batch": [TokenRequest.of(drawn(300), drawn(150), max_length=LONGEST)],
    "nothing": [],
}


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> LlamaModel:
    """The tiny model by llama.cpp, in float32."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return LlamaModel(write_gguf(tiny_model, file), EXACT)


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> Any:
    """The same weights in transformers."""
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32")


def scores(scorer: LlamaScorer, requests: Sequence[TokenRequest]) -> list[tuple[float, bool]]:
    """Log-likelihoods by llama.cpp, and which are greedy, in the order of the requests."""
    found: dict[int, tuple[float, bool]] = {}
    for rows in scorer.rows(requests):
        for score in score_rows(rows, requests, scorer.model.head):
            assert score.request not in found
            found[score.request] = (score.loglikelihood, score.is_greedy)
    return [found[place] for place in range(len(requests))]


def expected(reference: Any, requests: Sequence[TokenRequest]) -> list[float]:
    """Log-likelihoods by transformers, one request a pass."""
    totals = []
    for request in requests:
        with torch.no_grad():
            logits = reference(torch.from_numpy(request.fed)[None]).logits[
                0, request.first_scored :
            ]
        chosen = torch.from_numpy(request.continuation)[:, None]
        totals.append(float(logits.double().log_softmax(-1).gather(-1, chosen).sum()))
    return totals


@pytest.mark.parametrize("budget", [64, 128, 2048])
@pytest.mark.parametrize("case", CASES)
def test_trees_score_as_transformers_does(
    case: str, budget: int, model: LlamaModel, reference: Any
) -> None:
    """Oracle: transformers; with small budgets prefixes are kept, with a large one they are not."""
    requests = CASES[case]
    found = scores(LlamaScorer(model, budget=budget), requests)
    assert [one for one, _ in found] == pytest.approx(expected(reference, requests), abs=NEAR)


def test_an_output_layer_that_is_the_embeddings(tmp_path: Path) -> None:
    """Oracle: transformers with tied weights; their file has no output layer of its own."""
    torch.manual_seed(5)
    made: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=1,
            max_position_embeddings=512,
            initializer_range=0.2,
            tie_word_embeddings=True,
        )
    )
    tied = made.eval()
    _tokenizer().save_pretrained(tmp_path)
    tied.save_pretrained(tmp_path)
    file = write_gguf(tmp_path, tmp_path / "tied.gguf")
    assert not any(tensor.name == "output.weight" for tensor in GGUFReader(file).tensors)
    requests = CASES["two subjects of few-shot questions"]
    found = scores(LlamaScorer(LlamaModel(file, EXACT), budget=64), requests)
    assert [one for one, _ in found] == pytest.approx(expected(tied, requests), abs=NEAR)


def test_one_scorer_answers_call_after_call(model: LlamaModel) -> None:
    """Nothing of a call is left in the cache of the next, whose context may be a larger one."""
    scorer = LlamaScorer(model, budget=64)
    first = scores(scorer, CASES["two subjects of few-shot questions"])
    scores(scorer, CASES["longer than a batch"])
    again = scores(scorer, CASES["two subjects of few-shot questions"])
    assert [one for one, _ in again] == pytest.approx([one for one, _ in first], abs=1e-6)


def test_kept_prefixes_are_computed_once(
    model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer tokens are computed than the requests hold; control: one at a time it is all of them."""
    computed = 0
    decode = Context.decode

    def counted(self: Context, tokens: Any) -> Any:
        nonlocal computed
        computed += len(tokens.ids)
        return decode(self, tokens)

    monkeypatch.setattr(Context, "decode", counted)
    requests = CASES["two subjects of few-shot questions"]
    whole = sum(len(request.fed) for request in requests)
    scores(LlamaScorer(model, budget=64), requests)
    assert computed < whole / 4
    computed = 0
    for request in requests:
        scores(LlamaScorer(model), [request])
    assert computed == whole
