"""flips-hf against lm_eval's own `hf` on the same model: the same answers, in fewer tokens.

The stock model runs with logits_cache=False: with it, lm_eval 0.4.13 reads requests that are fed
the same tokens, but differ in where the continuation begins, from the wrong positions.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM

from lm_eval_flips.errors import HarnessError
from lm_eval_flips.harness.measured_answer import MeasuredAnswer, MeasuredText
from lm_eval_flips.harness.models import flips_hf as flips_model
from lm_eval_flips.harness.models import scored_lm
from lm_eval_flips.harness.models.flips_hf import FlipsHF
from lm_eval_flips.logs.records import Request, request_digest
from lm_eval_flips.scoring.reference import Reference
from lm_eval_flips.scoring.requests import TokenRequest, key_of
from lm_eval_flips.scoring.token_distances import load_distances
from tests import conftest

NEAR = 1e-4  # nats, float32
LETTERS = ("A", "B", "C", "D")
STORY = "".join(f"{word} grew {i * i % 17} leaves; " for i, word in enumerate(conftest.WORDS))
Loglikelihoods = list[tuple[float, bool]]
Pairs = list[tuple[str, str]]


def question(number: int, choices: Sequence[str]) -> Pairs:
    """The requests of a multiple-choice question."""
    return [(f"Question: which tree has {number} leaves?\nAnswer:", f" {c}") for c in choices]


CASES: dict[str, Pairs] = {
    "choices share a context": question(3, ["amber", "birch and cedar", "daisy"])
    + question(4, ["elder", "fern ü東", "ginger hazel"]),
    "one-token continuations": [(f"{STORY[:60]}\nAnswer: ({n})", x) for n in "12" for x in LETTERS],
    "the same request twice": [*question(5, ["iris", "kale"]), *question(5, ["kale", "iris"])],
    "no context": [("", "amber birch"), ("", "amber"), ("", "c"), ("x", "amber")],
    "a context begins another": [
        (STORY[:20], STORY[20:26]),
        (STORY[:40], STORY[40:41]),
        (STORY[:20], STORY[20:40]),
        (STORY[:90], " amber"),
        (STORY[:21], STORY[21:26]),
    ],
    "spaces end the context": [("amber  ", "birch"), ("amber", "  birch"), ("amber ", " birch")],
    "one request": [("amber", " birch")],
    "no request": [],
}
CASES["all of these"] = [pair for pairs in list(CASES.values())[::-1] for pair in pairs]


def ask(arguments: Sequence[tuple[str, ...]], kind: str = "loglikelihood") -> list[Any]:
    """The harness's requests for these arguments, each a document of the task "trees"."""
    return [
        Instance(request_type=kind, doc={}, arguments=own, idx=0, metadata=("trees", place, 1))
        for place, own in enumerate(arguments)
    ]


def arguments_of(folder: Path, **more: Any) -> dict[str, Any]:
    """Model arguments for both models, on a CPU in float32."""
    given = {"pretrained": str(folder), "dtype": "float32", "device": "cpu", "batch_size": 8}
    return {**given, **more}


def stock(folder: Path, **more: Any) -> Any:
    """The harness's own model."""
    given = {"softmax_dtype": "float32", "logits_cache": False, **more}
    return HFLM(**arguments_of(folder, **given))


def ours(folder: Path, **more: Any) -> FlipsHF:
    """The model under test."""
    return FlipsHF(**arguments_of(folder, **more))


def score(model: Any, pairs: Pairs) -> Loglikelihoods:
    """Log-likelihoods of continuations."""
    found: Loglikelihoods = model.loglikelihood(ask(pairs), disable_tqdm=True)
    return found


def roll(model: Any, *texts: str) -> list[float]:
    """Log-likelihoods of whole texts."""
    requests = ask([(text,) for text in texts], "loglikelihood_rolling")
    found: list[float] = model.loglikelihood_rolling(requests, disable_tqdm=True)
    return found


def assert_same(mine: Loglikelihoods, theirs: Loglikelihoods, near: float = NEAR) -> None:
    """In the same order, the same log-likelihoods, and the same are greedy."""
    assert [own for own, _ in mine] == pytest.approx([own for own, _ in theirs], abs=near)
    assert [greedy for _, greedy in mine] == [greedy for _, greedy in theirs]


def counted(model: FlipsHF, monkeypatch: pytest.MonkeyPatch, stop: int = 10**9) -> list[int]:
    """Grows with every forward pass from here on; the one after ``stop`` is interrupted."""
    passes: list[int] = []
    forward = model.model.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        if len(passes) == stop:
            raise KeyboardInterrupt
        passes.append(kwargs["input_ids"].numel())
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.model, "forward", counting)
    return passes


