"""Text written by a GGUF model, some prompts at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from lm_eval_flips.scoring.llama_cpp.context import Context, Tokens
from lm_eval_flips.scoring.llama_cpp.model import LlamaModel

CALL = 1024  # tokens of prompts that are read in one call
Choose = Callable[[Tensor, Sequence[Sequence[int]]], Sequence[int]]


def greedy(logits: Tensor, _: Sequence[Sequence[int]]) -> list[int]:
    """The most likely token of each row, the first of equals."""
    chosen: list[int] = logits.argmax(-1).tolist()
    return chosen


@dataclass(slots=True)
class _Text:
    """A text that is being written, as the sequence ``sequence``."""

    sequence: int
    prompt: Sequence[int]
    stops: Sequence[str]
    longest: int
    written: list[int] = field(default_factory=list)
    text: str = ""
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is to be continued: token ids, where to stop, and the most tokens to write."""

    ids: Sequence[int]
    stops: Sequence[str]
    longest: int


class Writer:
    """Continues prompts.

    Args:
        model: the model.
        at_once: prompts that are continued at the same time.
    """

    def __init__(self, model: LlamaModel, *, at_once: int = 1) -> None:
        self._model, self._at_once = model, at_once
        self._context: Context | None = None

    def write(self, prompts: Sequence[Prompt], choose: Choose = greedy) -> Iterator[str]:
        """What the model writes behind each prompt, in order, up to a stop string or its end.

        Args:
            prompts: the prompts.
            choose: makes tokens of logits ``[texts, tokens]`` and of the ids before them.

        Raises:
            FlipsError: llama.cpp failed, or has not enough memory.
        """
        for low in range(0, len(prompts), self._at_once):
            yield from self._together(prompts[low : low + self._at_once], choose)

    def _together(self, prompts: Sequence[Prompt], choose: Choose) -> list[str]:
        context = self._prepared(sum(len(one.ids) + one.longest for one in prompts))
        texts = [
            _Text(sequence, one.ids, one.stops, one.longest) for sequence, one in enumerate(prompts)
        ]
        for text in texts:
            self._read(context, text, choose)
        while live := [text for text in texts if not text.finished]:
            places = [len(text.prompt) + len(text.written) - 1 for text in live]
            sequences = np.array([text.sequence for text in live])
            tokens = Tokens(
                ids=np.array([text.written[-1] for text in live]),
                positions=np.array(places),
                first=sequences,
                last=sequences + 1,
                wanted=np.ones(len(live), bool),
            )
            self._continue(live, context.decode(tokens).logits, choose)
        return [text.text for text in texts]

    def _read(self, context: Context, text: _Text, choose: Choose) -> None:
        """Read a prompt, and write the first token behind it."""
        ids = np.array(text.prompt)
        context.keep(ids[:-1], 0, text.sequence)
        last = Tokens(
            ids=ids[-1:],
            positions=np.array([len(ids) - 1]),
            first=np.array([text.sequence]),
            last=np.array([text.sequence + 1]),
            wanted=np.ones(1, bool),
        )
        self._continue([text], context.decode(last).logits, choose)

    def _continue(self, texts: Sequence[_Text], logits: Tensor, choose: Choose) -> None:
        before = [[*text.prompt, *text.written] for text in texts]
        for text, token in zip(texts, choose(logits, before), strict=True):
            if self._model.vocabulary.ends(token):
                text.finished = True
                continue
            text.written.append(token)
            text.text = self._model.vocabulary.decode(text.written)
            stopped = any(stop in text.text for stop in text.stops if stop)
            text.finished = stopped or len(text.written) >= text.longest

    def _prepared(self, cells: int) -> Context:
        context = self._context
        if context is None or context.cells < cells:
            if context is not None:
                context.close()
            self._context = context = Context(
                self._model, cells=cells, batch=CALL, sequences=self._at_once
            )
        context.clear()
        return context
