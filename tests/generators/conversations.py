"""Questions of several turns, in MT-Bench's format, and a model whose answers tell what was asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM

QUESTIONS: tuple[dict[str, Any], ...] = (
    {"question_id": 1, "category": "writing", "turns": ["Say one.", "Say it again."]},
    {
        "question_id": 2,
        "category": "math",
        "turns": ["Add two and two.", "Add one."],
        "reference": ["Four.", "Five."],
    },
    {"question_id": 3, "category": "math", "turns": ["Take one of nine.", "And two."]},
    {"question_id": 4, "category": "math", "turns": ["Halve twelve."]},
    {"question_id": 5, "category": "stem", "turns": ["Why is it warm?", "And wet?", "And red?"]},
)


def write_questions(
    folder: Path, questions: Iterable[Mapping[str, Any]] = QUESTIONS, name: str = "question.jsonl"
) -> Path:
    """A file of questions; gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("".join(json.dumps(own) + "\n" for own in questions), encoding="utf-8")
    return file


class Answering(LM):  # type: ignore[misc]  # lm_eval ships no types
    """Answers each prompt by a hash of it, so that no other prompt has that answer."""

    def __init__(self, name: str = "base") -> None:
        super().__init__()
        self.name = name
        self.calls: list[list[Any]] = []

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Each answer by its prompt alone; the stops are added to, as the harness does."""
        self.calls.append([own.args for own in requests])
        for own in requests:
            own.args[1]["until"].append("</s>")
        return [self.answer(own.args[0]) for own in requests]

    def answer(self, prompt: str) -> str:
        """What this model says to a prompt."""
        said = re.sub(r"\W+", "-", prompt)[-40:]
        return f"{self.name}:{sum(prompt.encode())}:{said}"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Turns with their roles."""
        return "".join(f"<{own['role']}>{own['content']}" for own in chat_history)

    def loglikelihood(self, requests: Any) -> Any:
        """Never asked."""
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood

    @property
    def tokenizer_name(self) -> str:
        """Which chat template it is."""
        return "roles"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """As the log keeps it."""
        return "<role>content"
