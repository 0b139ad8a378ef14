"""How many judgements a second, beside what the server itself gives for as many requests at once.

    python -m tests.benchmarks.judge_throughput [--model FILE.gguf] [--parallel 4] [--answers 64]

llama.cpp's own server is the judge, as a process of its own. Its pace is that of the same requests
sent by bare threads over sockets that stay open, with nothing kept. By default its model is a tiny
random one, whose replies cost so little that the judging's own work shows most.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import _model, _tokenizer
from tests.generation.judge.conftest import kept
from tests.generators import logs
from tests.generators.gguf_files import write_gguf
from tests.generators.judges import llama_server

PROMPT = {"type": "single", "prompt_template": "{question} {answer} Score?"}
GRAMMAR = 'root ::= "It is so' + " so" * 120 + '. [[" [1-9] "]]"'


def serve(model: Path, parallel: int) -> None:
    """A server until its input ends; its address is the last line it writes."""
    with llama_server(model, parallel=parallel, grammar=GRAMMAR) as url:
        print(url, flush=True)
        sys.stdin.read()


def bare(url: str, sent: list[dict[str, Any]], parallel: int) -> float:
    """Requests a second of threads that do nothing else."""
    address, own = urlsplit(url), local()

    def ask(body: dict[str, Any]) -> None:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(str(address.hostname), address.port)
        own.connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        reply = own.connection.getresponse()
        assert "[[" in reply.read().decode()

    began = time.perf_counter()
    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(ask, sent))
    return len(sent) / (time.perf_counter() - began)


def judging(url: str, run: Path, prompts: Path, parallel: int) -> float:
    """Judgements a second of the judging itself, without the start of Python."""
    from lm_eval_flips.generation.judge.asking import Asking

    asking = Asking(
        model="judge",
        base_url=url,
        pairs=False,
        baseline=None,
        prompts=prompts,
        references=False,
        temperature=0.0,
        max_tokens=1024,
        retries=0,
        timeout=120.0,
        told=print,
    )
    with asking.of_run(run, tasks="*", limit=None) as work:
        plan = work.plan(1)
        began = time.perf_counter()
        judged = work.judge(plan, concurrency=parallel, told=lambda: None)
        took = time.perf_counter() - began
    assert judged.verdicts == len(plan.wanted)
    return judged.verdicts / took


def main() -> None:
    """Measure both, in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--answers", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    if given.serve:
        serve(given.model, given.parallel)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.model is None:
            _tokenizer().save_pretrained(folder / "tiny")
            _model().save_pretrained(folder / "tiny")
            given.model = write_gguf(folder / "tiny", folder / "tiny.gguf")
        measure(folder, given)


def measure(folder: Path, given: argparse.Namespace) -> None:
    """Start the server, and print each round."""
    prompts = folder / "prompts.jsonl"
    prompts.write_text(json.dumps(PROMPT) + "\n")
    command = [
        *(sys.executable, "-m", "tests.benchmarks.judge_throughput", "--serve"),
        *("--model", str(given.model), "--parallel", str(given.parallel)),
    ]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        url = next(line.strip() for line in server.stdout if line.startswith("http"))
        for number in range(given.rounds):
            texts = [f"It may be {number} {i}, or so." for i in range(given.answers)]
            run = folder / f"run-{number}"
            records = [logs.text(i, said) for i, said in enumerate(texts)]
            logs.write_run(run, {"sums": records}, model=f"org/run-{number}")
            own = judging(url, run, prompts, given.parallel)
            sent = [own.sent for own in kept(run)]
            alone = bare(url, sent, given.parallel)
            again = judging(url, again_of(folder, number, texts), prompts, given.parallel)
            best = max(own, again)
            print(
                f"{given.parallel} at once: judging {best:.1f}/s, bare requests {alone:.1f}/s, "
                f"{best / alone:.2f} of it"
            )
    finally:
        server.stdin.close()
        server.wait(timeout=30)


def again_of(folder: Path, number: int, texts: list[str]) -> Path:
    """The same answers in another run, so that neither order of measuring is favoured."""
    run = folder / f"again-{number}"
    records = [logs.text(i, said) for i, said in enumerate(texts)]
    logs.write_run(run, {"sums": records}, model=f"org/again-{number}")
    return run


if __name__ == "__main__":
    os.environ.setdefault("OPENAI_API_KEY", "none")
    main()
