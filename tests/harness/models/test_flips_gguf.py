"""flips-gguf against lm_eval's own `hf` on the same weights: the same answers, from llama.cpp."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf.constants import GGMLQuantizationType as Type
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM

from lm_eval_flips.errors import HarnessError
from lm_eval_flips.harness.models.flips_gguf import FlipsGGUF
from lm_eval_flips.harness.models.flips_hf import FlipsHF
from lm_eval_flips.scoring.llama_cpp.library import LogCallback, library
from tests.generators.gguf_files import write_gguf
from tests.harness.models.test_flips_hf import CASES, NEAR, STORY, arguments_of, ask

EXACT: dict[str, Any] = {"cache_type": "f32", "flash_attention": "off", "device": "cpu"}
TEXTS = [("amber birch cedar",), (STORY * 3,), ("ünï — 東",), ("",)]


@pytest.fixture(scope="module")
def tiny_file(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in float32, as a GGUF file."""
    return write_gguf(tiny_model, tmp_path_factory.mktemp("gguf") / "tiny-F32.gguf")


@pytest.fixture(scope="module")
def stock(tiny_model: Path) -> Any:
    """The harness's own model, in float32."""
    return HFLM(str(tiny_model), dtype="float32", device="cpu", batch_size=4, logits_cache=False)


@pytest.fixture(scope="module")
def ours(tiny_file: Path) -> FlipsGGUF:
    """The same weights by llama.cpp, in float32."""
    return FlipsGGUF(str(tiny_file), batch_size=4, **EXACT)


@pytest.mark.parametrize("case", CASES)
def test_log_likelihoods_are_those_of_hf(case: str, ours: FlipsGGUF, stock: Any) -> None:
    """Oracle: transformers in float32, one padded row a request."""
    expected = stock.loglikelihood(ask(CASES[case]), disable_tqdm=True)
    found = ours.loglikelihood(ask(CASES[case]), disable_tqdm=True)
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=NEAR)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_another_model_has_other_log_likelihoods(
    perturbed_model: Path, ours: FlipsGGUF, tmp_path: Path
) -> None:
    """Control: what holds the two engines together tells models apart."""
    file = write_gguf(perturbed_model, tmp_path / "perturbed.gguf")
    asked = ask(CASES["choices share a context"])
    other = FlipsGGUF(str(file), **EXACT).loglikelihood(asked, disable_tqdm=True)
    same = ours.loglikelihood(asked, disable_tqdm=True)
    assert max(abs(a - b) for (a, _), (b, _) in zip(other, same, strict=True)) > 0.1


def test_texts_are_scored_window_by_window(ours: FlipsGGUF, stock: Any) -> None:
    """Oracle: the harness's own windows; the second text is longer than the model reads."""
    assert len(ours.tok_encode(TEXTS[1][0])) > ours.max_length
    asked = ask(TEXTS, "loglikelihood_rolling")
    expected = stock.loglikelihood_rolling(asked, disable_tqdm=True)
    assert ours.loglikelihood_rolling(asked, disable_tqdm=True) == pytest.approx(expected, abs=1e-2)
    short = [0, 2, 3]
    found = ours.loglikelihood_rolling([asked[place] for place in short], disable_tqdm=True)
    assert found == pytest.approx([expected[place] for place in short], abs=NEAR)


@pytest.mark.parametrize("stops", [["l"], ["zzz"], [" "], ["\n\n", "e"]])
def test_texts_are_those_of_hf(stops: list[str], ours: FlipsGGUF, stock: Any) -> None:
    """Oracle: transformers' own greedy search, with the same stop strings."""
    settings = {"until": stops, "max_gen_toks": 24, "do_sample": False}
    pairs: Any = [(context, settings) for context in ("amber birch", STORY[:90], "x", STORY[:33])]
    expected = stock.generate_until(ask(pairs), disable_tqdm=True)
    assert ours.generate_until(ask(pairs), disable_tqdm=True) == expected


def test_a_drawn_text_differs_and_a_cold_one_does_not(ours: FlipsGGUF) -> None:
    """Control: sampling is done where it is asked for; as good as greedy at a low temperature."""

    def texts(**settings: Any) -> list[str]:
        pairs: Any = [(STORY[:60], {"until": ["zzz"], "max_gen_toks": 24, **settings})]
        return ours.generate_until(ask(pairs), disable_tqdm=True)

    greedy = texts(do_sample=False)
    assert texts(do_sample=True, temperature=1e-4) == greedy
    assert texts(do_sample=True, top_k=1) == greedy
    assert texts(do_sample=True, temperature=5.0) != greedy