def all_but_two(model: FlipsHF, pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> int:
    """Forward passes that the model makes for these requests, less two."""
    passes = counted(model, monkeypatch)
    score(model, pairs)
    return len(passes) - 2


@pytest.fixture(scope="module")
def hf(tiny_model: Path) -> Any:
    """The tiny model as the harness scores it."""
    return stock(tiny_model)


@pytest.fixture(scope="module")
def greedy_pairs(task_folder_local: Path) -> Pairs:
    """Contexts with a next letter that is the tiny model's own in every other one."""
    lines = (task_folder_local / "cloze.jsonl").read_text(encoding="utf-8").splitlines()
    return [(doc["text"], doc["target"]) for doc in map(json.loads, lines)]


@pytest.fixture(scope="module")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a model with a tokenizer, by default the tiny model's."""

    def make(name: str, model: Any, tokenizer: Any = None) -> Path:
        folder = tmp_path_factory.mktemp("made") / name
        model.save_pretrained(folder)
        (tokenizer or conftest._tokenizer()).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def bloom_model(make_model: Callable[..., Path]) -> Path:
    """A tiny Bloom, whose ALiBi attention takes no tree's mask."""
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(
        vocab_size=259, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2, eos_token_id=2
    )
    torch.manual_seed(0)
    return make_model("bloom", BloomForCausalLM(config))


@pytest.fixture(scope="module")
def t5_model(make_model: Callable[..., Path]) -> Path:
    """A tiny T5, which is no causal model."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes: dict[str, Any] = {"vocab_size": 259, "d_model": 32, "d_kv": 8, "d_ff": 64}
    sizes |= {"num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    torch.manual_seed(0)
    return make_model("t5", T5ForConditionalGeneration(T5Config(**sizes)))


@pytest.fixture(scope="module")
def bos_model(make_model: Callable[..., Path]) -> Path:
    """The tiny model with a tokenizer that puts <s> before what it reads."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = conftest._tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return make_model("bos", conftest._model(), tokenizer)


@pytest.fixture(scope="module")
def nan_model(make_model: Callable[..., Path]) -> Path:
    """The tiny model, which makes nan of whatever comes after a 7."""
    model, (seven,) = conftest._model(), conftest._tokenizer().encode("7")
    with torch.no_grad():
        model.get_input_embeddings().weight[seven] = torch.nan
    return make_model("nan", model)


@pytest.mark.parametrize("batch_size", [1, 8, "auto"])
@pytest.mark.parametrize("case", CASES)
def test_loglikelihoods_are_those_of_hf(
    case: str, batch_size: int | str, hf: Any, tiny_model: Path
) -> None:
    """Whatever is asked for in one call, and however large a batch may be."""
    assert_same(score(ours(tiny_model, batch_size=batch_size), CASES[case]), score(hf, CASES[case]))


@pytest.mark.parametrize("case", ["choices share a context", "one-token continuations"])
def test_the_cache_of_hf_makes_no_difference_to_choices(case: str, tiny_model: Path) -> None:
    """With its default settings hf says the same of any question with choices."""
    theirs = score(stock(tiny_model, logits_cache=True), CASES[case])
    assert_same(score(ours(tiny_model), CASES[case]), theirs)


def test_what_is_greedy_is_that_of_hf(hf: Any, tiny_model: Path, greedy_pairs: Pairs) -> None:
    """A continuation that is the model's own is said to be, another is not."""
    found = score(ours(tiny_model), greedy_pairs)
    assert_same(found, score(hf, greedy_pairs))
    assert [greedy for _, greedy in found] == [i % 2 == 1 for i in range(len(found))]


def test_another_model_answers_otherwise(hf: Any, perturbed_model: Path) -> None:
    """Control: what the comparisons would show of a model that is a little off."""
    mine, theirs = (score(x, CASES["all of these"]) for x in (ours(perturbed_model), hf))
    off = [abs(a - b) for (a, _), (b, _) in zip(mine, theirs, strict=True)]
    assert min(off) > NEAR


def test_an_auto_batch_of_hf_is_no_other_answer(tiny_model: Path) -> None:
    """Both models look for a batch size of their own."""
    theirs = score(stock(tiny_model, batch_size="auto", max_length=128), CASES["all of these"])
    mine = score(ours(tiny_model, batch_size="auto", max_length=128), CASES["all of these"])
    assert_same(mine, theirs)


@pytest.mark.parametrize("max_length", [8, 16, 25])
def test_long_requests_are_cut_from_the_left_as_hf_does(max_length: int, tiny_model: Path) -> None:
    """Contexts are cut, and continuations may fill the model to the last position."""
    contexts = [STORY[:size] for size in (3, 8, 24, 25, 26, 92)]
    assert not any(context.endswith(" ") for context in contexts)
    pairs = [(c, STORY[92 : 92 + size]) for c in contexts for size in (1, 2, max_length)]
    settings = {"max_length": max_length}
    found = score(ours(tiny_model, **settings), pairs)
    assert_same(found, score(stock(tiny_model, **settings), pairs))
    whole = score(ours(tiny_model), pairs)
    assert max(abs(a - b) for (a, _), (b, _) in zip(found, whole, strict=True)) > NEAR


@pytest.mark.parametrize("continuation", [STORY[:17], ""])
def test_a_continuation_that_cannot_be_scored_is_refused(
    continuation: str, tiny_model: Path
) -> None:
    """Where hf stops at an assertion, the task and document are named."""
    pairs = [("amber", " birch"), ("amber", continuation)]
    message = "1 of 2 continuations have no token, or more than max_length=16 (trees doc 1)"
    with pytest.raises(HarnessError, match=re.escape(message)):
        score(ours(tiny_model, max_length=16), pairs)
    with pytest.raises(AssertionError):
        score(stock(tiny_model, max_length=16), pairs)


def test_bos_tokens_are_those_of_hf(bos_model: Path) -> None:
    """add_bos_token, on and off, and the tokenizer's own way where neither is said."""
    pairs = [pair for name in CASES if name != "no context" for pair in CASES[name]]
    found = {}
    for name, given in (("on", {"add_bos_token": True}), ("off", {"add_bos_token": False})):
        found[name] = score(ours(bos_model, **given), pairs)
        assert_same(found[name], score(stock(bos_model, **given), pairs))
    assert_same(score(ours(bos_model), pairs), found["on"])
    off = [abs(a - b) for (a, _), (b, _) in zip(found["on"], found["off"], strict=True)]
    assert max(off) > NEAR


def test_the_token_before_an_empty_context_is_the_one_asked_for(tiny_model: Path) -> None:
    """prefix_token_id, for continuations and for whole texts."""
    found = []
    for prefix in (1, 2):
        mine, theirs = (x(tiny_model, prefix_token_id=prefix) for x in (ours, stock))
        assert_same(score(mine, CASES["no context"]), score(theirs, CASES["no context"]))
        assert roll(mine, STORY) == pytest.approx(roll(theirs, STORY), abs=NEAR)
        found += roll(mine, STORY)
    assert abs(found[0] - found[1]) > NEAR


@pytest.mark.parametrize("max_length", [32, 512])
def test_whole_texts_are_read_window_by_window_as_hf_does(
    max_length: int, tiny_model: Path
) -> None:
    """Texts shorter than, as long as and much longer than the model's input; an empty one."""
    texts = [STORY[:size] for size in (1, 31, 32, 33, 64, 65, 200)] + ["", "ü東 🌲", STORY[:31]]
    mine, theirs = (x(tiny_model, max_length=max_length) for x in (ours, stock))
    found = roll(mine, *texts)
    assert found == pytest.approx(roll(theirs, *texts), abs=NEAR)
    assert found[texts.index("")] == 0
    assert roll(mine, "") == [0]
    assert roll(mine) == []


def test_windows_of_a_text_that_repeats_itself_are_read_at_their_own_places(
    tiny_model: Path,
) -> None:
    """Windows of the same tokens whose scored part begins elsewhere, which hf's cache mixes up."""
    text = "abc" * 30
    (found,) = roll(ours(tiny_model, max_length=16), text)
    assert [found] == pytest.approx(roll(stock(tiny_model, max_length=16), text), abs=NEAR)


def test_generated_text_is_the_stock_one(hf: Any, tiny_model: Path) -> None:
    """generate_until is the harness's own."""
    settings = {"until": ["\n"], "max_gen_toks": 6, "do_sample": False}
    arguments: Any = [(context, settings) for context, _ in CASES["all of these"] if context]
    requests = ask(arguments, "generate_until")
    found = ours(tiny_model).generate_until(requests, disable_tqdm=True)
    assert found == hf.generate_until(requests, disable_tqdm=True)
    assert any(found)


def cached(model: Any, file: Path) -> dict[str, Any]:
    """What a response cache holds after all requests of two kinds, and the answers in "given"."""
    cache = CachingLM(model, str(file))
    answers = cache.loglikelihood(ask(CASES["all of these"]))
    rolled = cache.loglikelihood_rolling(ask([(STORY,), ("amber",)], "loglikelihood_rolling"))
    kept = dict(cache.dbdict)
    cache.dbdict.close()
    return {**kept, "given": [*answers, *((own, True) for own in rolled)]}


def test_a_response_cache_holds_what_it_does_with_hf(tiny_model: Path, tmp_path: Path) -> None:
    """--use_cache: the same keys and answers, which a second run is given without the model."""
    theirs = cached(stock(tiny_model), tmp_path / "hf.db")
    mine = cached(ours(tiny_model), tmp_path / "flips.db")
    assert set(mine) == set(theirs)
    assert len(mine) == len(set(CASES["all of these"])) + 2 + 1
    assert_same(mine.pop("given"), theirs.pop("given"))
    for key, answer in theirs.items():
        assert type(mine[key]) is type(answer)
        both = [[own] if isinstance(own, float) else list(own) for own in (mine[key], answer)]
        assert both[0] == pytest.approx(both[1], abs=NEAR)


def test_a_filled_response_cache_answers_without_the_model(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time no token is read."""
    first = cached(ours(tiny_model), tmp_path / "flips.db")
    again = ours(tiny_model)
    passes = counted(again, monkeypatch)
    assert cached(again, tmp_path / "flips.db") == first
    assert not passes
    cached(again, tmp_path / "another.db")
    assert passes


def test_an_interrupted_run_leaves_its_finished_answers_in_the_response_cache(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are kept as they come, not when all are there."""
    whole = cached(ours(tiny_model), tmp_path / "whole.db")
    most = all_but_two(ours(tiny_model, pack_tokens=64), CASES["all of these"], monkeypatch)
    stopped = ours(tiny_model, pack_tokens=64)
    counted(stopped, monkeypatch, stop=most)
    cache = CachingLM(stopped, str(tmp_path / "part.db"))
    with pytest.raises(KeyboardInterrupt):
        cache.loglikelihood(ask(CASES["all of these"]))
    kept = dict(cache.dbdict)
    cache.dbdict.close()
    assert 0 < len(kept) < len(set(CASES["all of these"]))
    assert_same(list(kept.values()), [whole[key] for key in kept])


def test_the_harness_is_told_how_requests_were_scored(tiny_model: Path, hf: Any) -> None:
    """get_model_info, which lm_eval logs, keeps what hf says; what was tried is told beside it."""
    mine = ours(tiny_model)
    assert mine.get_model_info() == {**hf.get_model_info(), "scoring": "packed"}
    score(mine, CASES["all of these"])
    tried = mine.get_model_info()["packing_check"]
    contexts = [mine.tok_encode(a + b) for a, b in CASES["all of these"]]
    assert tried["longest_request"] == max(map(len, contexts)) - 1
    assert tried["largest_pack"] > 0
    assert 0 <= tried["nats_from_plain"] < 1e-6
    assert json.loads(json.dumps(tried)) == tried


def test_larger_packs_are_fewer_passes_and_the_same_answers(
    hf: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pack_tokens: what costs time changes, the numbers do not."""
    expected = score(hf, CASES["all of these"])
    found = {}
    for given in (16, 128, 4096):
        model = ours(tiny_model, pack_tokens=given)
        passes = counted(model, monkeypatch)
        assert_same(score(model, CASES["all of these"]), expected)
        found[given] = (len(passes), max(passes))
    assert found[16][0] > found[128][0] > found[4096][0]
    assert found[128][1] < found[4096][1]


def test_shared_contexts_are_read_once(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer tokens are read than the requests hold."""
    choices = [f"{a} {b}" for a in conftest.WORDS for b in conftest.WORDS]
    pairs = [(STORY[:200], f" {choice}") for choice in choices]
    model = ours(tiny_model)
    score(model, pairs[:2])  # which also tries whether the model reads packs
    passes = counted(model, monkeypatch)
    score(model, pairs)
    assert sum(passes) < sum(len(a) + len(b) for a, b in pairs) / 5


def test_a_model_that_reads_no_packs_is_scored_as_hf_does_and_says_so_once(
    bloom_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bloom: hf's numbers, one line in the log of several calls, the reason in the results."""
    scored_lm._say_once.cache_clear()
    mine, theirs = ours(bloom_model, max_length=256), stock(bloom_model, max_length=256)
    assert_same(score(mine, CASES["all of these"]), score(theirs, CASES["all of these"]))
    assert_same(score(mine, CASES["no context"]), score(theirs, CASES["no context"]))
    assert roll(mine, STORY, "amber") == pytest.approx(roll(theirs, STORY, "amber"), abs=NEAR)
    (line,) = [r.getMessage() for r in caplog.records if r.name == scored_lm.__name__]
    reason = mine.get_model_info()["scoring"]
    assert line == f"the requests are scored one by one: {reason}"
    assert "\n" not in line
    assert reason not in ("packed", "plain")


def test_a_seq2seq_model_is_the_plain_hf_one(
    t5_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """T5: hf's answers to the last digit, one warning, and "plain" in the results."""
    mine, theirs = ours(t5_model), stock(t5_model)
    assert score(mine, CASES["one-token continuations"]) == score(
        theirs, CASES["one-token continuations"]
    )
    assert roll(mine, STORY[:99]) == roll(theirs, STORY[:99])
    assert mine.get_model_info()["scoring"] == "plain"
    (line,) = [r.getMessage() for r in caplog.records if r.name == flips_model.__name__]
    assert line == f"flips-hf scores '{t5_model}' as hf does: it is no causal language model"


@pytest.mark.parametrize("argument", ["record", "reference"])
def test_a_seq2seq_model_is_not_recorded(argument: str, t5_model: Path, tmp_path: Path) -> None:
    """What cannot be measured is refused before anything is scored, with a way out."""
    with pytest.raises(
        HarnessError, match=f"cannot be scored with {argument}: it is no causal .*use --model hf"
    ):
        ours(t5_model, **{argument: str(tmp_path / "run")})
    assert not (tmp_path / "run").exists()


def test_mixed_precision_is_left_to_hf(
    tiny_model: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """An autocast runs around hf's own calls only, so those are used, and recording is refused."""
    given = {"mixed_precision_dtype": "bfloat16", "logits_cache": False}
    mine, theirs = ours(tiny_model, **given), stock(tiny_model, **given)
    assert score(mine, CASES["all of these"]) == score(theirs, CASES["all of these"])
    assert "as hf does: mixed_precision_dtype is set" in caplog.text
    with pytest.raises(HarnessError, match="cannot be scored with record: mixed_precision_dtype"):
        ours(tiny_model, record=str(tmp_path), **given)


def test_softmaxes_are_float32_whatever_the_model_is(tiny_model: Path) -> None:
    """The bfloat16 softmax of hf rounds log-likelihoods to steps in which choices tie."""
    coarse = stock(tiny_model, dtype="bfloat16", softmax_dtype=None)
    fine = stock(tiny_model, dtype="bfloat16")
    pairs = CASES["one-token continuations"]
    for given in ({}, {"softmax_dtype": "bfloat16"}):
        found = score(ours(tiny_model, dtype="bfloat16", **given), pairs)
        assert [own for own, _ in found] == pytest.approx(
            [own for own, _ in score(fine, pairs)], abs=0.05
        )
        assert not any(float(torch.tensor(own).bfloat16()) == own for own, _ in found)
    assert all(float(torch.tensor(own).bfloat16()) == own for own, _ in score(coarse, pairs))


def test_the_plain_path_takes_the_softmax_that_is_asked_for(t5_model: Path) -> None:
    """By default float32, where hf's own default is the model's dtype."""
    pairs = CASES["one-token continuations"]
    for given, theirs in (({}, "float32"), ({"softmax_dtype": "bfloat16"}, "bfloat16")):
        mine = ours(t5_model, dtype="bfloat16", **given)
        other = stock(t5_model, dtype="bfloat16", softmax_dtype=theirs)
        assert score(mine, pairs) == score(other, pairs)


def test_a_nan_is_only_where_hf_has_one(nan_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A request whose numbers overflow must not make those that share its pack nan."""
    pairs = [pair for number in (1, 2, 7, 5, 17) for pair in question(number, ["elder", "fern"])]
    mine, theirs = score(ours(nan_model), pairs), score(stock(nan_model), pairs)
    broken = [place for place, (own, _) in enumerate(theirs) if isnan(own)]
    assert broken == [4, 5, 8, 9]
    assert [own for own, _ in mine] == pytest.approx(
        [own for own, _ in theirs], abs=NEAR, nan_ok=True
    )
    named = "4 log-likelihoods are nan: trees doc 4, trees doc 5, trees doc 8, trees doc 9"
    assert named in caplog.text


def oracle(folders: Sequence[Path], pairs: Pairs) -> list[torch.Tensor]:
    """Both models' float64 log-probabilities where they predict each continuation."""
    from transformers import AutoModelForCausalLM

    tokenizer = conftest._tokenizer()
    found = []
    for folder in folders:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        rows = []
        for context, continuation in pairs:
            before = tokenizer.encode(context) or [1]
            after = tokenizer.encode(continuation)
            with torch.no_grad():
                logits = model(torch.tensor([before + after[:-1]])).logits[0, -len(after) :]
            rows.append(logits.double().log_softmax(-1))
        found.append(rows)
    return [torch.stack(own) for own in zip(*found, strict=True)]


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL in float64 of two rows of log-probabilities."""
    return (p.exp() * (p - q)).sum(-1)


MEASURED = [*CASES["choices share a context"], *CASES["one-token continuations"], ("", "amber")]


class Recorded:
    """Both models recorded as baselines, and each measured against the other."""

    def __init__(self, tiny: Path, perturbed: Path, folder: Path) -> None:
        self.folder = folder
        self.models = {"tiny": tiny, "perturbed": perturbed}
        self.answers = {
            name: score(ours(model, record=str(folder / name)), MEASURED)
            for name, model in self.models.items()
        }
        self.measured = {}
        for before, after in (("tiny", "perturbed"), ("perturbed", "tiny"), ("tiny", "tiny")):
            run = str(folder / f"{after} from {before}")
            model = ours(self.models[after], reference=str(folder / before), distances=run)
            self.measured[before, after] = score(model, MEASURED)

    def stored(self, before: str, after: str) -> Any:
        """The distances of one model from the other."""
        return load_distances(self.folder / f"{after} from {before}" / "token_distances")

    def values(self, before: str, after: str, name: str) -> list[torch.Tensor]:
        """A stored distance, request by request in the order of ``MEASURED``."""
        found = self.stored(before, after)
        places = found.find(keys(MEASURED))
        return [found.values[name][found.starts[i] : found.starts[i + 1]] for i in places]


def keys(arguments: Sequence[tuple[str, ...]]) -> Any:
    """The keys of requests among stored distances."""
    digests = b"".join(request_digest(Request(*own)) for own in arguments)
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


@pytest.fixture(scope="module")
def recorded(
    tiny_model: Path, perturbed_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recorded:
    """Recordings and measurements that the next tests look at."""
    return Recorded(tiny_model, perturbed_model, tmp_path_factory.mktemp("recorded"))


def test_recording_and_measuring_change_no_answer(recorded: Recorded) -> None:
    """A model answers to the last digit what it does by itself."""
    for name, folder in recorded.models.items():
        plain = score(ours(folder), MEASURED)
        assert recorded.answers[name] == plain
        assert all(found == plain for pair, found in recorded.measured.items() if pair[1] == name)


def test_distances_are_those_of_two_transformers_models(recorded: Recorded) -> None:
    """Position by position, forward and reverse KL against float64 sums over the vocabulary."""
    both = oracle([recorded.models["tiny"], recorded.models["perturbed"]], MEASURED)
    forward = recorded.values("tiny", "perturbed", "kl")
    reverse = recorded.values("tiny", "perturbed", "reverse_kl")
    answers = recorded.measured["tiny", "perturbed"]
    for (p, q), kl_found, reverse_found, answer in zip(
        both, forward, reverse, answers, strict=True
    ):
        torch.testing.assert_close(kl_found.double(), kl(p, q), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(reverse_found.double(), kl(q, p), atol=1e-5, rtol=1e-5)
        assert isinstance(answer, MeasuredAnswer)
        assert answer.token_kl == pytest.approx(float(kl(p, q).mean()), abs=1e-5)
    assert max(float(own.max()) for own in forward) > 0.1


def test_swapping_the_models_swaps_the_distances(recorded: Recorded) -> None:
    """What is forward KL one way is reverse KL the other way."""
    for name, swapped in (("kl", "reverse_kl"), ("reverse_kl", "kl")):
        there = recorded.values("tiny", "perturbed", name)
        back = recorded.values("perturbed", "tiny", swapped)
        for own, other in zip(there, back, strict=True):
            torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)
    same = zip(
        recorded.values("tiny", "perturbed", "logprob_change"),
        recorded.values("perturbed", "tiny", "logprob_change"),
        strict=True,
    )
    assert all(torch.equal(own, -other) for own, other in same)


def test_a_model_is_at_no_distance_from_itself(recorded: Recorded) -> None:
    """Control of both: below a millionth of a nat, and the same token on top everywhere."""
    found = recorded.stored("tiny", "tiny").values
    assert float(found["kl"].max()) < 1e-6
    assert float(found["reverse_kl"].max()) < 1e-6
    assert found["same_top"].all()
    assert not recorded.stored("tiny", "perturbed").values["same_top"].all()


def test_both_logged_answers_are_stored_with_the_distances(recorded: Recorded) -> None:
    """To the last digit: by them the pair of runs is proven later."""
    stored = recorded.stored("tiny", "perturbed")
    places = stored.find(keys(MEASURED))
    for kept, name in (
        (stored.baseline_loglikelihoods, "tiny"),
        (stored.loglikelihoods, "perturbed"),
    ):
        assert kept[places].tolist() == [own for own, _ in recorded.answers[name]]


def test_a_rolling_text_is_measured_over_all_its_windows(
    tiny_model: Path, perturbed_model: Path, tmp_path: Path
) -> None:
    """As many positions as tokens, an empty text without any, and the mean of the float64 KL."""
    base, run = str(tmp_path / "base"), str(tmp_path / "run")
    texts, given = [STORY[:70], "", "amber"], {"max_length": 32}
    roll(ours(tiny_model, record=base, **given), *texts)
    found = roll(ours(perturbed_model, reference=base, distances=run, **given), *texts)
    stored = load_distances(tmp_path / "run" / "token_distances")
    assert stored is not None
    places = stored.find(keys([(text,) for text in texts]))
    sizes = [int(stored.starts[i + 1] - stored.starts[i]) for i in places]
    assert sizes == [70, 0, 5]
    ((p, q),) = oracle([tiny_model, perturbed_model], [("", "amber")])
    start = stored.starts[places[2]]
    torch.testing.assert_close(
        stored.values["kl"][start : start + 5].double(), kl(p, q), atol=1e-5, rtol=1e-5
    )
    assert isinstance(found[2], MeasuredText)
    assert found[2].token_kl == pytest.approx(float(kl(p, q).mean()), abs=1e-5)
    assert [isinstance(own, MeasuredText) for own in found] == [True, False, True]


def test_an_interrupted_recording_goes_on_where_it_stopped(
    tiny_model: Path, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished is not read again, and the reference is the uninterrupted one."""
    most = all_but_two(ours(tiny_model, pack_tokens=64), MEASURED, monkeypatch)
    given = {"record": str(tmp_path / "run"), "pack_tokens": 64}
    stopped = ours(tiny_model, **given)
    counted(stopped, monkeypatch, stop=most)
    with pytest.raises(KeyboardInterrupt):
        score(stopped, MEASURED)
    again = ours(tiny_model, **given)
    passes = counted(again, monkeypatch)
    assert_same(score(again, MEASURED), recorded.answers["tiny"])
    assert 0 < len(passes) < most
    once = Reference(recorded.folder / "tiny" / "reference")
    twice = Reference(tmp_path / "run" / "reference")
    for context, continuation in MEASURED:
        tokens = [conftest._tokenizer().encode(text) for text in (context, continuation)]
        key = key_of(TokenRequest.of(tokens[0] or [1], tokens[1], max_length=512))
        assert key in once
        assert twice.loglikelihood(key) == pytest.approx(once.loglikelihood(key), abs=NEAR)
        torch.testing.assert_close(
            twice.states([(key, 0)]), once.states([(key, 0)]), atol=1e-4, rtol=1e-4
        )


def test_an_interrupted_measurement_goes_on_where_it_stopped(
    perturbed_model: Path, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished requests are answered from the folder, with their distance."""
    most = all_but_two(ours(perturbed_model, pack_tokens=64), MEASURED, monkeypatch)
    given = {
        "reference": str(recorded.folder / "tiny"),
        "distances": str(tmp_path / "run"),
        "pack_tokens": 64,
    }
    stopped = ours(perturbed_model, **given)
    counted(stopped, monkeypatch, stop=most)
    with pytest.raises(KeyboardInterrupt):
        score(stopped, MEASURED)
    part = load_distances(tmp_path / "run" / "token_distances")
    assert part is not None
    assert 0 < len(part.loglikelihoods) < len(set(MEASURED))
    found = score(ours(perturbed_model, **given), MEASURED)
    for own, other in zip(found, recorded.measured["tiny", "perturbed"], strict=True):
        assert isinstance(own, MeasuredAnswer)
        assert isinstance(other, MeasuredAnswer)
        assert own[0] == pytest.approx(other[0], abs=NEAR)
        assert own.token_kl == pytest.approx(other.token_kl, abs=1e-5)
    last = ours(perturbed_model, **given)
    passes = counted(last, monkeypatch)
    assert score(last, MEASURED) == found
    assert not passes


def test_a_measured_answer_survives_a_response_cache(
    perturbed_model: Path, recorded: Recorded, tmp_path: Path
) -> None:
    """The distance goes with the answer through lm_eval's pickled cache."""
    given = {"reference": str(recorded.folder / "tiny")}
    answers = []
    for _ in range(2):
        cache = CachingLM(ours(perturbed_model, **given), str(tmp_path / "cache.db"))
        answers.append(cache.loglikelihood(ask(MEASURED)))
        cache.dbdict.close()
    assert answers[0] == answers[1]
    assert [own.token_kl for own in answers[1]] == [own.token_kl for own in answers[0]]


def test_requests_that_the_reference_lacks_are_refused_before_the_model_runs(
    perturbed_model: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tasks and documents are named, with the flags that may differ."""
    model = ours(perturbed_model, reference=str(recorded.folder / "tiny"))
    passes = counted(model, monkeypatch)
    with pytest.raises(
        HarnessError, match=r"lacks 2 of the 3 requests \(trees doc 1, trees doc 2\).*--num_fewshot"
    ):
        score(model, [MEASURED[0], ("amber", " birch"), ("amber", " cedar")])
    assert not passes


def test_another_max_length_is_told_where_it_matters(
    perturbed_model: Path, recorded: Recorded
) -> None:
    """Requests that are cut shorter than the baseline's are not in its reference."""
    model = ours(perturbed_model, reference=str(recorded.folder / "tiny"), max_length=24)
    with pytest.raises(HarnessError, match="recorded of other tasks, prompts or max_length"):
        score(model, MEASURED)


def test_a_cut_off_shard_is_one_line(
    perturbed_model: Path, recorded: Recorded, tmp_path: Path
) -> None:
    """The reference is held against its checksums when it is opened."""
    shutil.copytree(recorded.folder / "tiny", tmp_path / "base")
    (shard,) = (tmp_path / "base" / "reference").glob("0*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(HarnessError, match="is not what was written: cut off or changed") as caught:
        ours(perturbed_model, reference=str(tmp_path / "base"))
    assert "\n" not in str(caught.value)


def test_a_run_without_a_reference_is_told(perturbed_model: Path, tmp_path: Path) -> None:
    """A folder that was not recorded is named."""
    with pytest.raises(HarnessError, match="reference' has no manifest.json; record it first"):
        ours(perturbed_model, reference=str(tmp_path))


def test_another_tokenizer_is_refused(recorded: Recorded, make_model: Callable[..., Path]) -> None:
    """One token that means something else is enough."""
    tokenizer = conftest._tokenizer()
    tokenizer.add_tokens(["amber"])
    folder = make_model("other", conftest._model(), tokenizer)
    with pytest.raises(HarnessError, match="other' has another tokenizer than the baseline"):
        ours(folder, reference=str(recorded.folder / "tiny"))


@pytest.mark.parametrize("tokens", [250, 272])
def test_a_vocabulary_may_be_padded_but_not_cut(
    tokens: int,
    recorded: Recorded,
    tiny_model: Path,
    make_model: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Padding beyond the tokenizer is left out of the comparison, with a note."""
    model = conftest._model()
    model.resize_token_embeddings(tokens, mean_resizing=False)
    folder = make_model("resized", model)
    given = {"reference": str(recorded.folder / "tiny")}
    if tokens < 259:
        with pytest.raises(HarnessError, match=r"has 250 vocabulary entries, the baseline .* 259"):
            ours(folder, **given)
        return
    found = score(ours(folder, **given), MEASURED[:4])
    assert "vocabularies padded to 259 and 272 entries: the first 259 are compared" in caplog.text
    for answer in found:
        assert isinstance(answer, MeasuredAnswer)
        assert answer.token_kl < 1e-6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"positions": "first"}, "positions=first is neither 'all' nor 'last'"),
        ({"top": 0}, "top=0 keeps no token; give at least 1"),
        ({"distances": "run"}, "distances=run needs reference=RUN, the baseline to measure from"),
    ],
)
def test_arguments_that_say_nothing_are_refused(
    given: dict[str, Any], message: str, tiny_model: Path
) -> None:
    """In one line, before anything is written."""
    with pytest.raises(HarnessError, match=message):
        ours(tiny_model, **given)


def test_a_folder_of_another_recording_is_not_continued(tiny_model: Path, tmp_path: Path) -> None:
    """What differs is named."""
    ours(tiny_model, record=str(tmp_path))
    with pytest.raises(HarnessError, match=r"was begun with dtype float32, not bfloat16"):
        ours(tiny_model, record=str(tmp_path), dtype="bfloat16")


@pytest.mark.parametrize("top", [1, 5, 258])
def test_the_most_likely_tokens_bound_the_distances_from_below(
    top: int, tiny_model: Path, perturbed_model: Path, recorded: Recorded, tmp_path: Path
) -> None:
    """Never more than over the whole vocabulary; all but one token are the whole."""
    base, run = str(tmp_path / "base"), str(tmp_path / "run")
    score(ours(tiny_model, record=base, top=top), MEASURED)
    score(ours(perturbed_model, reference=base, distances=run), MEASURED)
    stored = load_distances(tmp_path / "run" / "token_distances")
    assert stored is not None
    assert stored.header.top == top
    whole = recorded.stored("tiny", "perturbed")
    both = [own.find(keys(MEASURED)) for own in (stored, whole)]
    assert (both[0] >= 0).all()
    for name in ("kl", "reverse_kl", "jensen_shannon", "total_variation"):
        bounded, full = (
            torch.cat([own.values[name][own.starts[i] : own.starts[i + 1]] for i in places])
            for own, places in zip((stored, whole), both, strict=True)
        )
        assert (bounded <= full + 1e-5).all()
        assert torch.allclose(bounded, full, atol=1e-5) == (top == 258)


def test_last_positions_are_the_first_ones_that_all_positions_hold(
    tiny_model: Path, perturbed_model: Path, recorded: Recorded, tmp_path: Path
) -> None:
    """positions=last measures the continuation's first token, as positions=all does."""
    base, run = str(tmp_path / "base"), str(tmp_path / "run")
    score(ours(tiny_model, record=base, positions="last"), MEASURED)
    score(ours(perturbed_model, reference=base, distances=run), MEASURED)
    stored = load_distances(tmp_path / "run" / "token_distances")
    assert stored is not None
    assert set((stored.starts[1:] - stored.starts[:-1]).tolist()) == {1}
    found = [float(stored.values["kl"][stored.starts[i]]) for i in stored.find(keys(MEASURED))]
    whole = recorded.values("tiny", "perturbed", "kl")
    assert found == pytest.approx([float(own[0]) for own in whole], abs=1e-6)
    assert max(map(len, whole)) > 1


class OfTwo(FlipsHF):
    """flips-hf as the second of two processes."""

    rank = 1


def test_every_process_has_a_folder_and_they_are_read_together(
    tiny_model: Path, perturbed_model: Path, recorded: Recorded, tmp_path: Path
) -> None:
    """Two processes record half of the requests each; a third finds all of them."""
    base, run = str(tmp_path / "base"), str(tmp_path / "run")
    halves = (MEASURED[::2], MEASURED[1::2])
    for kind, half in zip((FlipsHF, OfTwo), halves, strict=True):
        score(kind(**arguments_of(tiny_model, record=base)), half)
    assert (tmp_path / "base" / "reference" / "rank-1" / "manifest.json").exists()
    for kind, half in zip((FlipsHF, OfTwo), halves[::-1], strict=True):
        score(kind(**arguments_of(perturbed_model, reference=base, distances=run)), half)
    stored = load_distances(tmp_path / "run" / "token_distances")
    assert stored is not None
    places = stored.find(keys(MEASURED))
    assert (places >= 0).all()
    for place, own in zip(places, recorded.values("tiny", "perturbed", "kl"), strict=True):
        found = stored.values["kl"][stored.starts[place] : stored.starts[place + 1]]
        torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)


def test_nothing_is_said_of_a_model_that_is_packed(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Control of the warnings: there is none where nothing is to be told."""
    with caplog.at_level(logging.WARNING):
        score(ours(tiny_model), CASES["all of these"])
    own = (flips_model.__name__, scored_lm.__name__)
    assert not [record for record in caplog.records if record.name in own]
