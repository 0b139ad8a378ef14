"""flips-vllm against lm_eval's own `vllm` and `hf` on the same weights.

Skipped without vLLM: ``bash tests/run.sh vllm`` makes an environment with its build for CPUs.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed; bash tests/run.sh vllm")

from lm_eval.models.huggingface import HFLM

from lm_eval_flips.errors import HarnessError
from lm_eval_flips.harness.measured_answer import MeasuredAnswer
from lm_eval_flips.harness.models.flips_vllm import FlipsVLLM
from lm_eval_flips.harness.models.stock_vllm import VLLM
from lm_eval_flips.logs.runs import DISTANCES
from lm_eval_flips.scoring.token_distances import load_distances
from lm_eval_flips.scoring.vllm import cache_check
from tests import conftest
from tests.e2e.conftest import run
from tests.harness.models.test_flips_hf import CASES, STORY, Pairs, ask, roll, score

NEAR = 1e-3  # nats, float32
LONGEST = 512
MANY = 3_000_000  # tokens, whose keys and values do not fit into the GiB that run.sh gives
# in this process, without compiling; a block of the prefix cache holds 32 tokens
SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": LONGEST,
    "block_size": 32,
    "batch_size": "auto",
}
TOP = 12
MEASURED = [*CASES["choices share a context"], *CASES["one-token continuations"]]
TEXTS = ["amber birch cedar", STORY * 3, "ünï — 東"]


def tiny(seed: int) -> Any:
    """A random two-layer Llama with heads as wide as vLLM takes them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=LONGEST,
            initializer_range=0.2,
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    return model.eval()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and the same with noise on its weights."""
    models = tmp_path_factory.mktemp("models")
    model = tiny(0)
    paths = models / "tiny", models / "perturbed"
    model.save_pretrained(paths[0])
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * weight.std() * torch.randn(weight.shape) if weight.ndim > 1 else 0)
    model.save_pretrained(paths[1])
    for path in paths:
        conftest._tokenizer().save_pretrained(path)
    return paths


@pytest.fixture(scope="module")
def ours(folders: tuple[Path, Path]) -> FlipsVLLM:
    """The model under test."""
    return FlipsVLLM(str(folders[0]), **SETTINGS)


@pytest.fixture(scope="module")
def stock(folders: tuple[Path, Path]) -> Any:
    """The harness's own `vllm`."""
    return VLLM(str(folders[0]), **SETTINGS)


@pytest.fixture(scope="module")
def hf(folders: tuple[Path, Path]) -> Any:
    """The harness's own `hf`."""
    given = {"dtype": "float32", "device": "cpu", "batch_size": 4, "logits_cache": False}
    return HFLM(str(folders[0]), **given)


def likely(hf: Any) -> Pairs:
    """Contexts and what the model itself says behind them, and each with another end."""
    contexts = [STORY[:size] for size in (3, 40, 77, 133)]
    settings = {"until": ["zzz"], "max_gen_toks": 3, "do_sample": False}
    asked = ask([(context, settings) for context in contexts], "generate_until")  # type: ignore[misc]
    said = hf.generate_until(asked, disable_tqdm=True)
    pairs = zip(contexts, said, strict=True)
    return [(context, end) for context, own in pairs for end in (own, own[:1], own + "x", "x")]


@pytest.mark.parametrize("case", CASES)
def test_log_likelihoods_are_those_of_hf(case: str, ours: FlipsVLLM, hf: Any) -> None:
    """Oracle: transformers in float32, one padded row a request."""
    expected, found = score(hf, CASES[case]), score(ours, CASES[case])
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=NEAR)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_log_likelihoods_are_those_of_vllm(ours: FlipsVLLM, stock: Any) -> None:
    """Oracle: the harness's own use of the same engine."""
    expected, found = score(stock, CASES["all of these"]), score(ours, CASES["all of these"])
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=NEAR)


def test_what_is_greedy_is_that_of_hf(ours: FlipsVLLM, hf: Any) -> None:
    """A continuation that is the model's own is said to be, another is not."""
    pairs = likely(hf)
    found = [greedy for _, greedy in score(ours, pairs)]
    assert found == [greedy for _, greedy in score(hf, pairs)]
    assert any(found)
    assert not all(found)


def test_another_model_has_other_log_likelihoods(
    folders: tuple[Path, Path], ours: FlipsVLLM
) -> None:
    """Control: what holds the engines together tells models apart."""
    pairs = CASES["choices share a context"]
    other = score(FlipsVLLM(str(folders[1]), **SETTINGS), pairs)
    off = [abs(a - b) for (a, _), (b, _) in zip(other, score(ours, pairs), strict=True)]
    assert min(off) > NEAR


def examples(count: int) -> Pairs:
    """Questions behind the same long examples, with lettered choices."""
    return [
        (f"{STORY}\nQuestion {number}: which?\nAnswer:", f" {letter}")
        for number in range(count)
        for letter in "ABCD"
    ]


