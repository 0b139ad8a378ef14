"""A GGUF file as a model of the harness: tokens, chat template and written text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from torch import Tensor
from tqdm import tqdm

from lm_eval_flips.errors import FlipsError, HarnessError
from lm_eval_flips.harness.models.llama_tokenizer import LlamaTokenizer
from lm_eval_flips.scoring.llama_cpp.model import LlamaModel
from lm_eval_flips.scoring.llama_cpp.writer import Choose, Prompt, Writer, greedy

logger = logging.getLogger(__name__)

MOST_WRITTEN = 256  # tokens, where a task names no other number; as for hf
PROCESSORS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


class LlamaLM(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """What the harness asks of a model besides log-likelihoods.

    Args:
        model: the model, loaded.
        max_length: most tokens that it reads; by default what the file says.
        batch_size: texts that are written at the same time.
        add_bos_token: whether a text begins with the BOS token; by default what the file says.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        max_length: int | None = None,
        batch_size: int = 1,
        add_bos_token: bool | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = LlamaTokenizer(model)
        self.add_bos_token = add_bos_token
        self.batch_size = batch_size
        self._max_length = max_length
        self._writer = Writer(model, at_once=batch_size)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._special("eos", "bos")

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context."""
        return self._special("bos", "eos")

    @property
    def max_length(self) -> int:
        """Most tokens that the model reads."""
        return self._max_length or self.model.longest

    @property
    def max_gen_toks(self) -> int:
        """Most tokens that it writes, where a task names no other number."""
        return MOST_WRITTEN

    @property
    def tokenizer_name(self) -> str:
        """What a cache of requests tells tokenizers apart by."""
        return str(self.model.path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Token ids by the file's own tokenizer; a BOS token that is written out is not doubled."""
        vocabulary = self.model.vocabulary
        if add_special_tokens is None:
            add_special_tokens = self.add_bos_token
        if add_special_tokens is None:
            bos = vocabulary.text(vocabulary.bos)
            add_special_tokens = not (bos and has_bos_prefix(string, bos))
        return vocabulary.encode(string, add_special=add_special_tokens)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the file's template writes it.

        Raises:
            HarnessError: the file has none, or it fails.
        """
        try:
            return self.tokenizer.rendered(
                chat_history, add_generation_prompt=add_generation_prompt
            )
        except FlipsError as error:
            raise HarnessError(str(error)) from None

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes behind each context, up to a stop string.

        Raises:
            HarnessError: llama.cpp failed, or there is no room to write.
        """
        order = sorted(range(len(requests)), key=lambda place: -len(requests[place].args[0]))
        written: dict[int, str] = {}
        bar = tqdm(
            total=len(requests), disable=disable_tqdm, desc="Running generate_until requests"
        )
        groups: dict[str, list[int]] = {}
        for place in order:
            groups.setdefault(repr(requests[place].args[1]), []).append(place)
        try:
            for places in groups.values():
                self._write_group(requests, places, written, bar)
        except FlipsError as error:
            raise HarnessError(str(error)) from None
        finally:
            bar.close()
        return [written[place] for place in range(len(requests))]

    def _write_group(
        self,
        requests: Sequence[Instance],
        places: Sequence[int],
        written: dict[int, str],
        bar: Any,
    ) -> None:
        """Requests that are written with the same settings."""
        settings = normalize_gen_kwargs(dict(requests[places[0]].args[1]), self.max_gen_toks)
        eos = self.model.vocabulary.text(self.eot_token_id)
        stops = handle_stop_sequences(settings.pop("until", None), eos=eos)
        longest = settings.pop("max_gen_toks")
        room = self.max_length - longest
        if room < 1:
            raise FlipsError(
                f"max_gen_toks={longest} leaves no room for a prompt: max_length={self.max_length}"
            )
        prompts = [
            Prompt(ids=self._prompt(requests[place].args[0], room), stops=stops, longest=longest)
            for place in places
        ]
        texts = self._writer.write(prompts, _choice(settings))
        for place, text in zip(places, texts, strict=True):
            kept = postprocess_generated_text(text, stops, None)
            written[place] = kept
            self.cache_hook.add_partial("generate_until", requests[place].args, kept)
            bar.update(1)

    def _prompt(self, text: str, room: int) -> list[int]:
        return self.tok_encode(text)[-room:] or [self.prefix_token_id]

    def _special(self, *names: str) -> int:
        for name in names:
            token: int | None = getattr(self.model.vocabulary, name)
            if token is not None:
                return token
        raise HarnessError(f"'{self.model.path}' names no token that begins or ends a text")


def _choice(settings: dict[str, Any]) -> Choose:
    """How tokens are chosen: the likeliest, or drawn as transformers draws them."""
    if not settings.pop("do_sample", False):
        return greedy
    from transformers.generation import logits_process as steps

    made: list[Any] = []
    for name, kind in {
        "repetition_penalty": steps.RepetitionPenaltyLogitsProcessor,
        "temperature": steps.TemperatureLogitsWarper,
        "top_k": steps.TopKLogitsWarper,
        "top_p": steps.TopPLogitsWarper,
        "min_p": steps.MinPLogitsWarper,
    }.items():
        if settings.get(name) is not None:
            made.append(kind(settings[name]))
    if other := sorted(set(settings) - set(PROCESSORS)):
        logger.warning("flips-gguf does not know how to write with %s", ", ".join(other))
    return partial(_drawn, made)


def _drawn(steps: Sequence[Any], logits: Tensor, before: Sequence[Sequence[int]]) -> list[int]:
    drawn = []
    for row, ids in zip(logits, before, strict=True):
        scores = row[None].clone()
        for step in steps:
            scores = step(torch.tensor([list(ids)]), scores)
        drawn.append(int(torch.multinomial(scores.softmax(-1), 1)))
    return drawn