def test_the_chat_template_is_the_files(ours: FlipsGGUF, stock: Any) -> None:
    """Oracle: transformers' rendering of the same template."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert ours.apply_chat_template(messages) == stock.apply_chat_template(messages)
    assert ours.chat_template(True) == stock.chat_template(True)


def test_a_template_that_fails_is_named(tiny_model: Path, tmp_path: Path) -> None:
    """The way out is to go without."""
    bad = "{{ raise_exception('only user') }}"
    file = write_gguf(tiny_model, tmp_path / "bad.gguf", tokenizer__chat_template=bad)
    with pytest.raises(HarnessError, match="chat template of .* fails: only user"):
        FlipsGGUF(str(file), **EXACT).apply_chat_template([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    "batches", [{"pack_tokens": 1}, {"pack_tokens": 40}, {"pack_tokens": 5000}, {"n_ubatch": 16}]
)
def test_how_requests_are_packed_changes_nothing(
    batches: Any, ours: FlipsGGUF, tiny_file: Path
) -> None:
    """Identity: in float32 the batches do not show."""
    asked = ask(CASES["all of these"])
    other = FlipsGGUF(str(tiny_file), **batches, **EXACT)
    found = other.loglikelihood(asked, disable_tqdm=True)
    expected = ours.loglikelihood(asked, disable_tqdm=True)
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=NEAR)


def test_what_is_logged_says_which_file_and_engine(tiny_model: Path, tmp_path: Path) -> None:
    """The results JSON tells which file was judged by what."""
    file = write_gguf(tiny_model, tmp_path / "tiny-Q8_0.gguf", Type.Q8_0)
    info = FlipsGGUF(str(file)).get_model_info()
    assert info["model_file_type"] == "Q8_0"
    assert info["model_architecture"] == "llama"
    assert info["scoring"] == "packed"
    assert "llama" in info["llama_cpp"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no file": ({"gguf": "nowhere.gguf"}, "'nowhere.gguf' is no file"),
    "unknown cache": ({"cache_type": "f8"}, "cache_type=f8 is none of f32, f16, q8_0, bf16"),
    "unknown attention": ({"flash_attention": "yes"}, "flash_attention=yes is none of"),
    "no threads": ({"n_threads": -1}, "n_threads=-1 is no positive number"),
    "distances alone": ({"distances": "x"}, "distances=x needs reference=RUN"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case: str, tiny_file: Path) -> None:
    """What, which and the way out, in one line."""
    given, message = BAD[case]
    with pytest.raises(HarnessError, match=message):
        FlipsGGUF(**{"gguf": str(tiny_file), **given})


def test_broken_files_are_named(tiny_file: Path, tmp_path: Path) -> None:
    """What llama.cpp would not say, or say by ending the process."""
    whole = tiny_file.read_bytes()
    broken = {
        "text.gguf": (b"{}" * 50, "is no GGUF file"),
        "empty.gguf": (b"", "is no GGUF file"),
        "newer.gguf": (b"GGUF\x09\0\0\0" + whole[8:], "is of version 9 of the GGUF format"),
        "cut.gguf": (whole[: len(whole) // 2], "cannot load .*not within the file bounds"),
        "a-00001-of-00002.gguf": (whole, "one of 2 parts, of which a-00002-of-00002.gguf is"),
    }
    for name, (content, message) in broken.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(HarnessError, match=message):
            FlipsGGUF(str(file), **EXACT)


def test_what_is_no_causal_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """As the models that make embeddings are."""
    file = write_gguf(tiny_model, tmp_path / "both.gguf", llama__attention__causal=False)
    with pytest.raises(HarnessError, match=r"\(llama\) is no causal language model"):
        FlipsGGUF(str(file), **EXACT)


def test_prompts_that_leave_no_room_are_refused(ours: FlipsGGUF) -> None:
    """As the harness does for hf."""
    pairs: Any = [("x", {"until": ["y"], "max_gen_toks": 512})]
    with pytest.raises(HarnessError, match="max_gen_toks=512 leaves no room for a prompt"):
        ours.generate_until(ask(pairs), disable_tqdm=True)


def kl_by_transformers(baseline: Path, compressed: Path, ids: list[int], scored: int) -> float:
    """Mean KL(baseline || compressed) where the last ``scored`` tokens are predicted, in float64."""
    logprobs = []
    for folder in (baseline, compressed):
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        with torch.no_grad():
            logits = model(torch.tensor([ids[:-1]])).logits[0, -scored:]
        logprobs.append(logits.double().log_softmax(-1))
    p, q = logprobs
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("engine", ["transformers", "F32", "F16", "BF16"])
def test_distances_are_those_of_transformers(
    engine: str, tiny_model: Path, perturbed_model: Path, tmp_path: Path
) -> None:
    """Oracle: both models' distributions by transformers; the baseline recorded by either engine."""
    asked = ask(CASES["choices share a context"])
    run = str(tmp_path / "baseline")
    if engine == "transformers":
        FlipsHF(**arguments_of(tiny_model, record=run)).loglikelihood(asked, disable_tqdm=True)
    else:
        kind = Type[engine]
        file = write_gguf(tiny_model, tmp_path / "baseline.gguf", kind)
        FlipsGGUF(str(file), record=run, **EXACT).loglikelihood(asked, disable_tqdm=True)
    file = write_gguf(perturbed_model, tmp_path / "compressed.gguf")
    model = FlipsGGUF(str(file), reference=run, distances=str(tmp_path / "out"), **EXACT)
    answers: Any = model.loglikelihood(asked, disable_tqdm=True)
    # weights of 16 bits are other weights, which is no error of the distance
    near = {"F16": 3e-3, "BF16": 2e-2}.get(engine, 1e-5)
    for (context, continuation), answer in zip(
        CASES["choices share a context"], answers, strict=True
    ):
        ids, scored = model.tok_encode(context + continuation), len(model.tok_encode(continuation))
        expected = kl_by_transformers(tiny_model, perturbed_model, ids, scored)
        assert expected > 0.01
        assert answer.token_kl == pytest.approx(expected, rel=near)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_a_model_has_no_distance_from_itself(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    """Identity: states and output layer of a file make llama.cpp's own logits again."""
    asked = ask(CASES["all of these"])
    run, top = str(tmp_path / "baseline"), 259 if kind == "Q8_0" else None
    file = str(write_gguf(tiny_model, tmp_path / "tiny.gguf", Type[kind]))
    first = FlipsGGUF(file, record=run, top=top, **EXACT).loglikelihood(asked, disable_tqdm=True)
    again: Any = FlipsGGUF(file, reference=run, **EXACT).loglikelihood(asked, disable_tqdm=True)
    assert [tuple(answer) for answer in again] == first
    assert max(answer.token_kl for answer in again) < 1e-7


def test_states_of_a_quantised_output_layer_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    """llama.cpp rounds states to 8 bits there; the way out is named."""
    file = write_gguf(tiny_model, tmp_path / "tiny.gguf", Type.Q8_0)
    with pytest.raises(HarnessError, match=r"output layer is quantised \(Q8_0\); give top=100"):
        FlipsGGUF(str(file), record=str(tmp_path / "run"), **EXACT)


def test_other_vocabularies_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Tokens of another vocabulary are other tokens, whatever their ids."""
    run = str(tmp_path / "baseline")
    asked = ask(CASES["one request"])
    FlipsHF(**arguments_of(tiny_model, record=run)).loglikelihood(asked, disable_tqdm=True)
    file = write_gguf(with_merges(tiny_model, tmp_path / "other", []), tmp_path / "other.gguf")
    with pytest.raises(HarnessError, match="has another tokenizer than the baseline"):
        FlipsGGUF(str(file), reference=run, **EXACT)


def test_requests_that_are_split_otherwise_are_named(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same vocabulary, but "el" is one token to the file: warned of, then refused by name."""
    run = str(tmp_path / "baseline")
    folder = with_merges(tiny_model, tmp_path / "merging", [("e", "l")])
    plain = with_merges(tiny_model, tmp_path / "plain", [])
    asked = ask([("amber", " birch"), ("amber", " elder")])
    FlipsHF(**arguments_of(plain, record=run)).loglikelihood(asked, disable_tqdm=True)
    file = write_gguf(folder, tmp_path / "merging.gguf")
    model = FlipsGGUF(str(file), reference=run, **EXACT)
    assert "splits some texts into other tokens than the baseline" in caplog.text
    assert model.loglikelihood(asked[:1], disable_tqdm=True)
    with pytest.raises(HarnessError, match=r"1 of the 2 requests \(trees doc 1\).*two prompts"):
        model.loglikelihood(asked, disable_tqdm=True)


def with_merges(source: Path, target: Path, merges: list[tuple[str, str]]) -> Path:
    """A copy of a model whose tokenizer also knows "el", and makes it by these merges or never."""
    shutil.copytree(source, target)
    saved = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = saved["model"]["vocab"]
    unused = next(piece for piece, index in vocabulary.items() if index == 258)
    saved["model"]["vocab"] = {p if p != unused else "el": i for p, i in vocabulary.items()}
    saved["model"]["merges"] = merges
    (target / "tokenizer.json").write_text(json.dumps(saved), encoding="utf-8")
    return target


def test_complaints_are_heard_though_somebody_else_listened(
    tiny_file: Path, tmp_path: Path
) -> None:
    """A process has one listener; a server of llama.cpp that was started in it takes its place."""
    llama = library()
    other = LogCallback(lambda *_: None)
    llama.llama_log_set(other, None)
    file = tmp_path / "cut.gguf"
    file.write_bytes(tiny_file.read_bytes()[:20_000])
    with pytest.raises(HarnessError, match=r"cannot load .*not within the file bounds"):
        FlipsGGUF(str(file), **EXACT)
