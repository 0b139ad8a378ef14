"""GGUF files by llama.cpp: a question's options in one call, against one option at a time.

Every figure is of the same requests, one thread, in seconds of the processor (a busy machine makes
the clock slower, not these)::

    python -m tests.benchmarks.gguf_speed --questions arc.jsonl --hf FOLDER FILE.gguf ...

The questions are lines of ``{"question": ..., "choices": [...]}``. ``one at a time`` is what a
user's loop or a server does: each option with its whole prompt, through the same library.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lm_eval_flips.scoring.llama_cpp.model import Computing, LlamaModel
from lm_eval_flips.scoring.llama_cpp.scorer import LlamaScorer
from lm_eval_flips.scoring.requests import TokenRequest
from lm_eval_flips.scoring.scores import score_rows

LETTERS = "ABCDEFGH"


def main() -> None:
    """Measure each file; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--hf", type=Path, help="a transformers model, in float32")
    parser.add_argument("--cache-type", default="f16")
    parser.add_argument("--flash-attention", default="auto")
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = given.questions.read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line) for line in lines][: given.shots + given.count]
    requests: list[TokenRequest] = []
    for file in given.files:
        computing = Computing(
            threads=1, cache_type=given.cache_type, flash_attention=given.flash_attention
        )
        model = LlamaModel(file, computing)
        requests = asked(documents, given.shots, model.vocabulary.encode)
        packed, together = timed(partial(scored, model, requests))
        alone, apart = timed(partial(one_by_one, model, requests))
        difference = max(abs(a - b) for a, b in zip(packed, alone, strict=True))
        print(
            f"{file.name}: packed {together:.1f} s, one at a time {apart:.1f} s, ratio "
            f"{together / apart:.2f}; largest difference {difference:.2g} nats"
        )
    if given.hf is not None:
        from transformers import AutoModelForCausalLM

        whole: Any = AutoModelForCausalLM.from_pretrained(given.hf, dtype=torch.float32)
        logits, plain = timed(partial(by_transformers, whole, requests))
        print(f"transformers float32, batches of 8: {plain:.1f} s, {len(logits)} requests")


def asked(
    documents: Sequence[dict[str, Any]], shots: int, encode: Callable[..., list[int]]
) -> list[TokenRequest]:
    """The requests: options behind a question; with examples, letters behind question and options."""
    examples = "".join(
        f"{_prompt(one, shots)} {_right(one, shots)}\n\n" for one in documents[:shots]
    )
    requests = []
    for one in documents[shots:]:
        context = encode(examples + _prompt(one, shots), add_special=True)
        options = LETTERS[: len(one["choices"])] if shots else one["choices"]
        for option in options:
            whole = encode(f"{examples}{_prompt(one, shots)} {option}", add_special=True)
            own = whole[len(context) :]
            requests.append(TokenRequest.of(context, own, max_length=2048))
    return requests


def _prompt(document: dict[str, Any], shots: int) -> str:
    if not shots:
        return f"Question: {document['question']}\nAnswer:"
    options = zip(LETTERS, document["choices"], strict=False)
    told = "".join(f"{letter}. {option}\n" for letter, option in options)
    return f"{document['question']}\n{told}Answer:"


def _right(document: dict[str, Any], shots: int) -> str:
    answer = int(document["answer"])
    return LETTERS[answer] if shots else str(document["choices"][answer])


def scored(model: LlamaModel, requests: Sequence[TokenRequest]) -> list[float]:
    """Log-likelihoods, in order."""
    scorer = SCORERS.setdefault(model.path, LlamaScorer(model))
    found: dict[int, float] = {}
    for rows in scorer.rows(requests):
        for score in score_rows(rows, requests, scorer.model.head):
            found[score.request] = score.loglikelihood
    return [found[place] for place in range(len(requests))]


def one_by_one(model: LlamaModel, requests: Sequence[TokenRequest]) -> list[float]:
    """The same, each request by itself."""
    return [scored(model, [request])[0] for request in requests]


SCORERS: dict[Path, LlamaScorer] = {}


def by_transformers(model: Any, requests: Sequence[TokenRequest]) -> list[float]:
    """The same as the harness's `hf` does it: a padded row a request."""
    found: list[float] = []
    order = sorted(requests, key=lambda request: -len(request.fed))
    for low in range(0, len(order), 8):
        batch = order[low : low + 8]
        ids = torch.zeros(len(batch), len(batch[0].fed), dtype=torch.long)
        for row, request in zip(ids, batch, strict=True):
            row[: len(request.fed)] = torch.from_numpy(request.fed)
        with torch.no_grad():
            logprobs = model(ids).logits.log_softmax(-1)
        for row, request in zip(logprobs, batch, strict=True):
            chosen = torch.from_numpy(request.continuation)[:, None]
            place = slice(request.first_scored, len(request.fed))
            found.append(float(row[place].gather(-1, chosen).sum()))
    return found


def timed(work: Callable[[], list[float]]) -> tuple[list[float], float]:
    """What some work gives, and the processor's seconds that it takes."""
    begun = time.process_time()
    found = work()
    return found, time.process_time() - begun


if __name__ == "__main__":
    main()
