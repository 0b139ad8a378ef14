"""Writes a pair of lm_eval runs of any size, to measure reading and comparing.

    python tests/generators/long_logs.py FOLDER --samples 100000

makes FOLDER/baseline and FOLDER/compressed, about 3.4 kB a sample: a 600-character question with
four choices, as lm_eval 0.4.13 logs them under --log_samples.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

DATE = "2026-01-01T00-00-00.000000"
TASK = "synthetic"
RIGHT = ("acc", "acc_norm")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_runs(
    folder: Path, *, samples: int, seed: int = 0, graded: bool = False
) -> tuple[Path, Path]:
    """Write both runs; the compressed one's log-likelihoods are the baseline's plus noise.

    ``graded`` adds a metric that is not right or wrong: the right choice's probability.
    """
    generator = np.random.default_rng(seed)
    words = np.array(["".join(generator.choice(list("etaoinshrdlu"), 6)) for _ in range(2000)])
    paths = folder / "baseline", folder / "compressed"
    files = []
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
        files.append((path / f"samples_{TASK}_{DATE}.jsonl").open("w"))
    correct = np.zeros((2, 2))
    for doc_id in range(samples):
        question = " ".join(words[generator.integers(0, 2000, 75)])
        choices = [" ".join(words[generator.integers(0, 2000, 3)]) + "x" * k for k in range(4)]
        gold = int(generator.integers(4))
        scores = generator.normal(-20, 4, 4)
        noisy = scores + generator.normal(0, 0.4, 4)
        for side, values in enumerate((scores, noisy)):
            record = _record(doc_id, question, choices, gold, values)
            correct[side] += record["acc"], record["acc_norm"]
            if graded:
                odds = np.exp(values - values.max())
                record |= {"metrics": [*RIGHT, "f1"], "f1": float(odds[gold] / odds.sum())}
            files[side].write(json.dumps(record) + "\n")
    for side, path in enumerate(paths):
        files[side].close()
        acc, acc_norm = (correct[side] / samples).tolist()
        (path / f"results_{DATE}.json").write_text(
            json.dumps(_results(path.name, samples, acc=acc, acc_norm=acc_norm))
        )
    return paths


def _record(
    doc_id: int, question: str, choices: list[str], gold: int, scores: np.ndarray
) -> dict[str, object]:
    context = f"Question: {question}\nAnswer:"
    doc = {
        "id": f"q{doc_id}",
        "passage": doc_id // 5,
        "question": question,
        "choices": choices,
        "answer": gold,
    }
    responses = [[str(float(score)), "False"] for score in scores]
    lengths = np.array([len(choice) for choice in choices])
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": str(gold),
        "arguments": {
            f"gen_args_{i}": {"arg_0": context, "arg_1": f" {choice}"}
            for i, choice in enumerate(choices)
        },
        "resps": [[response] for response in responses],
        "filtered_resps": responses,
        "filter": "none",
        "metrics": [*RIGHT],
        "doc_hash": _hash(json.dumps(doc)),
        "prompt_hash": _hash(context),
        "target_hash": _hash(str(gold)),
        "acc": float(scores.argmax() == gold),
        "acc_norm": float((scores / lengths).argmax() == gold),
    }


def _results(model: str, samples: int, *, acc: float, acc_norm: float) -> dict[str, object]:
    return {
        "results": {TASK: {"alias": TASK, "acc,none": acc, "acc_norm,none": acc_norm}},
        "group_subtasks": {TASK: []},
        "configs": {
            TASK: {
                "task": TASK,
                "output_type": "multiple_choice",
                "target_delimiter": " ",
                "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
            }
        },
        "versions": {TASK: 1.0},
        "n-shot": {TASK: 0},
        "higher_is_better": {TASK: {"acc": True, "acc_norm": True}},
        "n-samples": {TASK: {"original": samples, "effective": samples}},
        "config": {"model": "hf", "model_args": {"pretrained": model}, "batch_size": "8"},
        "lm_eval_version": "0.4.13",
        "model_name": model,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=100_000)
    options = parser.parse_args()
    for path in write_runs(options.folder, samples=options.samples):
        print(path, sum(file.stat().st_size for file in path.iterdir()))
