"""What a model was asked, as people read it: a prompt, or the messages of a conversation.

An API's prompt is logged as its messages: a list of them, the JSON of that list, or, as
``local-chat-completions`` does, a list that holds the JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    text: str


def messages_of(context: Any) -> list[Message] | None:
    """The messages of a logged context; None where it is no conversation.

    Example:
        >>> messages_of('[{"role": "user", "content": "How many?"}]')
        [Message(role='user', text='How many?')]
        >>> messages_of("Question: How many?") is None
        True
    """
    while isinstance(context, list) and len(context) == 1 and not isinstance(context[0], dict):
        context = context[0]
    if isinstance(context, str):
        if not context.lstrip().startswith("[{"):
            return None
        try:
            context = json.loads(context)
        except ValueError:
            return None
    if not isinstance(context, list) or not context:
        return None
    if not all(isinstance(turn, dict) and "role" in turn and "content" in turn for turn in context):
        return None
    return [Message(role=str(turn["role"]), text=_content(turn["content"])) for turn in context]


def _content(content: Any) -> str:
    """A message's text; one of several parts has an image's place marked."""
    if isinstance(content, list):
        return "\n".join(_part(part) for part in content)
    return "" if content is None else str(content)


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part)
    return str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]"


def asked(messages: list[Message], *, examples: bool) -> tuple[str, int]:
    """What was asked last, and the turns before it that were left out.

    Args:
        messages: a conversation.
        examples: whether the turns before the last question are few-shot examples; else they are
            part of what was asked, and are kept with their roles.

    Returns:
        The text, what the answer was to begin with being at its end, and the number of examples.

    Example:
        >>> turns = [Message("user", "1+1?"), Message("assistant", "2"), Message("user", "2+2?")]
        >>> asked(turns, examples=True)
        ('2+2?', 1)
        >>> print(asked(turns, examples=False)[0])
        user: 1+1?
        assistant: 2
        user: 2+2?
    """
    said = [message for message in messages if message.role != "system"]
    last = max((i for i, message in enumerate(said) if message.role == "user"), default=0)
    before = sum(message.role == "assistant" for message in said[:last])
    if before and not examples:
        return "\n".join(f"{message.role}: {message.text}" for message in said), 0
    return "\n".join(message.text for message in said[last:]), before