def test_what_requests_share_is_computed_once(ours: FlipsVLLM, stock: Any) -> None:
    """The examples stand in the prefix cache; the harness's own way computes them every time."""
    pairs = examples(30)
    before = ours.get_model_info()["prompt_tokens"]
    expected, found = score(stock, pairs), score(ours, pairs)
    after = ours.get_model_info()["prompt_tokens"]
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=NEAR)
    computed = (after["asked"] - before["asked"]) - (after["cached"] - before["cached"])
    whole = sum(len(ours.tok_encode(context)) + 2 for context, _ in pairs)
    assert computed < whole / 15


def test_what_was_tried_of_the_cache_is_logged(ours: FlipsVLLM) -> None:
    """The verdict of the trial stands in the results, as do the tokens that were spared."""
    score(ours, examples(2))
    info = ours.get_model_info()
    assert info["scoring"] == "prefix cache"
    assert info["cache_check"]["positions"] > 0
    assert info["cache_check"]["nats_from_uncached"] < NEAR


def test_a_cache_that_gives_other_scores_is_not_read(
    folders: tuple[Path, Path], ours: FlipsVLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing may differ at all, the answers are found without the cache, and it is said."""
    monkeypatch.setitem(cache_check.ROUNDING, "float32", -1.0)
    other = FlipsVLLM(str(folders[0]), **SETTINGS)
    expected, found = score(ours, examples(3)), score(other, examples(3))
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=NEAR)
    assert (
        "its prefix cache gives log-probabilities that are off" in other.get_model_info()["scoring"]
    )
    read = other.get_model_info()["prompt_tokens"]["cached"]
    score(other, examples(4))
    assert other.get_model_info()["prompt_tokens"]["cached"] == read


def test_without_a_cache_the_answers_are_the_same(
    folders: tuple[Path, Path], ours: FlipsVLLM
) -> None:
    """Identity; and it is said that there is none."""
    other = FlipsVLLM(str(folders[0]), enable_prefix_caching=False, **SETTINGS)
    pairs = [*CASES["all of these"], *examples(2)]
    expected, found = score(ours, pairs), score(other, pairs)
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=NEAR)
    info = other.get_model_info()
    assert info["scoring"] == "its prefix cache is off"
    assert info["prompt_tokens"]["cached"] == 0


def test_long_requests_are_cut_as_vllm_cuts_them(
    ours: FlipsVLLM, stock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """From the left, to a token less than the model reads; and it is said how many."""
    long = STORY * 3
    pairs = [(long[:size], " amber") for size in (505, 506, 507, 600)]
    with caplog.at_level(logging.WARNING):
        found = score(ours, pairs)
    assert "of 4 requests are longer than max_model_len=512" in caplog.text
    expected = score(stock, pairs)
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=NEAR)


def test_whole_texts_are_those_of_vllm(ours: FlipsVLLM, stock: Any) -> None:
    """Windows and all: the second text is longer than the model reads."""
    assert roll(ours, *TEXTS) == pytest.approx(roll(stock, *TEXTS), abs=NEAR)


def test_texts_are_those_of_vllm(ours: FlipsVLLM, stock: Any) -> None:
    """generate_until is the harness's own."""
    settings = {"until": ["\n", "e"], "max_gen_toks": 12, "do_sample": False}
    pairs: Any = [(context, settings) for context in ("amber birch", STORY[:90], STORY[:33])]
    found = ours.generate_until(ask(pairs, "generate_until"), disable_tqdm=True)
    assert found == stock.generate_until(ask(pairs, "generate_until"), disable_tqdm=True)
    assert any(found)


def test_the_chat_template_is_that_of_vllm(ours: FlipsVLLM, stock: Any) -> None:
    """The harness's own rendering."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert ours.apply_chat_template(messages) == stock.apply_chat_template(messages)


@pytest.fixture(scope="module")
def recorded(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the baseline, whose likeliest tokens are recorded."""
    run = tmp_path_factory.mktemp("runs") / "baseline"
    model = FlipsVLLM(str(folders[0]), record=str(run), top=TOP, **SETTINGS)
    score(model, MEASURED)
    return run


def measured(folder: Path, recorded: Path, run: Path) -> tuple[list[MeasuredAnswer], Any]:
    """Answers of a model that is measured against the recorded baseline, and its distances."""
    given: dict[str, Any] = {"reference": str(recorded), "distances": str(run)}
    answers: Any = score(FlipsVLLM(str(folder), **given, **SETTINGS), MEASURED)
    return answers, load_distances(run / DISTANCES)


def bounds(folders: tuple[Path, Path]) -> list[float]:
    """Oracle: mean KL over the baseline's likeliest tokens and one bin, by transformers."""
    from transformers import AutoModelForCausalLM

    models: list[Any] = [AutoModelForCausalLM.from_pretrained(own) for own in folders]
    tokenizer = conftest._tokenizer()
    found = []
    for context, continuation in MEASURED:
        prompt = tokenizer.encode(context, add_special_tokens=False)
        ids = prompt + tokenizer.encode(continuation, add_special_tokens=False)
        with torch.no_grad():
            logits = [
                model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1] for model in models
            ]
        p, q = (own.double().softmax(-1) for own in logits)
        top = p.topk(TOP).indices
        bins = [
            torch.cat([x.gather(-1, top), 1 - x.gather(-1, top).sum(-1, True)], -1) for x in (p, q)
        ]
        found.append(float((bins[0] * (bins[0] / bins[1]).log()).sum(-1).mean()))
    return found


