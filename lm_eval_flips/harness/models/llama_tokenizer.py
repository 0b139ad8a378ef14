"""A GGUF file's tokenizer with the names that the harness asks for, and its chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.scoring.llama_cpp.model import LlamaModel


class LlamaTokenizer:
    """Special tokens and the chat template of a GGUF file.

    Args:
        model: the model, loaded.
    """

    def __init__(self, model: LlamaModel) -> None:
        self._path = model.path
        self._vocabulary = vocabulary = model.vocabulary
        self.bos_token_id, self.bos_token = vocabulary.bos, vocabulary.text(vocabulary.bos)
        self.eos_token_id, self.eos_token = vocabulary.eos, vocabulary.text(vocabulary.eos)
        self.pad_token_id, self.pad_token = vocabulary.pad, vocabulary.text(vocabulary.pad)
        self.chat_template = model.chat_template
        self.default_chat_template = None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""
        return self._vocabulary.encode(text, add_special=add_special_tokens)

    def get_vocab(self) -> dict[str, int]:
        """All entries that are used, by their text."""
        return self._vocabulary.entries()

    def rendered(self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool) -> str:
        """A conversation as the template writes it; without system messages where it has none.

        Raises:
            FlipsError: there is no template, or it fails.
        """
        from jinja2.exceptions import TemplateError

        if self.chat_template is None:
            raise FlipsError(
                f"'{self._path}' holds no chat template; leave out --apply_chat_template"
            )
        try:
            return self._render(messages, add_generation_prompt)
        except TemplateError:
            kept = [message for message in messages if message["role"] != "system"]
        try:
            return self._render(kept, add_generation_prompt)
        except TemplateError as error:
            raise FlipsError(
                f"the chat template of '{self._path}' fails: {error}; leave out "
                "--apply_chat_template"
            ) from None

    def _render(self, messages: Sequence[dict[str, str]], add_generation_prompt: bool) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        special: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("bos_token", "eos_token", "pad_token")
            if getattr(self, name) is not None
        }
        rendered: Any = render_jinja_template(
            conversations=[list(messages)],
            chat_template=self.chat_template,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **special,
        )
        return str(rendered[0][0])
