"""A tiny model, a perturbed copy, local tasks of every kind, and stock lm_eval runs of both.

All of it is built from seeds, offline: nothing is downloaded and nothing of ours takes part in the
runs.
"""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from tests.generators.devices import DEVICES
from tests.preloaded import preloaded_environment
from tests.short_catalogue import short_catalogue

# Session fixtures that evaluate models, the longest first, and those of minutes, made by one worker.
EXPENSIVE = ("quickstart", "local_runs")
MADE_ONCE = ("quickstart",)
# Where the shapes of tensors are the matter; checking them makes Python four times slower.
SHAPED = tuple(
    f"tests/{room}/" for room in ("measures", "pairs", "uncertainty", "scoring", "comparison")
)
# One run command for all of these; the group brings its leaves.
LOCAL_TASKS = ("tiny_outer", "tiny_tag", "tiny_cloze", "tiny_rolling")
CHOICES = ("tiny_choice", "tiny_inputs", "tiny_mutual")  # the leaves of tiny_outer
GENERATED = ("tiny_generate", "tiny_repeats")  # the leaves of tiny_tag
LEAVES = (*CHOICES, *GENERATED, "tiny_cloze", "tiny_rolling")
WORDS = (
    "amber birch cedar daisy elder fern ginger hazel iris juniper kale lotus maple olive".split()
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a person may ask more of than every run can afford."""
    parser.addoption("--kills", type=int, default=2, help="how often each verb is killed")


def pytest_report_header() -> str:
    """Say what is not collected: the CUDA cases, where there is no such device."""
    return f"devices: {', '.join(DEVICES)}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `-n 2 --dist loadgroup`: what shares a fixture of minutes stays in one worker, and begins.

    Every other file is a group of its own, so that its module's fixtures are made once; those whose
    models are evaluated go before, and other long ones before the rest. Short ones of the rooms that
    compute are marked: they are run with the shapes of tensors checked.
    """

    def group(item: pytest.Item) -> tuple[int, str]:
        names = getattr(item, "fixturenames", ())
        for place, expensive in enumerate(EXPENSIVE):
            if expensive in names:
                alone = expensive in MADE_ONCE
                return place, expensive if alone else item.nodeid.split("::")[0]
        long = any(item.get_closest_marker(marker) for marker in ("e2e", "simulation"))
        return len(EXPENSIVE) + (not long), item.nodeid.split("::")[0]

    groups = {item: group(item) for item in items}
    items.sort(key=lambda item: groups[item][0])  # stable: the order of files stays
    for item in items:
        place, name = groups[item]
        item.add_marker(pytest.mark.xdist_group(name))
        if place < len(EXPENSIVE):
            item.add_marker(pytest.mark.evaluates)
        elif place > len(EXPENSIVE) and item.nodeid.startswith(SHAPED):
            item.add_marker(pytest.mark.shapes)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Every device that tensors may lie on."""
    return str(request.param)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of random numbers."""
    return torch.Generator().manual_seed(20240713)


class LocalRuns(NamedTuple):
    """Output folders of the stock `lm_eval run`, one model each, all of ``LOCAL_TASKS``."""

    baseline: Path
    compressed: Path


def harness_environment(folder: Path, *, preloaded: bool = True) -> dict[str, str]:
    """The environment for a subprocess that runs lm_eval offline and keeps its caches in a folder.

    Its lm_eval has few of its own tasks, and is imported already, so that it starts in no time.

    Args:
        folder: where it keeps data sets.
        preloaded: False for what has to be a process of its own from its start, as one that is
            killed, or whose imports are looked at.
    """
    found = [str(short_catalogue()), *filter(None, [os.environ.get("PYTHONPATH")])]
    path = os.pathsep.join(found)
    own = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
    }
    server = preloaded_environment(path, **own) if preloaded else {"PYTHONPATH": path}
    return {**os.environ, **own, **server, "HF_DATASETS_CACHE": str(folder / "datasets")}