def test_distances_are_lower_bounds_of_transformers_own(
    folders: tuple[Path, Path], recorded: Path, tmp_path: Path
) -> None:
    """Oracle: the same bins made of all logits; and the files say that they are bounds."""
    answers, distances = measured(folders[1], recorded, tmp_path / "compressed")
    expected = bounds(folders)
    assert [one.token_kl for one in answers] == pytest.approx(expected, abs=1e-4, rel=1e-2)
    assert min(expected) > 1e-3
    assert distances.header.top == TOP


def test_a_model_is_at_no_distance_from_itself(
    folders: tuple[Path, Path], recorded: Path, tmp_path: Path
) -> None:
    """Identity; its answers are those that were recorded."""
    answers, _ = measured(folders[0], recorded, tmp_path / "again")
    assert max(abs(one.token_kl) for one in answers) < 1e-6


def test_a_reference_of_hidden_states_is_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """VLLM cannot be held against all logits; the way out is named."""
    from lm_eval_flips.harness.models.flips_hf import FlipsHF

    run = tmp_path / "baseline"
    score(FlipsHF(str(folders[0]), record=str(run), dtype="float32", device="cpu"), MEASURED)
    with pytest.raises(HarnessError, match="holds hidden states, which vLLM does not give"):
        FlipsVLLM(str(folders[0]), reference=str(run), **SETTINGS)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no hidden states": ({"record": "x"}, "record=x needs top=100: vLLM gives"),
    "too few tokens": (
        {"record": "x", "top": 50, "max_logprobs": 20},
        "max_logprobs=20 is less than top=50: set max_logprobs=50",
    ),
    "a length twice": ({"max_length": 99}, "max_length and max_model_len are the same"),
    "distances alone": ({"distances": "x"}, "distances=x needs reference=RUN"),
    "no model": ({"pretrained": "nowhere/none"}, "vLLM cannot load 'nowhere/none': "),
    "logits": ({"logprobs_mode": "raw_logits"}, "logprobs_mode=raw_logits gives no log-prob"),
    "no memory": (
        {"max_model_len": MANY, "hf_overrides": {"max_position_embeddings": MANY}},
        "vLLM cannot load .*; where memory ran out, set max_model_len=",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case: str, folders: tuple[Path, Path]) -> None:
    """What, which and the way out, in one line."""
    given, message = BAD[case]
    with pytest.raises(HarnessError, match=message) as raised:
        FlipsVLLM(**{"pretrained": str(folders[0]), **SETTINGS, **given})
    assert "\n" not in str(raised.value)


def test_run_compares_two_models_with_a_noise_floor(
    folders: tuple[Path, Path], task_folder_local: Path, tmp_path: Path
) -> None:
    """One command: choices with lower bounds of token KL, texts and whole texts as by `vllm`."""
    given = ",".join(f"{name}={value}" for name, value in SETTINGS.items() if name != "batch_size")
    command = [
        *(sys.executable, "-m", "lm_eval_flips", "run", "--model", "flips-vllm"),
        *("--baseline", f"pretrained={folders[0]},{given}", "--noise-floor"),
        *("--compressed", f"pretrained={folders[1]},{given}", "--top", str(TOP)),
        *("--tasks", "tiny_choice,tiny_generate,tiny_rolling", "--batch_size", "8"),
        *("--include_path", str(task_folder_local), "--output_path", str(tmp_path / "runs")),
    ]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stdout
    (found,) = json.loads((tmp_path / "runs" / "comparison.json").read_text())["compressed"]
    rows = {row["task"]: row for row in found["tasks"]}
    assert rows["tiny_choice"]["token_kl"] > 0
    assert rows["tiny_choice"]["token_lower_bound_top"] == TOP
    assert rows["tiny_rolling"]["token_kl"] is None
    for name in ("baseline", "noise-floor", "perturbed"):
        (results,) = (tmp_path / "runs" / name).rglob("results_*.json")
        assert json.loads(results.read_text())["config"]["scoring"] == "prefix cache"
