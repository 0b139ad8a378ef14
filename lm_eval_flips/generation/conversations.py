"""Questions of several turns, from a file in MT-Bench's format: a JSON object a line.

``question_id`` and ``turns``, what a user says turn by turn, are needed; ``category`` and
``reference``, a right answer to each turn, are not. Where answers lie beside the questions, as in
MT-Bench's folder ``reference_answer``, these are the references, and only they.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_flips.errors import FlipsError, named

QUESTIONS = "question.jsonl"
REFERENCES = "reference_answer"
USUAL = "gpt-4.jsonl"  # of several files of references, those of MT-Bench's own paper
GENERAL = "general"  # the category of a question that names none
# The paper's (arXiv 2306.05685, FastChat's table): how freely each category is answered.
TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
OTHER = 0.7  # of a category that the table lacks, as there


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a user says in several turns, and a right answer to each, none where none is known."""

    id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...]


def load_conversations(path: Path) -> list[Conversation]:
    """The questions of a file, or of the only ``question.jsonl`` below a folder.

    Raises:
        FlipsError: there is none, or several; a line is no question; turns are empty; ids are
            there twice.
    """
    file = _file(path)
    references = _references(file.parent / REFERENCES)
    found = [_read(file, number, line, references) for number, line in _lines(file)]
    if not found:
        raise FlipsError(f"'{file}' holds no question")
    counts = Counter(own.id for own in found)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise FlipsError(
            f"'{file}': {len(twice)} ids stand at more than one question ({named(twice)}); give "
            "each a question_id of its own"
        )
    return found


def temperature_of(category: str) -> float:
    """How freely MT-Bench's paper lets a category be answered.

    Example:
        >>> temperature_of("math"), temperature_of("writing"), temperature_of("ours")
        (0.0, 0.7, 0.7)
    """
    return TEMPERATURES.get(category, OTHER)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.rglob(QUESTIONS)) if path.is_dir() else []
    if len(found) == 1:
        return found[0]
    why = f"holds {len(found)} files '{QUESTIONS}'" if path.is_dir() else "does not exist"
    raise FlipsError(
        f"'{path}' {why}; give --metadata questions=FILE, a JSON object a line with question_id "
        "and turns"
    )


def _lines(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise FlipsError(f"'{file}' cannot be read: {error}") from None
    # not splitlines(): a JSON string may hold separators of lines that are none of a file
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FlipsError(f"'{file}' line {number} is no JSON: {error}") from None


def _read(
    file: Path, number: int, line: Any, references: Mapping[str, tuple[str, ...]] | None
) -> Conversation:
    def odd(why: str) -> FlipsError:
        return FlipsError(
            f"'{file}' line {number} {why}; a question is a JSON object with question_id and "
            "turns, a list of texts"
        )

    if not isinstance(line, dict) or not isinstance(line.get("question_id"), (int, str)):
        raise odd("has no question_id")
    name, turns = str(line["question_id"]), line.get("turns")
    if not isinstance(turns, list) or not turns:
        raise odd(f"(question {name}) has no turns")
    if empty := [n for n, t in enumerate(turns, 1) if not isinstance(t, str) or not t.strip()]:
        raise odd(f"(question {name}) says nothing in turn {named(empty)}")
    own = line.get("reference") or []
    known = references.get(name, ()) if references is not None else tuple(map(str, own))
    return Conversation(
        id=name,
        category=str(line.get("category") or GENERAL),
        turns=tuple(turns),
        references=known,
    )


def _references(folder: Path) -> dict[str, tuple[str, ...]] | None:
    """Answers that lie beside the questions, by question; None where no such folder does."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        return None
    file = next((own for own in files if own.name == USUAL), files[0])
    found = {}
    for number, line in _lines(file):
        try:
            found[str(line["question_id"])] = tuple(map(str, line["choices"][0]["turns"]))
        except (LookupError, TypeError):
            raise FlipsError(
                f"'{file}' line {number} is no answer of question_id and choices; remove it, or "
                f"the folder '{folder.name}'"
            ) from None
    return found
