"""Writes runs of many tasks, as MMLU has 57 subjects, to measure reports and leaderboards.

    python tests/generators/many_tasks.py FOLDER --tasks 57 --samples 14000 --compressed 1

makes FOLDER/baseline and one folder a compressed run, as lm_eval 0.4.13 logs them. The first
compressed run changes about 1,500 of 14,000 answers, as a 4-bit model does; the further ones go
round five amounts of noise, from 8-bit to 3-bit models. A letter is chosen, so the baseline's
top margins are spread over 0..1 and half to two thirds of its answers are right.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.generators.logs import Record, choice, write_run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAMILY = "org/Llama-7b"
PARAMETERS = 6_738_415_616
LETTERS = ("A", "B", "C", "D")
SCHEMES = {  # noise in nats a choice
    "nf4": 0.27,
    "int8": 0.06,
    "gptq-w4a16": 0.24,
    "awq-w4a16": 0.20,
    "gptq-w3a16": 0.65,
}
SUBJECTS = (
    "abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology "
    "college_chemistry college_computer_science college_mathematics college_medicine "
    "college_physics computer_security conceptual_physics econometrics electrical_engineering "
    "elementary_mathematics formal_logic global_facts high_school_biology high_school_chemistry "
    "high_school_computer_science high_school_european_history high_school_geography "
    "high_school_government_and_politics high_school_macroeconomics high_school_mathematics "
    "high_school_microeconomics high_school_physics high_school_psychology "
    "high_school_statistics high_school_us_history high_school_world_history human_aging "
    "human_sexuality international_law jurisprudence logical_fallacies machine_learning "
    "management marketing medical_genetics miscellaneous moral_disputes moral_scenarios "
    "nutrition philosophy prehistory professional_accounting professional_law "
    "professional_medicine professional_psychology public_relations security_studies sociology "
    "us_foreign_policy virology world_religions"
).split()


@dataclass(frozen=True)
class _Task:
    """A task's questions, right choices and the baseline's log-likelihoods ``[n, choices]``."""

    name: str
    questions: list[str]
    gold: Ints
    scores: Floats

    def records(self, change: Floats | float = 0.0) -> list[Record]:
        rows = zip(self.questions, self.gold.tolist(), self.scores + change, strict=True)
        return [
            choice(
                doc_id,
                [round(score, 6) for score in scores.tolist()],
                gold=gold,
                choices=LETTERS,
                question=question,
                metrics=("acc",),
            )
            for doc_id, (question, gold, scores) in enumerate(rows)
        ]


def task_names(count: int) -> list[str]:
    """MMLU's subjects, and numbered further rounds of them beyond 57."""
    rounds = (divmod(i, len(SUBJECTS)) for i in range(count))
    return [
        f"mmlu_{SUBJECTS[place]}" + (f"_{again + 1}" if again else "") for again, place in rounds
    ]


def write_many(
    folder: Path, *, tasks: int = 57, samples: int = 14_000, compressed: int = 1, seed: int = 0
) -> list[Path]:
    """Write a baseline's run and some compressed runs of many multiple-choice tasks.

    Args:
        folder: where the runs' folders go.
        tasks: number of tasks, all in the group "mmlu".
        samples: number of samples, spread evenly over the tasks.
        compressed: number of compressed runs.
        seed: the same gives the same files.

    Returns:
        The runs' folders, the baseline's first.
    """
    every = list(_tasks(tasks, samples, seed))
    groups = {"mmlu": [task.name for task in every]}
    paths = [folder / "baseline"]
    write_run(
        paths[0],
        {task.name: task.records() for task in every},
        model=FAMILY,
        groups=groups,
        config=_config(FAMILY),
    )
    for number in range(compressed):
        again, place = divmod(number, len(SCHEMES))
        scheme, noise = list(SCHEMES.items())[place]
        name = scheme if not again else f"{scheme}-{again + 1}"
        generator = np.random.default_rng([seed, 1, number])
        paths.append(folder / name)
        write_run(
            paths[-1],
            {
                task.name: task.records(generator.normal(0, noise, task.scores.shape))
                for task in every
            },
            model=f"{FAMILY}-{name}",
            groups=groups,
            config=_config(f"{FAMILY}-{name}"),
        )
    return paths


def _tasks(tasks: int, samples: int, seed: int) -> Iterator[_Task]:
    generator = np.random.default_rng([seed, 0])
    words = np.array(["".join(generator.choice(list("etaoinshrdlu"), 6)) for _ in range(2000)])
    for place, name in enumerate(task_names(tasks)):
        n = samples // tasks + (place < samples % tasks)
        gold = generator.integers(0, len(LETTERS), n)
        scores = generator.normal(-3, 1, (n, len(LETTERS)))
        scores[np.arange(n), gold] += generator.normal(generator.uniform(0.2, 2.0), 1, n)
        # the letters hold a fifth of the probability, so that noise leaves them possible
        scores -= np.log(np.exp(scores).sum(-1, keepdims=True)) - np.log(0.2)
        text = words[generator.integers(0, len(words), (n, 60))]
        yield _Task(
            name, [f"{i}. {' '.join(row)}\nAnswer:" for i, row in enumerate(text)], gold, scores
        )


def _config(model: str) -> dict[str, object]:
    """The run's settings, and what lm_eval logs of a model."""
    return {
        "model": "hf",
        "model_args": {"pretrained": model, "dtype": "float16"},
        "model_num_parameters": PARAMETERS,
        "model_dtype": "torch.float16",
        "batch_size": "8",
        "device": "cuda:0",
        "limit": None,
        "gen_kwargs": {},
        "random_seed": 0,
        "numpy_seed": 1234,
        "torch_seed": 1234,
        "fewshot_seed": 1234,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", type=int, default=57)
    parser.add_argument("--samples", type=int, default=14_000)
    parser.add_argument("--compressed", type=int, default=1)
    options = parser.parse_args()
    for path in write_many(
        options.folder,
        tasks=options.tasks,
        samples=options.samples,
        compressed=options.compressed,
    ):
        print(path)
