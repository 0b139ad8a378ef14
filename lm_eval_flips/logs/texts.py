"""What a model was asked, as people read it: a prompt, or the messages of a conversation.

An API's prompt is logged as its messages: a list of them, the JSON of that list, or, as
``local-chat-completions`` does, a list that holds the JSON. A chat template's is one text in which
the turns stand between the template's own marks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lm_eval_flips.logs.task_log import TaskLog

# How templates begin a turn and end it: ChatML, Llama 3, Gemma, Phi and Zephyr.
BEGIN = re.compile(
    r"<\|im_start\|>(\w+)\n|<\|start_header_id\|>(\w+)<\|end_header_id\|>\n*"
    r"|<start_of_turn>(\w+)\n|<\|(system|user|assistant)\|>\n?"
)
END = re.compile(r"(?:<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|<\|end\|>|</s>|<\|endoftext\|>)\s*$")
ROLES = {"model": "assistant"}  # Gemma's word


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    text: str


def messages_of(context: Any) -> list[Message] | None:
    r"""The messages of a logged context; None where it is no conversation.

    Example:
        >>> messages_of('[{"role": "user", "content": "How many?"}]')
        [Message(role='user', text='How many?')]
        >>> messages_of("<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n")
        [Message(role='user', text='How many?')]
        >>> messages_of("Question: How many?") is None
        True
    """
    while isinstance(context, list) and len(context) == 1 and not isinstance(context[0], dict):
        context = context[0]
    if isinstance(context, str):
        if not context.lstrip().startswith("[{"):
            return list(_rendered(context)) or None
        try:
            context = json.loads(context)
        except ValueError:
            return None
    if not isinstance(context, list) or not context:
        return None
    if not all(isinstance(turn, dict) and "role" in turn and "content" in turn for turn in context):
        return None
    return [Message(role=str(turn["role"]), text=_content(turn["content"])) for turn in context]


def _rendered(text: str) -> Iterator[Message]:
    """The turns of a rendered chat template; the last one only where it was begun with a text."""
    begun = list(BEGIN.finditer(text))
    ends = [*(match.start() for match in begun[1:]), len(text)]
    for match, end in zip(begun, ends, strict=False):
        role = next(name for name in match.groups() if name)
        said = END.sub("", text[match.end() : end])
        if said.strip() or end < len(text):
            yield Message(role=ROLES.get(role, role), text=said)


def _content(content: Any) -> str:
    """A message's text; one of several parts has an image's place marked."""
    if isinstance(content, list):
        return "\n".join(_part(part) for part in content)
    return "" if content is None else str(content)


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part)
    return str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]"


def asked(messages: list[Message], *, examples: bool) -> tuple[list[Message], int]:
    """The turns of what was asked last, and the number of examples before it that were left out.

    Args:
        messages: a conversation.
        examples: whether the turns before the last question are few-shot examples; else they are
            part of what was asked, and are kept.

    Example:
        >>> turns = [Message("user", "1+1?"), Message("assistant", "2"), Message("user", "2+2?")]
        >>> asked(turns, examples=True)
        ([Message(role='user', text='2+2?')], 1)
        >>> len(asked(turns, examples=False)[0])
        3
    """
    said = [message for message in messages if message.role != "system"]
    last = max((i for i, message in enumerate(said) if message.role == "user"), default=0)
    before = sum(message.role == "assistant" for message in said[:last])
    if before and not examples:
        return said, 0
    return said[last:], before


def as_text(turns: list[Message]) -> str:
    """Turns as one text: with their roles where there was a conversation before the last question.

    Example:
        >>> print(as_text([Message("user", "1+1?"), Message("assistant", "2")]))
        1+1?
        2
        >>> print(as_text([Message("assistant", "1+1?"), Message("user", "2")]))
        assistant: 1+1?
        user: 2
    """
    spoken = any(message.role == "user" for message in turns[1:])
    return "\n".join(f"{turn.role}: {turn.text}" if spoken else turn.text for turn in turns)


def question_of(context: Any, task: TaskLog) -> tuple[str, tuple[Message, ...], int]:
    """The question without its examples, its turns, and how many examples there were."""
    messages = messages_of(context)
    if messages is None:
        question, shots = _without_examples(str(context), task)
        return question, (), shots
    turns, shots = asked(messages, examples=bool(task.num_fewshot))
    if shots or len(turns) > 1:
        return as_text(turns), tuple(turns), shots
    question, shots = _without_examples(as_text(turns), task)
    return question, (), shots


def _without_examples(context: str, task: TaskLog) -> tuple[str, int]:
    if task.num_fewshot and task.fewshot_delimiter.strip("\n") == "":
        question = context.rsplit(task.fewshot_delimiter, 1)[-1]
        return question, task.num_fewshot if len(question) < len(context) else 0
    return context, 0
