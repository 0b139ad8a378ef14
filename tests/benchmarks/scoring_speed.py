"""Both models with KL over the vocabulary against one plain run of the baseline, on real questions.

    python tests/benchmarks/scoring_speed.py MODEL COMPRESSED DATA --rounds 3

MODEL and COMPRESSED are model folders; DATA holds arc_challenge.jsonl and mmlu.jsonl, whose lines
have id, question, choices and answer. Every evaluation is a process of its own, so that its peak
memory is its own; the time is that of scoring, the model being loaded: on a CPU the processor's,
which other processes disturb less than the clock's. Plain and ours take turns.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LETTERS = "ABCD"
SHOTS = 5
Questions = list[tuple[str, list[str]]]


def main() -> None:
    """Print the ratios, set by set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "compressed", "data"):
        parser.add_argument(name)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--questions", type=int, default=300, help="of ARC")
    parser.add_argument("--per-subject", type=int, help="of MMLU; all if left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(evaluate(options)))
        return
    for name in options.sets:
        compare_set(name, options)


def compare_set(name: str, options: argparse.Namespace) -> None:
    """All evaluations of one set of questions, several times in turn."""
    ratios, found = [], {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            found = {child: in_process(child, name, folder, options) for child in CHILDREN}
        plain, base, compressed = (found[child]["seconds"] for child in CHILDREN[:3])
        ratios.append((base + compressed) / plain)
    itself = found["itself"]
    differences = zip(found["plain"]["answers"], found["baseline"]["answers"], strict=True)
    off = [(abs(a[0] - b[0]), a[1] != b[1]) for a, b in differences]
    print(f"{name}, {options.dtype}: {found['plain']['questions']} questions")
    print(
        f"  both models / one plain run: {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}); last: plain {found['plain']['seconds']:.1f} s, "
        f"baseline {found['baseline']['seconds']:.1f} s, compressed "
        f"{found['compressed']['seconds']:.1f} s"
    )
    print(
        f"  distances: {found['compressed']['distances']:.2f} s, "
        f"{share(found['compressed']['distances'], found['compressed']['seconds'])} of the "
        "compressed run, "
        f"{share(found['compressed']['distances'], sum(found[c]['seconds'] for c in CHILDREN[1:3]))}"
        " of both runs"
    )
    print(
        f"  reference: {found['baseline']['bytes'] / found['baseline']['positions']:.0f} bytes for "
        f"each of {found['baseline']['positions']} scored positions"
    )
    print(
        f"  log-likelihoods off by at most {max(o for o, _ in off):.1e}, "
        f"{sum(g for _, g in off)} is_greedy differ"
    )
    print(
        f"  baseline against itself: KL mean {itself['mean']:.1e}, max {itself['max']:.1e}, same "
        f"top token {100 * itself['same_top']:.2f} %; compressed: mean "
        f"{found['compressed']['mean']:.4f}"
    )
    peaks = ", ".join(f"{child} {found[child]['peak']:.2f}" for child in CHILDREN)
    print(f"  peak memory, GB: {peaks}", flush=True)


def share(part: float, whole: float) -> str:
    """A share as text."""
    return f"{100 * part / whole:.1f} %"


def in_process(child: str, name: str, folder: str, options: argparse.Namespace) -> Any:
    """One evaluation in a process of its own."""
    command = [
        *(sys.executable, __file__, options.model, options.compressed, options.data),
        *("--sets", name, "--questions", str(options.questions), "--dtype", options.dtype),
        *("--device", options.device, "--batch-size", str(options.batch_size)),
        *(("--per-subject", str(options.per_subject)) if options.per_subject else ()),
        *("--child", child, "--folder", folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Load one model, score the questions, and say what it took."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from lm_eval_flips.harness.models.flips_hf import FlipsHF

    logging.disable(logging.WARNING)
    (name,) = options.sets
    count = options.per_subject if name.startswith("mmlu") else options.questions
    questions = SETS[name](Path(options.data), count)
    requests = [
        Instance("loglikelihood", {}, (context, choice), i, metadata=(name, doc, 1))
        for doc, (context, choices) in enumerate(questions)
        for i, choice in enumerate(choices)
    ]
    folder = Path(options.folder)
    common = {"device": options.device, "dtype": options.dtype, "batch_size": options.batch_size}
    base, own = str(folder / "baseline"), str(folder / options.child)
    model: Any
    if options.child == "plain":
        model = HFLM(pretrained=options.model, softmax_dtype="float32", **common)
    elif options.child == "baseline":
        model = FlipsHF(options.model, record=base, **common)
    else:
        pretrained = options.model if options.child == "itself" else options.compressed
        model = FlipsHF(pretrained, reference=base, distances=own, **common)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    watch = Watch(clock)
    started = clock()
    answers = model.loglikelihood(requests, disable_tqdm=True)
    seconds = clock() - started
    return {
        "questions": len(questions),
        "seconds": seconds,
        "distances": watch.total,
        "answers": [tuple(answer) for answer in answers],
        "peak": peak_gigabytes(options.device),
        **stored(folder / options.child),
    }


class Watch:
    """Adds up the time in which the baseline is rebuilt and distances are taken from it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        from lm_eval_flips.scoring.baseline import Baseline

        self.total, self._clock = 0.0, clock
        for step in ("rows", "distances"):
            setattr(Baseline, step, self._timed(getattr(Baseline, step)))

    def _timed(self, step: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = self._clock()
            try:
                return step(*args, **kwargs)
            finally:
                self.total += self._clock() - started

        return timed


def stored(run: Path) -> dict[str, Any]:
    """What a run has recorded: its bytes and positions, or the distances it found."""
    from safetensors.torch import load_file

    from lm_eval_flips.scoring.token_distances import load_distances

    if (run / "reference").exists():
        shards = sorted((run / "reference").glob("0*.safetensors"))
        positions = sum(int(load_file(shard)["counts"].sum()) for shard in shards)
        return {"bytes": sum(shard.stat().st_size for shard in shards), "positions": positions}
    if not (run / "token_distances").exists():
        return {}
    found = load_distances(run / "token_distances")
    if found is None:
        return {}
    kl, same = found.values["kl"].double(), found.values["same_top"].double()
    return {"mean": float(kl.mean()), "max": float(kl.max()), "same_top": float(same.mean())}


def peak_gigabytes(device: str) -> float:
    """Largest memory of this process, on a GPU the GPU's."""
    import torch

    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e9
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return int(line.split()[1]) / 1e6


def arc(data: Path, count: int, shots: int) -> Questions:
    """ARC with its choices as texts; the last questions serve as examples."""
    documents = list(lines(data / "arc_challenge.jsonl"))
    examples = "".join(
        f"{arc_prompt(found)} {found['choices'][found['answer']]}\n\n"
        for found in documents[len(documents) - shots :]
    )
    return [
        (examples + arc_prompt(found), [f" {choice}" for choice in found["choices"]])
        for found in documents[:count]
    ]


def arc_prompt(found: dict[str, Any]) -> str:
    """A question of ARC as the harness asks it."""
    return f"Question: {found['question']}\nAnswer:"


def mmlu(data: Path, count: int | None) -> Questions:
    """MMLU by subject with letters as choices; a subject's first questions serve as examples."""
    subjects: dict[str, list[dict[str, Any]]] = {}
    for found in lines(data / "mmlu.jsonl"):
        subjects.setdefault(found["id"].rsplit("_", 1)[0], []).append(found)
    questions = []
    for subject, documents in subjects.items():
        head = "The following are multiple choice questions (with answers) about "
        examples = "".join(
            f"{mmlu_prompt(found)} {LETTERS[found['answer']]}\n\n" for found in documents[:SHOTS]
        )
        head += f"{subject.replace('_', ' ')}.\n\n{examples}"
        questions += [
            (head + mmlu_prompt(found), [f" {letter}" for letter in LETTERS])
            for found in documents[SHOTS:][:count]
        ]
    return questions


def mmlu_prompt(found: dict[str, Any]) -> str:
    """A question of MMLU as the harness asks it."""
    choices = "".join(f"\n{a}. {b}" for a, b in zip(LETTERS, found["choices"], strict=True))
    return f"{found['question'].strip()}{choices}\nAnswer:"


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file."""
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


CHILDREN = ("plain", "baseline", "compressed", "itself")
SETS: dict[str, Callable[[Path, Any], Questions]] = {
    "arc_0shot": lambda data, count: arc(data, count, 0),
    "arc_5shot": lambda data, count: arc(data, count, SHOTS),
    "mmlu_5shot": mmlu,
}


if __name__ == "__main__":
    main()