def run_command(model: Path, tasks: Path, output: Path) -> list[str]:
    """The stock command line that logs the samples of all local tasks for one model."""
    return [
        *(sys.executable, "-m", "lm_eval", "run"),
        *("--model", "hf"),
        *("--model_args", f"pretrained={model},dtype=float32,softmax_dtype=float32"),
        *("--include_path", str(tasks)),
        *("--tasks", ",".join(LOCAL_TASKS)),
        *("--device", "cpu"),
        *("--batch_size", "8"),
        *("--output_path", str(output)),
        "--log_samples",
    ]


def finished(commands: list[list[str]], folder: Path) -> Iterator[str]:
    """Run commands at the same time; yield what each printed, in order.

    Raises:
        RuntimeError: a command failed; with all it printed.
    """
    started = [
        subprocess.Popen(
            command,
            env=harness_environment(folder),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    for process in started:
        printed, _ = process.communicate(timeout=300)
        if process.returncode:
            raise RuntimeError(f"{process.args!r} exited with {process.returncode}:\n{printed}")
        yield printed


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random, seeded two-layer Llama with a byte tokenizer, for lm_eval's `hf`."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    _tokenizer().save_pretrained(folder)
    _model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def perturbed_model(tiny_model: Path) -> Path:
    """Folder of the same model with noise on its weights, so that some of its answers differ."""
    folder = tiny_model.with_name("perturbed")
    generator = torch.Generator().manual_seed(1)
    model = _model()
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(0.25 * weight.std() * noise if weight.ndim > 1 else 0)
    _tokenizer().save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def task_folder_local(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of task YAMLs and their JSONL data, for lm_eval's --include_path.

    Some right answers are what the tiny model says itself, so that greedy metrics are not all 0.
    """
    folder = tmp_path_factory.mktemp("tasks")
    said = _sayings(tiny_model)
    documents: dict[str, list[dict[str, Any]]] = {
        "choice": _choice_documents(),
        "inputs": _input_documents(),
        "mutual": _choice_documents()[2:14],
        "cloze": _cloze_documents(said),
        "generate": _generate_documents(said),
        "rolling": [{"text": f"{' '.join(WORDS[i : i + 5])} — ünï {i}.\n"} for i in range(6)],
    }
    for name, docs in documents.items():
        lines = "".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    for name, config in _task_configs(folder).items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


@pytest.fixture(scope="session")
def local_runs(
    tiny_model: Path,
    perturbed_model: Path,
    task_folder_local: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> LocalRuns:
    """Real output folders of the stock `lm_eval run --log_samples` for the two models."""
    folder = tmp_path_factory.mktemp("runs")
    runs = LocalRuns(folder / "baseline", folder / "compressed")
    models = (tiny_model, perturbed_model)
    commands = [
        run_command(model, task_folder_local, output)
        for model, output in zip(models, runs, strict=True)
    ]
    for printed in finished(commands, folder):
        assert "tiny_outer" in printed, printed
    return runs


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>"]
    pieces = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    return tokenizer


def _model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            initializer_range=0.2,
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    torch.random.set_rng_state(state)
    return model.eval()  # type: ignore[no-untyped-call]


def _sayings(folder: Path) -> list[tuple[str, str]]:
    """Contexts and the model's greedy continuation of each, where that begins with a letter."""
    tokenizer, model = _tokenizer(), _model()
    found = []
    for i in range(200):
        context = f"{WORDS[i % 14]} {WORDS[i * i % 13]} {i}:"
        ids = tokenizer(context, return_tensors="pt").input_ids
        with torch.no_grad():
            made = model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
        text = tokenizer.decode(made)
        if text and text[0] in string.ascii_letters:
            found.append((context, text))
    return found


def _choice_documents() -> list[dict[str, Any]]:
    """Twenty questions with two to five choices; the last is a duplicate of the fifth.

    Every other question has choices of one length, which a byte model can prefer for more than their
    length; the rest have one to three words each, some of them longer in bytes than in characters.
    """
    short = [word for word in WORDS if len(word) == 5]
    documents = []
    for i in range(19):
        if i % 2 == 0:
            choices = [short[(i + k) % len(short)] for k in range(2 + i % 4)]
        else:
            choices = [
                " ".join(WORDS[(i * 3 + 5 * k + j) % len(WORDS)] for j in range(1 + (i + k) % 3))
                for k in range(2 + i % 4)
            ]
        if i % 3 == 0:
            choices[0] = f"{choices[0][:-2]}ü東"
        label = i % 7 % len(choices)
        documents.append(
            {"question": f"Which tree has {i} leaves?", "choices": choices, "label": label}
        )
    return [*documents, documents[4]]


def _input_documents() -> list[dict[str, Any]]:
    """As winogrande: the choices are two contexts, the continuation is the same."""
    return [
        {
            "contexts": [
                f"The {WORDS[i]} saw the {WORDS[i + 1]}; the {WORDS[i + k]}" for k in (0, 1)
            ],
            "ending": f"was {'very ' * (i % 3)}tall.",
            "label": i % 2,
        }
        for i in range(12)
    ]


def _cloze_documents(said: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Half the targets are the tiny model's own next letter, half another."""
    return [
        {"text": context, "target": text[0] if i % 2 else "~"}
        for i, (context, text) in enumerate(said[:12])
    ]


def _generate_documents(said: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Half the targets are the first letter that the tiny model says itself, half another."""
    return [
        {"text": context, "target": text[0] if i % 2 else "zz"}
        for i, (context, text) in enumerate(said[:10])
    ]


def _task_configs(folder: Path) -> dict[str, dict[str, Any]]:
    def task(
        name: str, data: str, kind: str, metrics: Iterable[str], **more: Any
    ) -> dict[str, Any]:
        return {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{data}.jsonl")}},
            "test_split": "test",
            "output_type": kind,
            "metric_list": [{"metric": metric} for metric in metrics],
            "metadata": {"version": 1.0},
            **more,
        }

    def group(name: str, members: list[str]) -> dict[str, Any]:
        return {
            "group": name,
            "task": members,
            "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
            "metadata": {"version": 1.0},
        }

    question = {
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
    }
    generated = {"doc_to_text": "text", "doc_to_target": "target", "tag": "tiny_tag"}
    first = {"function": "regex", "regex_pattern": "([a-zA-Z])"}
    last = {**first, "group_select": -1}
    take = {"function": "take_first"}
    greedy = {"until": ["\n\n"], "max_gen_toks": 6, "do_sample": False}
    exact = ["exact_match"]
    return {
        "tiny_choice": task(
            "tiny_choice", "choice", "multiple_choice", ["acc", "acc_norm", "acc_bytes"], **question
        ),
        "tiny_mutual": task(
            "tiny_mutual", "mutual", "multiple_choice", ["acc", "acc_mutual_info"], **question
        ),
        "tiny_inputs": task(
            "tiny_inputs",
            "inputs",
            "multiple_choice",
            ["acc"],
            doc_to_text="label",
            doc_to_choice="contexts",
            doc_to_target="ending",
        ),
        "tiny_cloze": task(
            "tiny_cloze",
            "cloze",
            "loglikelihood",
            ["perplexity", "acc"],
            doc_to_text="text",
            doc_to_target="target",
        ),
        "tiny_rolling": task(
            "tiny_rolling",
            "rolling",
            "loglikelihood_rolling",
            ["word_perplexity", "byte_perplexity", "bits_per_byte"],
            doc_to_text="",
            doc_to_target="text",
        ),
        "tiny_generate": task(
            "tiny_generate",
            "generate",
            "generate_until",
            exact,
            **generated,
            generation_kwargs=greedy,
            filter_list=[
                {"name": "strict-match", "filter": [first, take]},
                {"name": "flexible-extract", "filter": [last, take]},
            ],
        ),
        "tiny_repeats": task(
            "tiny_repeats",
            "generate",
            "generate_until",
            exact,
            **generated,
            generation_kwargs={**greedy, "do_sample": True, "temperature": 0.5},
            repeats=3,
            filter_list=[
                {"name": "score-first", "filter": [first, take]},
                {"name": "maj@3", "filter": [first, {"function": "majority_vote"}, take]},
            ],
        ),
        "tiny_group": group("tiny_group", ["tiny_choice", "tiny_inputs"]),
        "tiny_outer": group("tiny_outer", ["tiny_group", "tiny_mutual"]),
    }
