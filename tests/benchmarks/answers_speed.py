"""What measuring along the baseline's answers costs, against plain generation by `hf`.

    python tests/benchmarks/answers_speed.py MODEL COMPRESSED --questions 16 --tokens 96
    python tests/benchmarks/answers_speed.py MODEL COMPRESSED --file quickstart_gsm8k.jsonl

MODEL and COMPRESSED are model folders. In one process, with each model loaded once: the baseline
writes and is recorded; the compressed model writes by the stock `hf`, then reads the baseline's
answers alone, then does what `run` does, reading and writing. Printed are processor times as
ratios to plain generation, and what was saved. The questions are those of a file (JSON lines with
a "question", as examples/questions.py writes them) in the model's chat template, or sums in words
behind the same four examples.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from lm_eval_flips.harness.models.flips_hf import FlipsHF

NAMES = "Ann Bob Cem Dora Emil Finn Gül Hana".split()
THINGS = "apples books coins drums eggs flags".split()


def question(drawn: random.Random) -> tuple[str, str]:
    """A sum in words, and its answer."""
    name, thing = drawn.choice(NAMES), drawn.choice(THINGS)
    had, got, gave = (drawn.randint(2, 40) for _ in range(3))
    asked = (
        f"{name} has {had + gave} {thing} and is given {got} more. {name} gives {gave} of them "
        f"away. How many {thing} does {name} have?"
    )
    told = f"{had + gave} and {got} make {had + gave + got}, less {gave} is {had + got}."
    return asked, f"{told} The answer is {had + got}."


def sums(count: int) -> list[str]:
    """Sums in words behind four examples."""
    drawn = random.Random(0)
    shots = "".join(
        f"Question: {q}\nAnswer: {a}\n\n" for q, a in (question(drawn) for _ in range(4))
    )
    return [f"{shots}Question: {question(drawn)[0]}\nAnswer:" for _ in range(count)]


def of_file(path: Path, count: int, model: FlipsHF) -> list[str]:
    """The first questions of a file, each as the model's chat template puts it."""
    asked = [json.loads(line)["question"] for line in path.read_text().splitlines()[:count]]
    return [model.apply_chat_template([{"role": "user", "content": text}]) for text in asked]


def requests(prompts: Sequence[str], tokens: int) -> list[Instance]:
    """Prompts to be answered greedily."""
    settings = {"until": ["Question:"], "max_gen_toks": tokens, "do_sample": False}
    return [
        Instance("generate_until", {}, (prompt, dict(settings)), 0, ("asked", place, 1))
        for place, prompt in enumerate(prompts)
    ]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Time of the processor that something takes, and what it gives."""
    started = time.process_time()
    found = work()
    return time.process_time() - started, found


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("model", "compressed"):
        parser.add_argument(name)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--file", type=Path, help="JSON lines with a question each")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    given: dict[str, Any] = {
        "device": "cpu",
        "dtype": options.dtype,
        "batch_size": options.batch_size,
    }
    with tempfile.TemporaryDirectory() as folder:
        baseline = FlipsHF(options.model, record=f"{folder}/base", **given)
        prompts = (
            of_file(options.file, options.questions, baseline)
            if options.file
            else sums(options.questions)
        )
        asked = requests(prompts, options.tokens)
        recorded, _ = seconds(lambda: baseline.generate_until(asked, disable_tqdm=True))
        stock = HFLM(options.compressed, **given)
        stock.generate_until(asked[:1], disable_tqdm=True)  # warms up
        plain, texts = seconds(lambda: stock.generate_until(asked, disable_tqdm=True))
        more: dict[str, Any] = {"reference": f"{folder}/base", "distances": f"{folder}/compressed"}
        compressed = FlipsHF(options.compressed, **more, **given)
        answers = compressed.writing
        assert answers is not None
        assert answers.baseline is not None
        wanted = list(answers.baseline)
        answers.read(wanted)  # warms up, and tries whether the model takes packs
        read, found = seconds(lambda: answers.read(wanted))
        whole, own = seconds(lambda: compressed.generate_until(asked, disable_tqdm=True))
    written = sum(len(answer.ids) for answer in wanted)
    parted = [one.parting for one in found.values() if one.parting is not None]
    print(f"{len(wanted)} answers of {written} tokens, {len(parted)} of which part")
    print(f"plain generation {plain:.1f} s; recording baseline {recorded:.1f} s")
    print(f"the pass: {read:.2f} s, {read / plain:.3f} of plain generation")
    print(f"the whole compressed run: {whole:.1f} s, {whole / plain:.3f} of plain generation")
    print(
        f"not written again: {compressed.saved.answers} answers, {compressed.saved.tokens} tokens"
    )
    print(
        f"written from drafts: {compressed.saved.drafted} answers, {compressed.saved.written} "
        f"tokens in {compressed.saved.passes} passes"
    )
    print(f"texts equal to plain hf's: {sum(a == b for a, b in zip(own, texts, strict=True))}")
    print(f"near ties of the baseline: {answers.baseline.noise}")


if __name__ == "__main__":
    main()
